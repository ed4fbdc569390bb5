"""The HTML report of a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest
from caption_rows import Rows, Write
from html_reader import read_galleries, read_page, read_thumbnails
from PIL import Image
from report_blocks import find_blocks

from cutline.cli.main import run_command
from cutline.config import MetricConfig
from cutline.data import Sample, write_captions
from cutline.evaluation import Comparison, compare_captions, write_comparison_report
from cutline.evaluation.comparison_report import make_comparison_report
from cutline.metrics import METRIC_NAMES
from cutline.report import (
    About,
    Figures,
    Gallery,
    IntervalChart,
    Problems,
    Table,
    Text,
)

COLORS = ("red", "green", "blue", "gold")
KINDS = ("better", "worse", "same", "noise", "unknown")
"""of the images of the example, in turn: what `second` is, and with which captions"""
CAPTIONS = {
    "better": ("a cat", "a {color} box on a table"),
    "worse": ("a {color} box on a table", "a cat"),
    "same": ("a {color} box", "a {color} box"),
    "noise": ("a {color} box", "a table"),
    "unknown": ("a cat", "a {color} box"),
}
REFERENCES = (
    "a {color} box on a table",
    "the {color} box on a table",
    "a {color} box on the table",
)
NOISY = ("a {color} box", "a table", "an apple")
FAST = MetricConfig(resamples=30)


def make_example_comparison(folder: Path) -> Comparison:
    """Return a comparison of twenty drawn images with every kind of difference."""
    samples, rows = [], []
    for number in range(20):
        color, kind = COLORS[number % 4], KINDS[number % 5]
        path = folder / f"{number}.png"
        Image.new("RGB", (24, 16), color).save(path)
        references = NOISY if kind == "noise" else REFERENCES[: 1 if kind == "unknown" else 3]
        texts = tuple(text.format(color=color) for text in references)
        samples.append(Sample(str(path), texts, str(number)))
        captions = [text.format(color=color) for text in CAPTIONS[kind]]
        rows.append([{"image": str(path), "caption": caption} for caption in captions])
    files = [folder / "old.jsonl", folder / "new.jsonl"]
    for file, side in zip(files, zip(*rows, strict=True), strict=True):
        write_captions(file, side)
    return compare_captions(*files, samples, metrics=FAST)


def write_example_comparison(path: Path) -> None:
    """Write the report of a comparison with every kind of difference, and findings."""
    comparison = make_example_comparison(path.parent)
    comparison.left_out.append("new.jsonl: no caption for gone.png")
    others = {"First file": "old.jsonl", "Second file": "new.jsonl"}
    write_comparison_report(path, comparison, About("photos", others=others))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return make_example_comparison(tmp_path_factory.mktemp("images"))


def find_gallery(comparison: Comparison, num_images: int = 100) -> Gallery:
    [gallery] = find_blocks(
        make_comparison_report(comparison, About(), num_images), "Images", Gallery
    )
    return gallery


def test_the_page_begins_with_the_verdict(tmp_path: Path) -> None:
    write_example_comparison(tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    texts = "\n".join(page.texts)
    assert "Comparison of old and new on photos" in texts
    assert texts.index("Verdict") < texts.index("Findings") < texts.index("within noise")
    assert "new.jsonl: no caption for gone.png" in texts
    assert len(read_thumbnails(page)) == 20
    [gallery] = read_galleries(page)
    assert [gallery["tags"][index] for index in gallery["showTags"]] == [
        ["new better", "good"],
        ["old better", "bad"],
    ]


def test_the_verdict_is_shown_with_all_differences(comparison: Comparison) -> None:
    report = make_comparison_report(comparison, About())
    first, _ = find_blocks(report, "Verdict", Text)
    assert (first.text, first.is_lead) == (comparison.verdict, True)
    [chart] = find_blocks(report, "Verdict", IntervalChart)
    [table] = find_blocks(report, "Verdict", Table)
    for row, cells, (name, difference) in zip(
        chart.rows, table.rows, comparison.differences.items(), strict=True
    ):
        assert row.name == cells[0] == METRIC_NAMES[name]
        assert row.value * difference.first / 100 == pytest.approx(difference.value)
        assert row.low * difference.first / 100 == pytest.approx(difference.interval[0])
        assert cells[1:4] == [difference.first, difference.second, difference.value]
    assert table.signed == ("difference", "relative")


def test_only_significant_differences_have_a_color(comparison: Comparison) -> None:
    cider = comparison.differences["cider"]
    clear = replace(cider, first=0.5, second=0.7, interval=(0.1, 0.3), p_value=0.04)
    differences = {
        "bleu1": replace(clear, first=0.0),
        "bleu4": clear,
        "rouge_l": replace(clear, p_value=0.06),
        "cider": replace(clear, second=0.3, interval=(-0.3, -0.1)),
    }
    report = make_comparison_report(replace(comparison, differences=differences), About())
    [chart] = find_blocks(report, "Verdict", IntervalChart)
    assert {row.name: row.tone for row in chart.rows} == {
        "BLEU-4": "good",
        "ROUGE-L": "",
        "CIDEr": "bad",
    }
    [table] = find_blocks(report, "Verdict", Table)
    assert table.rows[0][5] is None
    assert "no significant difference in ROUGE-L" in find_blocks(report, "Verdict", Text)[0].text


def test_images_are_tagged_by_what_is_known_of_them(comparison: Comparison) -> None:
    gallery = find_gallery(comparison)
    expected = dict(
        zip(
            KINDS,
            (
                "new better",
                "old better",
                "same caption",
                "within noise",
                "too few references to tell",
            ),
            strict=True,
        )
    )
    assert [*gallery.tags] == [
        "new better",
        "old better",
        "within noise",
        "same caption",
        "too few references to tell",
    ]
    for card in gallery.cards:
        number = int(Path(card.name).stem)
        assert list(card.tags) == [expected[KINDS[number % 5]]]
    report = make_comparison_report(comparison, About())
    [figures] = find_blocks(report, "Images", Figures)
    assert [number for number, _ in figures.figures] == ["4"] * 5
    texts = " ".join(text.text for text in find_blocks(report, "Images", Text))
    assert "Of 12 images here, 8 are beyond noise" in texts
    assert "about 0.6 would be" in texts
    assert "fewer than three references" in texts


def test_cards_show_both_captions_and_the_difference(comparison: Comparison) -> None:
    gallery = find_gallery(comparison)
    assert gallery.columns[0].signed
    differences = [abs(card.numbers[0] or 0) for card in gallery.cards]
    assert differences == sorted(differences, reverse=True)
    images = {image.sample.name: image for image in comparison.images}
    for card in gallery.cards:
        image = images[card.name]
        assert card.numbers[0] == image.cider_difference
        assert card.numbers[1:] == [scores.cider for scores in image.scores]
        assert card.references == image.sample.captions
        assert ("95 % interval" in card.note) == (len(image.sample.captions) == 3)
        if image.captions[0] == image.captions[1]:
            assert [(line.text, line.label) for line in card.lines] == [(image.captions[0], "both")]
            continue
        assert [(line.text, line.label) for line in card.lines] == [
            (image.captions[0], "old"),
            (image.captions[1], "new"),
        ]
        assert [{kind for *_, kind in line.marks} for line in card.lines] == [
            {"removed"},
            {"added"},
        ]


def test_noise_is_not_called_an_improvement(comparison: Comparison) -> None:
    images = [image for image in comparison.images if not image.is_beyond_noise]
    noise = replace(comparison, images=images)
    gallery = find_gallery(noise)
    assert not {"new better", "old better"} & {tag for card in gallery.cards for tag in card.tags}
    report = make_comparison_report(noise, About())
    [figures] = find_blocks(report, "Images", Figures)
    assert figures.figures[:2] == [("0", "new better"), ("0", "old better")]
    assert all("better" not in section.heading for section in report.sections)


def test_a_part_of_the_images_has_those_beyond_noise(comparison: Comparison) -> None:
    gallery = find_gallery(comparison, 10)
    tags = [tag for card in gallery.cards for tag in card.tags]
    assert [tags.count("new better"), tags.count("old better"), len(tags)] == [4, 4, 10]
    fewer = find_gallery(comparison, 6)
    assert {tag for card in fewer.cards for tag in card.tags} == {"new better", "old better"}
    texts = find_blocks(make_comparison_report(comparison, About(), 10), "Images", Text)
    assert any("10 of 20 images" in text.text for text in texts)


def test_findings_are_left_out_if_there_are_none(comparison: Comparison) -> None:
    report = make_comparison_report(comparison, About())
    assert [section.heading for section in report.sections] == ["Verdict", "Images"]
    report = make_comparison_report(replace(comparison, num_uncaptioned=3), About())
    [block] = find_blocks(report, "Findings", Problems)
    assert [(problem.severity, problem.title[:8]) for problem in block.problems] == [
        ("note", "3 images")
    ]


def test_the_command_writes_what_was_compared(
    references: Path, rows: Rows, write: Write, tmp_path: Path
) -> None:
    first = write("a.jsonl", [{**row, "caption": "a dog"} for row in rows])
    second, report = write("b.jsonl", rows), tmp_path / "report.html"
    words = ["compare", first, second, "--references", references, "--report", report]
    words += ["--report-images", 7, "--resamples", 30, "--seed", 4]
    assert run_command([*map(str, words)]) == 0
    page = read_page(report)
    texts = "\n".join(page.texts)
    assert f"Comparison of a and b on {references}" in texts
    for text in (str(first), str(second), "seed\n4", "7 of 12 images"):
        assert text in texts
    assert len(read_galleries(page)[0]["cards"]) == 7
