"""The report of a calibration: figures, and captions with their wrong words."""

import random
from pathlib import Path

import pytest
from PIL import Image

from cutline.batching import Caption
from cutline.calibration import CalibrationResult, JudgedCaption, write_calibration_report
from cutline.calibration.report import make_calibration_report
from cutline.calibration.run import fit_calibration
from cutline.confidence import Word
from cutline.data import Sample
from cutline.report import About, Gallery, Problem, Problems

WORDS = ["a", "small", "red", "circle", "above", "two", "large", "green", "stars"]


def judge_caption(path: Path, number: int) -> JudgedCaption:
    """Make a caption of an image, with words that are right as often as their confidence says."""
    rng = random.Random(number)
    texts = rng.sample(WORDS, 3 + number % 4)
    ends = [len(" ".join(texts[: n + 1])) for n in range(len(texts))]
    words = tuple(
        Word(text, end - len(text), end, rng.uniform(0.6, 1))
        for text, end in zip(texts, ends, strict=True)
    )
    confidence = sum(word.confidence for word in words) / len(words)
    caption = Caption(" ".join(texts), -0.5, (1,), words=words, confidence=confidence)
    sample = Sample(str(path), ("the reference",), path.name)
    return JudgedCaption(sample, caption, tuple(rng.random() < each.confidence for each in words))


def make_result(folder: Path, count: int = 12) -> CalibrationResult:
    """Calibrate with captions of drawn images, one of which has been removed since."""
    judged = []
    for number in range(2 * count):
        path = folder / f"<{number:02}>.png"
        if number:
            Image.new("RGB", (48, 40), (200, 10 * number % 256, 90)).save(path)
        judged.append(judge_caption(path, number))
    skipped = ["broken.png: truncated; copy it again"]
    return fit_calibration(judged[count:], judged[:count], skipped=skipped)


def write_example_report(path: Path) -> None:
    """Write a report of a dozen drawn images."""
    about = About("photos/val.jsonl", "runs/my-run", settings={"num_beams": 3})
    write_calibration_report(path, make_result(path.parent), about)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CalibrationResult:
    return make_result(tmp_path_factory.mktemp("calibration"))


def find_gallery(result: CalibrationResult, num_images: int = 100) -> Gallery:
    """Return the gallery of the report."""
    gallery = make_calibration_report(result, About(), num_images).sections[-1].blocks[-1]
    assert isinstance(gallery, Gallery)
    return gallery


def test_wrong_words_are_marked(result: CalibrationResult) -> None:
    gallery = find_gallery(result)
    by_name = {judged.sample.name: judged for judged in result.tested}
    assert len(gallery.cards) == len(by_name) == 12
    for card in gallery.cards:
        judged = by_name[card.name]
        (line,) = card.lines
        words = zip(judged.caption.words, judged.is_right, strict=True)
        wrong = [word.text for word, is_right in words if not is_right]
        assert [line.text[start:end] for start, end, _ in line.marks] == wrong
        assert card.tags == ["wrong words" if wrong else "all words right"]
        confidence = result.calibration.caption.apply(judged.caption.confidence)
        assert card.numbers == [confidence, judged.right, confidence - judged.right]
        assert card.references == ("the reference",)
        assert card.file == card.image
    assert {tag for card in gallery.cards for tag in card.tags} == set(gallery.tags)


def test_half_of_the_captions_that_are_shown_have_wrong_words(result: CalibrationResult) -> None:
    num_right = sum(all(judged.is_right) for judged in result.tested)
    assert 0 < num_right < 6
    for count in range(1, 14):
        cards = find_gallery(result, count).cards
        assert len({card.name for card in cards}) == len(cards) == min(count, 12)
        shown = sum("all words right" in card.tags for card in cards)
        assert shown == min(num_right, count - count // 2)


def test_the_page_says_what_it_is_of(result: CalibrationResult, tmp_path: Path) -> None:
    report = make_calibration_report(result, About("photos", "runs/my-run"), 5)
    assert report.title == "Calibration of runs/my-run on photos"
    assert report.intro.startswith("Confidence of 12 captions")
    assert "5 of 12 captions" in str(report.sections[-1].blocks[0])
    problems = report.sections[0].blocks[1]
    assert isinstance(problems, Problems)
    (problem,) = problems.problems
    assert isinstance(problem, Problem)
    assert problem.title == "1 image is not used"
    assert problem.rows == [("", "broken.png: truncated; copy it again")]
    assert make_calibration_report(result, About()).title == "Calibration"
    write_example_report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/") == 11
    assert page.count("Reliability of") >= 2
