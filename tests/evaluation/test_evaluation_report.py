"""The HTML report of an evaluation."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from caption_rows import Rows, Write
from html_reader import read_galleries, read_page, read_thumbnails
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from report_blocks import find_blocks

from cutline.batching import Caption
from cutline.cli.main import run_command
from cutline.config import MetricConfig
from cutline.data import Sample
from cutline.data.coco import UnnamedImage
from cutline.evaluation import Evaluation, make_score_rows, write_evaluation_report
from cutline.evaluation.evaluation import make_evaluation
from cutline.evaluation.evaluation_report import make_evaluation_report
from cutline.evaluation.evaluation_tables import MAX_GROUPS, make_group_table
from cutline.evaluation.image_cards import make_image_card, select_ranked
from cutline.evaluation.measurement import measure_captions
from cutline.report import (
    About,
    Figures,
    Gallery,
    HistogramChart,
    Problems,
    Report,
    Table,
    Text,
)

COLORS = ("red", "green", "blue", "gold")
SHAPES = ("square", "box", "tile", "wall", "flag")
MESSAGES = {"skipped": "gone.png: no such file", "left_out": "captions.jsonl: x has no references"}


def make_example_evaluation(folder: Path, **messages: list[str]) -> Evaluation:
    """Return an evaluation of twenty drawn images: most captions are right, some repeat."""
    captioned = []
    for number in range(20):
        color, shape = COLORS[number % 4], SHAPES[number % 5]
        path = folder / f"{number}.png"
        Image.new("RGB", (24, 16), color).save(path)
        references = (f"a photo of a {color} {shape}", f"this photo has a {color} {shape} in it")
        domain, group = ("near", "far")[number % 2], f"scene {number % 3}"
        text = f"a {color} {shape}" if number % 3 else "a red square"
        caption = Caption(text if number else "", -1.0, (), confidence=number / 20)
        sample = Sample(str(path), references, str(number), domain=domain, group=group)
        captioned.append((sample, caption))
    measured = measure_captions(captioned, MetricConfig(resamples=20), ["a red square"])
    return make_evaluation(
        captioned, measured, messages.get("skipped", []), messages.get("left_out", [])
    )


def write_example_report(path: Path) -> None:
    """Write the report of an evaluation with findings, domains and groups."""
    messages = {kind: [message] for kind, message in MESSAGES.items()}
    evaluation = make_example_evaluation(path.parent, **messages)
    write_evaluation_report(path, evaluation, About("photos", "runs/my-run"))


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return make_example_evaluation(tmp_path_factory.mktemp("images"))


def list_headings(report: Report) -> list[str]:
    return [section.heading for section in report.sections]


def find_gallery(report: Report) -> Gallery:
    [gallery] = find_blocks(report, "Images", Gallery)
    return gallery


def test_the_title_and_the_page_say_what_was_evaluated(tmp_path: Path) -> None:
    write_example_report(tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    texts = "\n".join(page.texts)
    assert "Evaluation of runs/my-run on photos" in texts
    for text in ("CIDEr", "BLEU-1", "ROUGE-L", "distinct words", *MESSAGES.values()):
        assert text in texts
    for name in ("bleu1", "rouge_l", "num_pictures", "distinct1", "mean_length"):
        assert name not in texts
    assert [image and image.size for image in read_thumbnails(page)] == [(24, 16)] * 20
    [gallery] = read_galleries(page)
    assert gallery["sort"] == [0, "lowest"]
    assert {card["link"] for card in gallery["cards"]} == {f"{n}.png" for n in range(20)}


def test_findings_come_first_if_there_are_any(evaluation: Evaluation) -> None:
    assert list_headings(make_evaluation_report(evaluation, About()))[0] == "Findings"
    measured = [image for image in evaluation.images if image.caption.text]
    clean = replace(evaluation, images=measured)
    headings = list_headings(make_evaluation_report(clean, About()))
    assert headings == ["Scores and lengths", "Domains", "Groups", "Words", "Images"]
    unclean = replace(clean, skipped=["one", "two"] * 500, left_out=["three"])
    [block] = find_blocks(make_evaluation_report(unclean, About()), "Findings", Problems)
    skipped, left_out = block.problems
    assert "1,000" in skipped.title
    assert len(skipped.rows) + skipped.num_omitted == 1000
    assert left_out.rows == [("", "three")]


def test_all_scores_are_shown_with_intervals_and_quantiles(evaluation: Evaluation) -> None:
    report = make_evaluation_report(evaluation, About())
    [table] = find_blocks(report, "Scores and lengths", Table)
    rows = {row[0]: row[1:] for row in table.rows}
    for row in make_score_rows(evaluation)[:-1]:
        assert rows[row[0]][:2] == row[1:]
    assert [*rows["CIDEr"][2:]] == [*evaluation.quantiles["cider"]]
    assert table.header[3:] == ["5 %", "25 %", "median", "75 %", "95 %"]
    bare = replace(evaluation, intervals={})
    [table] = find_blocks(make_evaluation_report(bare, About()), "Scores and lengths", Table)
    assert len(table.header) == len(table.rows[0]) == 7
    assert "--resamples" in table.caption
    [figures] = find_blocks(report, "Scores and lengths", Figures)
    assert figures.figures[0] == (f"{evaluation.scores.cider:.3f}", "CIDEr")
    assert figures.figures[-1] == ("20", "images")


def test_score_rows_are_those_of_the_scores(evaluation: Evaluation) -> None:
    rows = make_score_rows(evaluation)
    assert [row[1] for row in rows] == [*evaluation.scores.to_dict().values()]
    assert rows[0][0] == "BLEU-1"
    assert rows[-1] == ["images", 20, ""]
    assert all(len(row) == 2 for row in make_score_rows(replace(evaluation, intervals={})))


def test_histograms_count_all_images_and_texts(evaluation: Evaluation) -> None:
    charts = find_blocks(
        make_evaluation_report(evaluation, About()), "Scores and lengths", HistogramChart
    )
    *scores, lengths = charts
    assert [chart.x_label for chart in scores] == ["CIDEr", "ROUGE-L", "confidence"]
    values = [image.scores.cider for image in evaluation.images]
    for chart in scores:
        assert sum(chart.series["images"].values()) == 20
    counts = scores[0].series["images"]
    mean = sum((number + 0.5) * count for number, count in counts.items()) * scores[0].unit / 20
    assert mean == pytest.approx(sum(values) / 20, abs=scores[0].unit / 2)
    assert scores[0].limits["mean"] == pytest.approx(evaluation.scores.cider)
    assert len(counts) > 2
    assert lengths.series == {
        "captions": evaluation.caption_lengths.counts,
        "references": evaluation.reference_lengths.counts,
    }


def test_domains_and_groups_have_tables_of_their_own(evaluation: Evaluation) -> None:
    report = make_evaluation_report(evaluation, About())
    for heading, groups in (("Domains", evaluation.domains), ("Groups", evaluation.groups)):
        [table] = find_blocks(report, heading, Table)
        *rows, total = table.rows
        assert total[:2] == ["all images", 20]
        assert {row[0]: row[1] for row in rows} == {
            name: scores.num_images for name, scores in groups.items()
        }
        ciders = [row[table.header.index("CIDEr")] for row in rows]
        assert ciders == sorted(scores.cider for scores in groups.values())
    many = {f"scene {n}": replace(evaluation.scores, cider=float(n)) for n in range(MAX_GROUPS + 9)}
    table = make_group_table("group", many, evaluation.scores)
    assert [row[0] for row in table.rows[-2:]] == [f"scene {MAX_GROUPS - 1}", "all images"]
    assert f"of {MAX_GROUPS + 9} with the lowest CIDEr" in table.caption


def test_words_are_listed_that_captions_use_more_or_less_often(evaluation: Evaluation) -> None:
    report = make_evaluation_report(evaluation, About())
    [under, repeated] = find_blocks(report, "Words", Table)
    usage = evaluation.word_usage.underused[0]
    assert under.rows[0] == [usage.word, usage.captions, usage.references, usage.z]
    assert under.cells[0][3].text.startswith("−")
    assert not evaluation.word_usage.overused
    assert repeated.rows[0] == ("a red square", 6)
    [figures] = find_blocks(report, "Words", Figures)
    labels = {label: number for number, label in figures.figures}
    assert labels["distinct words"] == str(evaluation.diversity.vocabulary)
    novel = evaluation.diversity.novel
    assert novel is not None
    assert labels["of the captions are not in the training data"] == f"{100 * novel:.1f} %"


def test_images_have_references_numbers_and_tags(evaluation: Evaluation) -> None:
    gallery = find_gallery(make_evaluation_report(evaluation, About()))
    assert [column.name for column in gallery.columns] == ["CIDEr", "ROUGE-L", "confidence"]
    for card, image in zip(gallery.cards, evaluation.images, strict=True):
        assert [line.text for line in card.lines] == [image.caption.text]
        assert card.references == image.sample.captions
        assert card.numbers == [
            image.scores.cider,
            image.scores.rouge_l,
            image.caption.confidence,
        ]
        assert image.sample.domain in card.tags
        assert image.sample.group in card.note
    counts = {tag: sum(tag in card.tags for card in gallery.cards) for tag in gallery.tags}
    assert counts == {"empty caption": 1, "repeated caption": 6, "near": 10, "far": 10}


def test_given_captions_have_no_confidence(evaluation: Evaluation) -> None:
    given_caption = Caption("a dog", math.nan, (), confidence=math.nan)
    images = [replace(image, caption=given_caption) for image in evaluation.images]
    report = make_evaluation_report(replace(evaluation, images=images), About())
    assert [column.name for column in find_gallery(report).columns] == ["CIDEr", "ROUGE-L"]
    charts = find_blocks(report, "Scores and lengths", HistogramChart)
    assert [chart.x_label for chart in charts] == ["CIDEr", "ROUGE-L", "words"]


def test_a_part_of_the_images_contains_the_best_and_the_worst(evaluation: Evaluation) -> None:
    report = make_evaluation_report(evaluation, About(), 8)
    ciders = sorted(image.scores.cider for image in evaluation.images)
    shown = sorted(card.numbers[0] or 0 for card in find_gallery(report).cards)
    assert len(shown) == 8
    assert shown[:2] == ciders[:2]
    assert shown[-2:] == ciders[-2:]
    [text] = find_blocks(report, "Images", Text)
    assert text.text.startswith("8 of 20 images")


@given(st.lists(st.floats(-9, 9), max_size=60), st.integers(0, 70))
def test_values_are_selected_over_the_whole_range(values: list[float], number: int) -> None:
    selected = select_ranked(values, number)
    assert len(set(selected)) == len(selected) == min(number, len(values))
    ranked = sorted(values)
    chosen = [values[index] for index in selected]
    assert chosen == sorted(chosen)
    quarter = min(number, len(values)) // 4
    assert chosen[:quarter] == ranked[:quarter]
    assert chosen[len(chosen) - quarter :] == ranked[len(ranked) - quarter :]


def test_the_values_between_are_spread_evenly() -> None:
    values = Random(0).sample(range(1000), 1000)
    middle = [values[index] for index in select_ranked(values, 100)][25:75]
    assert [b - a for a, b in pairwise(middle)] == [19] * 49


@pytest.mark.parametrize(
    ("image", "url", "file", "is_here"),
    [
        ("/gone/1.png", "", "", False),
        ("/gone/1.png", "https://x.org/1.png", "https://x.org/1.png", False),
        ("https://x.org/2.png", "", "https://x.org/2.png", False),
        (UnnamedImage("3"), "", "", False),
        (b"PNG", "", "", True),
    ],
)
def test_images_need_not_be_there(image: Any, url: str, file: str, is_here: bool) -> None:
    card = make_image_card(Sample(image, ("a dog",), "1", url=url), [], [], [])
    assert (card.file, card.image is not None) == (file, is_here)


def run_evaluate(data: Path, *arguments: object) -> int:
    return run_command(["evaluate", str(data), *map(str, arguments)])


def test_the_command_writes_what_was_measured(
    references: Path, rows: Rows, write: Write, tmp_path: Path
) -> None:
    captions, report = write("captions.jsonl", rows), tmp_path / "report.html"
    arguments: Sequence[object] = ("--captions", captions, "--resamples", 30, "--report", report)
    assert run_evaluate(references, *arguments, "--report-images", 5) == 0
    page = read_page(report)
    texts = "\n".join(page.texts)
    assert f"Evaluation of {captions} on {references}" in texts
    assert "resamples\n30" in texts
    assert "5 of 12 images" in texts
    assert len(read_galleries(page)[0]["cards"]) == len(read_thumbnails(page)) == 5


def test_the_number_of_images_is_refused_without_a_report(
    references: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_evaluate(references, "--captions", "gone.jsonl", "--report-images", 5) == 2
    assert "name one with --report" in capsys.readouterr().err
