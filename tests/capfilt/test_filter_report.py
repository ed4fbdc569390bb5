"""The report of filtered texts: noise by origin, thresholds, and images with their texts."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cutline.bulk.job import Result, TextSelection
from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.random_samples import RandomSamples
from cutline.bulk.run import CaptionRun, Listener
from cutline.capfilt.counts import count_texts
from cutline.capfilt.report import MAX_LINES, make_filter_report, write_filter_report
from cutline.config import FilterConfig
from cutline.data import Sample
from cutline.errors import ImageError
from cutline.report import About, Gallery, HistogramChart, Report, Table

CONFIG = FilterConfig(threshold=0.6)
NUM_IMAGES = 12


def select_texts(number: int) -> TextSelection:
    """Select texts of an image by random scores: those of the data, and synthetic ones."""
    rng = random.Random(number)
    texts = [
        {
            "caption": f"text {each} of {number}",
            "origin": "synthetic" if each % 2 else "web",
            "itm": round(rng.random(), 6),
            "itc": round(rng.uniform(-1, 1), 6),
        }
        for each in range(2 if number else MAX_LINES + 3)
    ]
    kept = tuple(text for text in texts if float(str(text["itm"])) >= CONFIG.minimum)
    return TextSelection(kept, tuple(text for text in texts if text not in kept))


def filter_all(samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
    """Filter the texts of samples, the last of which fails: an engine without a model."""
    for number, sample in enumerate(samples):
        is_last = number == NUM_IMAGES - 1
        error = ImageError(f"{sample.name}: truncated; copy it again")
        yield sample, error if is_last else select_texts(number)


def make_report(folder: Path, shown: int = 100) -> Report:
    """Filter texts of drawn images in a folder, and return the report."""
    samples = []
    for number in range(NUM_IMAGES):
        path = folder / f"images/{number:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 48), (20 * number, 90, 120)).save(path)
        samples.append(Sample(str(path), (), f"{number:03}.png"))
    chosen = RandomSamples(shown)
    with Manifest(folder / "state") as manifest:
        run = CaptionRun(manifest, Output(), listener=Listener(on_sample=chosen.add), selects=True)
        run.run(samples, filter_all)
        counts = count_texts(manifest.iter_records(True))
        about = About("web.jsonl", others={"Matcher": "runs/match"}, settings={"threshold": 0.6})
        path = str(folder / "report.html")
        write_filter_report(path, run, chosen, counts, CONFIG, about)
        return make_filter_report(run, chosen, counts, CONFIG, about)


def write_example_report(path: Path) -> None:
    """Write a report of a dozen drawn images."""
    make_report(path.parent)
    (path.parent / "report.html").rename(path)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return make_report(tmp_path_factory.mktemp("filter"))


def test_each_image_is_shown_once_with_all_its_texts(report: Report) -> None:
    gallery = report.sections[-1].blocks[-1]
    assert isinstance(gallery, Gallery)
    assert [card.name for card in gallery.cards] == [f"{n:03}.png" for n in range(11)]
    for number, card in enumerate(gallery.cards):
        selection = select_texts(number)
        texts = [*selection.kept, *selection.dropped]
        assert [line.text for line in card.lines] == [text["caption"] for text in texts[:MAX_LINES]]
        for line, text in zip(card.lines, texts, strict=False):
            fate = "kept" if text in selection.kept else "dropped"
            assert line.label.startswith(f"{fate} · {text['origin']} · match {text['itm']:.2f} · ")
            is_struck = list(line.marks) == [(0, len(line.text), "removed")]
            assert is_struck == (fate == "dropped")
        tag = "some dropped" if selection.kept else "all dropped"
        assert card.tags == [tag if selection.dropped else "all kept"]
        scores = [text["itm"] for text in texts]
        distance = min(abs(score - CONFIG.minimum) for score in scores)
        assert card.numbers == pytest.approx([max(scores), min(scores), distance])
    assert gallery.sort == ("from threshold", "lowest")
    assert gallery.cards[0].note == "and 3 more texts"
    assert set(gallery.tags) == {tag for card in gallery.cards for tag in card.tags}


def test_texts_are_counted_by_origin_and_the_threshold_is_drawn(report: Report) -> None:
    assert report.title == "Filtered texts of web.jsonl"
    assert report.intro == "A text is kept if its match is 0.6 or more."
    table = report.sections[0].blocks[1]
    assert isinstance(table, Table)
    texts = [text for n in range(11) for text in (*select_texts(n).kept, *select_texts(n).dropped)]
    for origin, total, kept, dropped, noise in table.rows:
        scores = [text["itm"] for text in texts if text["origin"] == origin]
        num_kept = sum(score >= CONFIG.minimum for score in scores)
        assert (total, kept, dropped) == (len(scores), num_kept, len(scores) - num_kept)
        assert noise == dropped / total
    (match, cosine) = report.sections[2].blocks
    assert isinstance(match, HistogramChart)
    assert isinstance(cosine, HistogramChart)
    assert match.limits == {"kept from 0.6": 0.6}
    assert cosine.limits == {}
    for chart in (match, cosine):
        assert sum(sum(counts.values()) for counts in chart.series.values()) == len(texts)


def test_failures_are_findings(report: Report) -> None:
    assert report.sections[1].heading == "Failures"
    assert "1 image cannot be read" in str(report.sections[1].blocks[0])


def test_the_page_says_how_many_images_it_shows(tmp_path: Path) -> None:
    make_report(tmp_path, shown=4)
    page = (tmp_path / "report.html").read_text()
    assert "of 11 images, chosen at random" in page
    assert page.count("data:image/") in (3, 4)  # the one that failed may be among the four
