"""The HTML report of a comparison."""

from pathlib import Path

import pytest
from caption_rows import Rows, Write
from PIL import Image

from cutline.config import MetricConfig
from cutline.data import Sample
from cutline.evaluation import compare_captions, comparison_report, write_comparison_report
from cutline.report import Card

WRONG = "a dog"
FAST = MetricConfig(resamples=20)


def test_report_shows_the_largest_differences_both_ways(
    references: Path, rows: Rows, write: Write, tmp_path: Path
) -> None:
    worse = [{**row, "caption": WRONG} for row in rows]
    first = write("first.jsonl", worse[:5] + rows[5:])
    second = write("second.jsonl", rows[:9] + worse[9:])
    comparison = compare_captions(first, second, references, metrics=FAST)
    write_comparison_report(tmp_path / "report.html", comparison)
    page = (tmp_path / "report.html").read_text()
    gains, losses = page.index("Where second is better"), page.index("Where first is better")
    assert page[gains:losses].count("data:image") == 5
    assert page[losses:].count("data:image") == 3
    assert comparison.verdict in page
    write_comparison_report(tmp_path / "report.html", comparison, num_examples=2)
    assert (tmp_path / "report.html").read_text().count("data:image") == 4


def test_report_does_not_need_the_images(write: Write, tmp_path: Path) -> None:
    samples = [Sample("/far/1.jpg", ("a dog",), "1"), Sample("/far/2.jpg", ("a red dog",), "2")]
    images = ["/far/1.jpg", "/far/2.jpg"]
    first = write("a.jsonl", [{"image": image, "caption": "two cats"} for image in images])
    second = write(
        "b.jsonl", [{"image": image, "caption": f"a dog {n}"} for n, image in enumerate(images, 1)]
    )
    comparison = compare_captions(first, second, samples, metrics=FAST)
    write_comparison_report(tmp_path / "report.html", comparison)
    page = (tmp_path / "report.html").read_text()
    assert "data:image" not in page
    assert "b: a dog 1" in page


def test_report_contains_small_images_only(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (1200, 900)).save(tmp_path / "1.png")
    samples = [
        Sample(str(tmp_path / "1.png"), ("a dog",), "1"),
        Sample("/far/2.jpg", ("a red dog",), "2"),
    ]
    first = write("a.jsonl", [{"image": sample.image, "caption": "two cats"} for sample in samples])
    second = write(
        "b.jsonl", [{"image": sample.image, "caption": sample.captions[0]} for sample in samples]
    )
    sizes: list[tuple[int, int]] = []

    def record_sizes(cards: list[Card]) -> str:
        sizes.extend(card.image.size for card in cards if isinstance(card.image, Image.Image))
        return ""

    monkeypatch.setattr(comparison_report, "render_gallery", record_sizes)
    comparison = compare_captions(first, second, samples, metrics=FAST)
    write_comparison_report(tmp_path / "report.html", comparison)
    assert sizes == [(384, 288)]
