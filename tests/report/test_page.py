"""Reports escape all text and load nothing from elsewhere."""

from pathlib import Path

import pytest
from html_reader import RED_IMAGE, HtmlReader

from cutline.report import (
    Card,
    render_curve,
    render_gallery,
    render_key_figures,
    render_paragraph,
    render_table,
    write_report,
)

HOSTILE = '<script src="http://x/y.js">&amp;"\'</script><img src=//x onerror=alert(1)>{title}%s'


def write_hostile_report(path: Path) -> str:
    cards = [Card(RED_IMAGE, HOSTILE, HOSTILE, True), Card(RED_IMAGE, HOSTILE, correct=False)]
    parts = [
        render_curve([(1, 2.0), (2, 1.0)], HOSTILE, HOSTILE, HOSTILE),
        render_gallery(cards),
        render_table([(HOSTILE, 1)], (HOSTILE, HOSTILE)),
        render_key_figures([(HOSTILE, HOSTILE)]),
        render_paragraph(HOSTILE),
    ]
    write_report(path, HOSTILE, HOSTILE, [(HOSTILE, part) for part in parts])
    return path.read_text(encoding="utf-8")


def test_all_text_is_escaped_and_shown(tmp_path: Path) -> None:
    page = HtmlReader(write_hostile_report(tmp_path / "report.html"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    # page, headings, chart, cards, table, key figures, paragraph
    assert page.texts.count(HOSTILE) == 3 + 5 + 3 + 3 + 3 + 2 + 1
    assert [value for name, value in page.attributes if name == "alt"] == [HOSTILE] * 2


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    text = write_hostile_report(tmp_path / "report.html")
    page = HtmlReader(text)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "srcset", "style")
        if name == "src":
            assert value
            assert value.startswith("data:image/")
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = [value for name, value in page.attributes if value and "default-src" in value]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_report_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "report.html"
    write_report(path, "one", "", [])
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", None)
        with pytest.raises(TypeError):
            write_report(path, "two", "", [])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    write_report(path, "caf\udce9.png", "", [])  # a file name that is not UTF-8
    assert "caf\\udce9.png" in path.read_text(encoding="utf-8")
