"""Pages escape all text, load nothing, and are written whole or not at all."""

import base64
import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from html_reader import (
    RED_IMAGE,
    HtmlReader,
    read_card_texts,
    read_galleries,
    read_page,
    read_thumbnails,
)

from cutline.report import (
    About,
    Card,
    Column,
    Figures,
    Gallery,
    Line,
    LineChart,
    Problem,
    Problems,
    Report,
    Section,
    Series,
    Table,
    Text,
    describe_sources,
    flatten_settings,
    format_command,
    is_report,
    read_refresh,
    write_report,
)

HOSTILE = '<script src="http://x/y.js">&amp;"\'</script><img src=//x onerror=alert(1)>{{7*7}}%s'
DATE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def make_hostile_report() -> Report:
    about = About(HOSTILE, HOSTILE, {HOSTILE: HOSTILE}, {HOSTILE: HOSTILE}, HOSTILE, DATE)
    card = Card(
        RED_IMAGE, [Line(HOSTILE, HOSTILE)], HOSTILE, "", [HOSTILE], [1.0], [HOSTILE], HOSTILE
    )
    blocks = [
        Text(HOSTILE),
        Figures([(HOSTILE, HOSTILE)]),
        Table([(HOSTILE, 1)], (HOSTILE, HOSTILE), caption=HOSTILE),
        LineChart(HOSTILE, [Series(HOSTILE, [(1, 2.0), (2, 1.0)])] * 2, HOSTILE, HOSTILE),
        Problems([Problem("error", HOSTILE, HOSTILE, [(HOSTILE, HOSTILE)], [RED_IMAGE], HOSTILE)]),
        Gallery([card], [Column(HOSTILE)], {HOSTILE: "bad"}, noun=HOSTILE),
    ]
    return Report(HOSTILE, about, [Section(HOSTILE, blocks)], HOSTILE)


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> HtmlReader:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, make_hostile_report())
    return read_page(path)


def test_all_text_is_escaped_and_shown(hostile_page: HtmlReader) -> None:
    """The tags are those of the templates alone."""
    scripts = hostile_page.tags.count("script")
    assert scripts == 1 + 1 + 2  # of the page, its thumbnails, a chart and a gallery
    assert hostile_page.tags.count("img") == 1
    texts = "\n".join(hostile_page.texts)
    # title twice, intro, data, model, facts, command, setting; navigation, heading; text, figure,
    # table, chart with legend, problem
    assert texts.count(HOSTILE) == 2 + 1 + 1 + 1 + 2 + 1 + 2 + 2 + 1 + 2 + 4 + 5 + 4
    [gallery] = read_galleries(hostile_page)
    assert read_card_texts(gallery) == [HOSTILE]
    assert gallery["tags"] == [[HOSTILE, "bad"]]
    assert gallery["cards"][0]["references"] == [HOSTILE]


def test_nothing_is_loaded_from_elsewhere(hostile_page: HtmlReader) -> None:
    assert not {"link", "iframe", "object", "base", "form"} & set(hostile_page.tags)
    for name, value in hostile_page.attributes:
        assert not name.startswith("on")
        assert name not in ("srcset", "style", "src")
        assert name != "href" or (value or "").startswith("#")


def test_the_policy_allows_exactly_the_script_and_the_style_of_the_page(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", Report("", About(), []))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    for tag in ("style", "script"):
        content = text.rpartition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy
        assert "url(" not in content
        assert "@import" not in content
    assert policy.startswith("default-src &#39;none&#39;; img-src data:;")


def test_control_characters_and_surrogates_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    name = "caf\udce9\x1b[31m.png"
    cards = [Card(None, [Line(name)], name)]
    write_report(path, Report(name, About(), [Section("", [Gallery(cards), Text(name)])]))
    page = read_page(path)
    assert "caf\\udce9\\x1b[31m.png" in page.texts
    assert read_galleries(page)[0]["cards"][0]["name"] == name


def test_report_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "report.html"
    write_report(path, Report("one", About(), []))
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", None)
        with pytest.raises(TypeError):
            write_report(path, Report("two", About(), []))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_links_lead_from_the_page_to_the_file(tmp_path: Path) -> None:
    """Links are relative to the page, percent-encoded; addresses are links, buckets are not."""
    image = tmp_path / "photos" / "a b#1?.png"
    image.parent.mkdir()
    RED_IMAGE.save(image)
    files = [str(image), "https://example.org/a.png", "s3://bucket/a.png", ""]
    cards = [Card(None, [Line("")], file=file) for file in files]
    path = tmp_path / "reports" / "report.html"
    write_report(path, Report("", About(), [Section("", [Gallery(cards)])]))
    links = [card.get("link", "") for card in read_galleries(read_page(path))[0]["cards"]]
    assert links == ["../photos/a%20b%231%3F.png", "https://example.org/a.png", "", ""]


def test_an_image_of_several_cards_is_stored_once(tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    RED_IMAGE.save(image)
    cards = [Card(str(image), [Line("one")]), Card(RED_IMAGE, []), Card("gone.png", [])]
    blocks = [
        Problems([Problem("note", "", "", images=[str(image), RED_IMAGE])]),
        Gallery(cards),
        Gallery(cards[:1]),
    ]
    path = tmp_path / "report.html"
    write_report(path, Report("", About(), [Section("", blocks)]))
    page = read_page(path)
    thumbnails = read_thumbnails(page)
    assert len(thumbnails) == 3
    for thumbnail in thumbnails[:2]:
        assert thumbnail is not None
        assert thumbnail.convert("RGB").tobytes() == RED_IMAGE.tobytes()
    assert thumbnails[2] is None  # which cannot be read
    first, second = read_galleries(page)
    assert [card["image"] for card in first["cards"]] == [0, 1, 2]
    assert [card["image"] for card in second["cards"]] == [0]


def test_about_says_what_the_report_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ["/bin/cutline", "evaluate", "my photos", "https://me:secret@example.org/a.jsonl"]
    monkeypatch.setattr("sys.argv", argv)
    about = About("https://me:secret@example.org/a.jsonl", "runs/my-run", date=DATE)
    assert about.command == "cutline evaluate 'my photos' https://…@example.org/a.jsonl".replace(
        "https://…@example.org/a.jsonl", "'https://…@example.org/a.jsonl'"
    )
    assert about.facts["Data"] == "https://…@example.org/a.jsonl"
    assert about.facts["Model"] == "runs/my-run"
    assert about.facts["Date"] == "2026-01-02 03:04 UTC"
    assert about.facts["Version"].startswith("cutline ")
    monkeypatch.setattr("sys.argv", ["/x/ipykernel_launcher.py", "-f", "kernel.json"])
    assert About().command == ""
    assert "Model" not in About().facts


def test_settings_that_were_changed_come_first() -> None:
    settings = {"a": None, "b": True, "c": ["x", "y"], "d": 1e-5, "e": "https://me:word@host/x"}
    about = About(settings=settings, changed=["e", "c"])
    assert list(about.shown_settings.items()) == [
        *[("c", "x, y"), ("e", "https://…@host/x")],
        *[("a", "–"), ("b", "yes"), ("d", "1e-05")],
    ]


def test_a_page_tells_whether_it_is_a_report_and_loads_itself(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert read_refresh(path) == 0
    for refresh in (0, 2.5):
        write_report(path, Report("", About(), [], refresh=refresh))
        assert is_report(path)
        assert read_refresh(path) == refresh
    path.write_text("<p>another page")
    assert not is_report(path)
    assert read_refresh(path) == 0


def test_commands_and_names_of_many_files_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell makes them of `photos/*.jpg`."""
    files = [f"photos/{number}.jpg" for number in range(5000)]
    monkeypatch.setattr("sys.argv", ["cutline/__main__.py", "caption", *files, "-o", "out.csv"])
    words = About().command.split()
    assert words[:3] == ["cutline", "caption", "photos/0.jpg"]
    assert words[-2:] == ["-o", "out.csv"]
    assert len(words) < 70
    assert " … (4,943 more) … " in About().command
    assert describe_sources(files) == "photos/0.jpg, photos/1.jpg, photos/2.jpg and 4,997 more"
    assert describe_sources(["a", "https://me:secret@b.org"]) == "a and https://…@b.org"
    assert describe_sources([]) == ""


def test_settings_have_dotted_names() -> None:
    nested = {"a": 1, "b": {"c": (1, 2), "d": {"e": ""}}}
    assert flatten_settings(nested) == {"a": 1, "b.c": (1, 2), "b.d.e": ""}


def test_passwords_in_addresses_are_hidden(tmp_path: Path) -> None:
    """Also where a report names images and errors; links to them keep the rest."""
    path, address = tmp_path / "report.html", "https://user:secret@host/a.jpg?x=%20"
    message = f"{address}: cannot be read"
    card = Card(None, [Line("a dog")], address, address, note=message)
    blocks = [Gallery([card]), Problems([Problem("error", "", "", [(address, message)])])]
    about = About(address, address, {"": message}, {"": address}, format_command(["a", address]))
    write_report(path, Report(address, about, [Section("", blocks)], message))
    assert "secret" not in path.read_text()
    [shown] = read_galleries(read_page(path))[0]["cards"]
    assert shown["name"] == "https://…@host/a.jpg?x=%20"
    assert shown["link"] == "https://host/a.jpg?x=%20"


def test_an_image_that_no_file_can_be_has_no_link(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    card = Card("\ud800.jpg", [Line("a dog \ud800")], "\ud800.jpg", "\ud800.jpg")
    write_report(path, Report("", About(), [Section("", [Gallery([card])])]))
    page = read_page(path)
    [shown] = read_galleries(page)[0]["cards"]
    assert shown == {"image": 0, "lines": [["", [["a dog \ud800", ""]]]], "name": "\ud800.jpg"}
    assert read_thumbnails(page) == [None]
