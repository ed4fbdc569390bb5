"""The report of a captioned collection: figures, failures by kind, and images chosen at random."""

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cutline.batching import Caption
from cutline.bulk.failures import MAX_LISTED, make_failure_problems
from cutline.bulk.job import Result
from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.random_samples import RandomSamples, shrink_image
from cutline.bulk.record import Failure
from cutline.bulk.report import (
    MIN_WORD_CONFIDENCE,
    make_collection_report,
    write_collection_report,
)
from cutline.bulk.run import CaptionRun, Listener
from cutline.confidence import Word
from cutline.config import OutputConfig
from cutline.data import Sample
from cutline.errors import CutlineError, DataError, ImageError
from cutline.report import About, Figures, Gallery, HistogramChart, Problems, Report
from cutline.report.thumbnails import MAX_BYTES

WORDS = ["a", "small", "red", "circle", "above", "two", "large", "green", "stars"]
NUM_FAILED = 3
SIZE = (48, 40)


def make_caption(number: int, num_captions: int = 1) -> Caption:
    """Make a caption of some words, each with a confidence, and its alternatives."""
    rng = random.Random(number)
    captions = []
    for _ in range(num_captions):
        texts = rng.sample(WORDS, 3 + number % 4)
        ends = [len(" ".join(texts[: n + 1])) for n in range(len(texts))]
        words = tuple(
            Word(text, end - len(text), end, rng.random())
            for text, end in zip(texts, ends, strict=True)
        )
        confidence, score = rng.random(), -2 * rng.random()
        captions.append(Caption(" ".join(texts), score, (1,), words=words, confidence=confidence))
    best = captions[0]
    alternatives = tuple(captions)
    return Caption(
        best.text,
        best.score,
        (1,),
        alternatives=alternatives,
        words=best.words,
        confidence=best.confidence,
    )


def caption_all(samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
    """Caption samples, but for the first few: an engine without a model."""
    for number, sample in enumerate(samples):
        if number < NUM_FAILED:
            yield sample, ImageError(f"{sample.name}: truncated; copy it again")
        else:
            yield sample, make_caption(number, 3)


def make_report(folder: Path, num_images: int = 12, shown: int = 12, **outputs: object) -> Report:
    """Caption drawn images in a folder, and return the report."""
    samples: list[Sample | CutlineError] = [DataError("rows.csv, line 3: no image; correct it")]
    for number in range(num_images):
        path = folder / f"images/<{number:03}>.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE, (20 * number % 256, 120, 90)).save(path)
        samples.append(Sample(str(path), ("what was there",), f"<{number:03}>.png"))
    chosen = RandomSamples(shown, shrink_image)
    settings = OutputConfig(**outputs)  # type: ignore[arg-type]
    with Manifest(folder / "state") as manifest:
        listener = Listener(on_sample=chosen.add)
        run = CaptionRun(manifest, Output(), output_config=settings, listener=listener)
        run.run(samples, caption_all)
        about = About("photos", "runs/my-run", settings={"num_beams": 3, "sample": False})
        write_collection_report(folder / "report.html", run, chosen, about)
        return make_collection_report(run, chosen, about)


def write_example_report(path: Path) -> None:
    """Write a report of a dozen drawn images."""
    make_report(path.parent, words=True, min_confidence=0.4)
    (path.parent / "report.html").rename(path)


def find_gallery(report: Report) -> Gallery:
    """Return the gallery of a report."""
    blocks = [block for section in report.sections for block in section.blocks]
    (gallery,) = [block for block in blocks if isinstance(block, Gallery)]
    return gallery


def test_each_image_is_shown_with_its_captions(tmp_path: Path) -> None:
    report = make_report(tmp_path, words=True, min_confidence=0.4)
    gallery = find_gallery(report)
    assert [column.name for column in gallery.columns] == ["confidence", "score", "words"]
    assert [card.name for card in gallery.cards] == [f"<{n:03}>.png" for n in range(3, 12)]
    for number, card in enumerate(gallery.cards, NUM_FAILED):
        caption = make_caption(number, 3)
        assert [line.text for line in card.lines] == [each.text for each in caption.alternatives]
        assert card.numbers == pytest.approx(
            [caption.confidence, caption.score, len(caption.words)], abs=1e-5
        )
        tags = ["accepted" if caption.confidence >= 0.4 else "not accepted"]
        for line, each in zip(card.lines, caption.alternatives, strict=True):
            unsure = [word.text for word in each.words if word.confidence < MIN_WORD_CONFIDENCE]
            assert [line.text[start:end] for start, end, _ in line.marks] == unsure
        assert card.tags == tags + ["unsure words"] * bool(card.lines[0].marks)
        assert card.references == ("what was there",)
        assert Path(card.file).is_file()
    assert len({tag for card in gallery.cards for tag in card.tags}) == 3


def test_figures_and_histograms_count_all_captions(tmp_path: Path) -> None:
    report = make_report(tmp_path, shown=2)
    assert report.title == "Captions of photos"
    (figures,) = report.sections[0].blocks
    assert isinstance(figures, Figures)
    captions = [make_caption(number, 3) for number in range(NUM_FAILED, 12)]
    labels = {label: number for number, label in figures.figures}
    assert (labels["captions"], labels["failed"]) == ("9", "4")
    mean = sum(len(caption.words) for caption in captions) / 9
    assert labels["words per caption"] == f"{mean:.1f}"
    assert labels["mean confidence"] == f"{sum(each.confidence for each in captions) / 9:.2f}"
    charts = [block for block in report.sections[2].blocks if isinstance(block, HistogramChart)]
    assert [chart.title for chart in charts] == ["Words per caption", "Confidence", "Score"]
    assert all(sum(chart.series["captions"].values()) == 9 for chart in charts)
    assert len(find_gallery(report).cards) <= 2
    assert "of 9 images, chosen at random" in (tmp_path / "report.html").read_text()


def test_failures_are_counted_by_kind() -> None:
    failures = [Failure(f"{n}.jpg", "image", f"photos/{n}.jpg: truncated") for n in range(700)]
    failures += [
        Failure("x.csv", "data", "x.csv: empty"),
        Failure("b", "output", "the disk is full"),
    ]
    random.Random(0).shuffle(failures)
    problems = make_failure_problems(failures)
    titles = [problem.title for problem in problems.problems]
    assert titles[0] == "700 images cannot be read"
    assert sorted(titles[1:]) == ["1 part of the data cannot be used", "1 result cannot be written"]
    first = problems.problems[0]
    assert (len(first.rows), first.num_omitted) == (MAX_LISTED, 700 - MAX_LISTED)
    assert list(first.rows) == sorted(first.rows)
    rows = [row for problem in problems.problems[1:] for row in problem.rows]
    assert sorted(rows) == [("b", "the disk is full"), ("x.csv", "empty")]
    assert make_failure_problems([]) == Problems([])


def test_failures_of_all_kinds_have_advice() -> None:
    for kind in ("image", "data", "prompt", "caption", "output"):
        (problem,) = make_failure_problems([Failure("a", kind, "a: wrong")]).problems
        assert problem.title.startswith("1 ")
        assert problem.advice.endswith(".")
        assert problem.rows == [("a", "wrong")]


def test_bytes_of_samples_become_small_images() -> None:
    """Those of streamed shards would else fill the memory."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 700, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    chosen = RandomSamples(3, shrink_image)
    for number in range(8):
        chosen.add(Sample(file.getvalue(), (), str(number)))
    chosen.add(Sample("a.png", (), "path"))
    for sample in chosen:
        if sample.image == "a.png":
            continue
        assert isinstance(sample.image, bytes)
        assert 0 < len(sample.image) <= MAX_BYTES
        with Image.open(io.BytesIO(sample.image)) as image:
            assert image.width < image.height < 400
    assert shrink_image(Sample(b"no image", (), "0")).image == b""
