"""`LikelihoodRatio`: texts that are likelier given their image than given others."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from random_captioner import make_captioner, write_images

from cutline.captioner import Captioner
from cutline.config import InferencePrecision
from cutline.errors import ConfigError, ImageError
from cutline.image import ImageSource
from cutline.likelihood_ratio import LikelihoodRatio, RatioScores

TEXTS = ["red star", "blue circle above a red star", "two", "", "three green", "one left below"]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [str(path) for path in write_images(tmp_path_factory.mktemp("images"), 9)]


def score(
    ratio: LikelihoodRatio, inputs: Sequence[tuple[ImageSource, Sequence[str]]], batch_size: int = 4
) -> list[RatioScores]:
    results = list(ratio.stream(inputs, batch_size=batch_size))
    assert all(isinstance(result, RatioScores) for result in results)
    return [result for result in results if isinstance(result, RatioScores)]


def test_scores_are_those_of_the_formula(captioner: Captioner, images: list[str]) -> None:
    background = images[5:]
    inputs = [(image, TEXTS[number:]) for number, image in enumerate(images[:4])]
    results = score(LikelihoodRatio(captioner, background), inputs)
    assert [result.index for result in results] == [0, 1, 2, 3]
    for (image, texts), result in zip(inputs, results, strict=True):
        for text, value in zip(texts, result.ratio, strict=True):
            [own] = captioner.score(image, text)
            others = [captioner.score(other, text)[0].log_prob for other in background]
            mean = sum(math.exp(other - own.log_prob) for other in others) / len(others)
            assert value == pytest.approx(-math.log(mean), abs=1e-4)


def test_nothing_is_likelier_than_given_the_only_other_image(
    captioner: Captioner, images: list[str]
) -> None:
    [result] = score(LikelihoodRatio(captioner, images[:1]), [(images[0], TEXTS)])
    assert result.ratio == pytest.approx([0.0] * len(TEXTS), abs=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scores_do_not_depend_on_the_batch(
    images: list[str], precision: InferencePrecision
) -> None:
    """A run that goes on after a kill has other batches."""
    made = make_captioner()
    captioner = Captioner(made.model, made.tokenizer, "cpu", precision, "packed")
    ratio = LikelihoodRatio(captioner, images[6:], batch_size=2)
    inputs = [(image, TEXTS[number % 3 :]) for number, image in enumerate(images)]
    together = [result.ratio for result in score(ratio, inputs, 4)]
    alone = [score(ratio, [each], 1)[0].ratio for each in inputs]
    assert together == alone
    one_text = [score(ratio, [(image, [text])])[0].ratio[0] for image, (text, *_) in inputs]
    assert [row[0] for row in alone] == one_text


def test_long_texts_are_cut_at_the_positions(captioner: Captioner, images: list[str]) -> None:
    ratio = LikelihoodRatio(captioner, images[1:3])
    positions = captioner.config.text.max_positions
    long, longer = "red " * positions, "red " * (2 * positions)
    [result] = score(ratio, [(images[0], [long, longer])])
    assert result.ratio[0] == result.ratio[1]


def test_an_image_that_cannot_be_read_is_an_error(
    captioner: Captioner, images: list[str], tmp_path: Path
) -> None:
    gone = str(tmp_path / "gone.png")
    ratio = LikelihoodRatio(captioner, images[1:3])
    first, second = ratio.stream([(gone, TEXTS), (images[0], [])])
    assert isinstance(first, ImageError)
    assert first.index == 0
    assert second == RatioScores((), index=1)
    with pytest.raises(ImageError, match="no such image"):
        LikelihoodRatio(captioner, [gone])


def test_settings_and_backgrounds_are_checked(captioner: Captioner, images: list[str]) -> None:
    with pytest.raises(ConfigError, match="at least one"):
        LikelihoodRatio(captioner, [])
    ratio = LikelihoodRatio(captioner, images[:1])
    with pytest.raises(ConfigError, match="batch_size"):
        ratio.stream([], batch_size=0)
    with pytest.raises(ConfigError, match="a text must be a string"):
        list(ratio.stream([(images[0], [3])]))  # type: ignore[list-item]
    [result] = score(ratio, [(images[0], "one text, not letters")])
    assert len(result.ratio) == 1


def test_the_caller_keeps_gradients_between_results(
    captioner: Captioner, images: list[str]
) -> None:
    ratio = LikelihoodRatio(captioner, images[:1])
    for _ in ratio.stream([(image, TEXTS) for image in images]):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


def test_no_ratio_exceeds_the_logarithm_of_the_number_of_images_with_the_image_among_them(
    captioner: Captioner, images: list[str]
) -> None:
    inputs = [(image, [caption.text]) for image in images for caption in captioner.caption(images)]
    ratios = [result.ratio[0] for result in score(LikelihoodRatio(captioner, images), inputs)]
    assert max(ratios) == pytest.approx(math.log(len(images)), abs=0.1)
    assert max(ratios) <= math.log(len(images)) + 1e-4
