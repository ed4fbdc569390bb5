"""Whether the difference of two captions on one image is more than the noise of its references."""

import math
from statistics import fmean, stdev

import pytest
from caption_rows import Write

from cutline.config import MetricConfig
from cutline.data import Sample
from cutline.evaluation import ComparedImage, compare_captions

REFERENCES = (
    ("a red dog runs fast", "a red dog runs on grass", "the red dog runs", "a red dog on grass"),
    ("two cats sleep", "two cats on a bed", "cats sleep on a bed", "three birds"),
    ("a man on a horse", "the horse of a man"),
    ("a boat at sea", "a white boat", "boats", "a boat"),
)
FIRST = ("a blue bird", "two cats", "a man", "a boat")
SECOND = ("a red dog runs", "birds", "a man on a horse", "A boat.")


def compare(
    write: Write,
    first: tuple[str, ...],
    second: tuple[str, ...],
    references: tuple[tuple[str, ...], ...] = REFERENCES,
) -> list[ComparedImage]:
    files = [
        write(name, [{"image": f"{n}.png", "caption": text} for n, text in enumerate(captions)])
        for name, captions in (("first.jsonl", first), ("second.jsonl", second))
    ]
    samples = [Sample(f"{n}.png", texts, str(n)) for n, texts in enumerate(references)]
    return compare_captions(*files, samples, metrics=MetricConfig(resamples=1)).images


def test_interval_is_that_of_the_differences_by_reference(write: Write) -> None:
    images = compare(write, FIRST, SECOND)
    for image, references in zip(images, REFERENCES, strict=True):
        differences = image.reference_differences
        assert len(differences) == len(references)
        assert fmean(differences) == pytest.approx(image.cider_difference)
    for image in images[:2]:
        differences = image.reference_differences
        margin = 3.182446 * stdev(differences) / math.sqrt(4)
        expected = fmean(differences) - margin, fmean(differences) + margin
        assert image.difference_interval == pytest.approx(expected, abs=1e-5)
    # Of image 0 all references are alike, of image 1 one reference speaks of something else.
    assert [image.is_beyond_noise for image in images] == [True, False, None, False]


def test_sign_follows_the_order_of_the_files(write: Write) -> None:
    images, swapped = compare(write, FIRST, SECOND), compare(write, SECOND, FIRST)
    for one, other in zip(images, swapped, strict=True):
        assert one.reference_differences == tuple(-value for value in other.reference_differences)
        assert one.is_beyond_noise == other.is_beyond_noise


def test_identical_captions_do_not_differ(write: Write) -> None:
    for image in compare(write, FIRST, FIRST):
        assert set(image.reference_differences) == {0}
        assert image.is_beyond_noise is False


def test_difference_by_rounding_is_not_beyond_noise(write: Write) -> None:
    """Sums in another order differ by rounding, here in the same way for every reference."""
    references = ("grass cat red",) * 3
    others = (("a man on the beach",), ("a red car",), ("the dog and a man", "a dog"))
    captions = ("a red the cat", *"xyz"), ("red the cat a", *"xyz")
    image = compare(write, *captions, (references, *others))[0]
    assert max(map(abs, image.reference_differences)) < 1e-12
    assert image.is_beyond_noise is False
