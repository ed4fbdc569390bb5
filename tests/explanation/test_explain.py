"""`cutline.explain`: what it returns, whatever the images, captions and settings."""

import io
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from random_captioner import make_captioner

import cutline
from cutline.captioner import Captioner
from cutline.config import ExplainMethod
from cutline.errors import ConfigError, CutlineError, ImageError
from cutline.explanation import Explainer, Explanation, WordMap
from cutline.explanation.explanation import SMOOTHING, normalize_map

METHODS = get_args(ExplainMethod)


def assert_equal(first: Explanation, second: Explanation) -> None:
    assert (first.text, first.method) == (second.text, second.method)
    assert len(first.words) == len(second.words)
    for one, two in zip(first.words, second.words, strict=True):
        assert (one.text, one.start, one.end) == (two.text, two.start, two.end)
        assert one.image_size == two.image_size
        np.testing.assert_allclose(one.map, two.map, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_word_has_a_map_of_shares(captioner: Captioner, method: Any) -> None:
    image = Image.effect_noise((50, 30), 90).convert("RGB")
    explanation = cutline.explain(captioner, image, "a red circle above two", method=method)
    assert explanation.method == method
    assert explanation.text == "a red circle above two"
    assert [word.text for word in explanation.words] == explanation.text.split()
    for word in explanation.words:
        assert explanation.text[word.start : word.end] == word.text
        assert (word.map.shape, word.map.dtype) == ((2, 2), np.float32)
        assert word.map.min() >= 0
        pixels = word.upsample()
        assert (pixels.shape, pixels.dtype) == ((30, 50), np.float32)
        assert word.upsample((7, 5)).shape == (7, 5)
        for each in (word.map, pixels):
            assert each.sum() == pytest.approx(1, abs=1e-4) or not each.any()
    if method == "attention":
        assert all(word.map.all() for word in explanation.words)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prompt", [None, "", "a circle "])
def test_a_given_caption_is_explained_like_a_generated_one(
    captioner: Captioner, images: list[Image.Image], method: Any, prompt: str | None
) -> None:
    kwargs: dict[str, Any] = {"method": method, "prompt": prompt}
    chosen = find_settings(captioner, images[0], prompt)
    generated = cutline.explain(captioner, images[0], **kwargs, **chosen)
    assert len(generated.words) >= 2
    assert_equal(generated, cutline.explain(captioner, images[0], generated.text, **kwargs))


def find_settings(captioner: Captioner, image: Image.Image, prompt: str | None) -> dict[str, Any]:
    """Return settings of a caption whose text has the tokens that were generated.

    Those of random weights are mostly other ones, such as "s", "t", "##ar" for "star".
    """
    tokenizer = captioner.tokenizer
    prompt = captioner.config.prompt if prompt is None else prompt
    length = len(tokenizer.encode_prompt(prompt))
    for seed in range(100):
        chosen = {"sample": True, "seed": seed, "min_length": length, "max_length": length + 3}
        [caption] = captioner.caption(image, prompt, **chosen)  # type: ignore[arg-type]
        token_ids = tokenizer.encode(caption.text).token_ids[1:-1]
        if token_ids == list(caption.token_ids) and " " in caption.text:
            return chosen
    raise AssertionError("no such seed")


def test_settings_of_generation_are_used(captioner: Captioner, images: list[Image.Image]) -> None:
    settings: Any = {"sample": True, "seed": 5, "max_length": 12, "num_captions": 2}
    expected = [caption.text for caption in captioner.caption(images, **settings)]
    explained = cutline.explain(captioner, images, method="attention", **settings)
    assert [each.text for each in explained] == expected
    with pytest.raises(ConfigError, match="num_beam"):
        cutline.explain(captioner, images, num_beam=3)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="seed is for generated captions"):
        cutline.explain(captioner, images, "a star", seed=3)


def test_any_kind_of_image_has_the_same_maps(
    captioner: Captioner, images: list[Image.Image], tmp_path: Path
) -> None:
    image = images[0]
    image.save(tmp_path / "image.png")
    data = io.BytesIO()
    image.save(data, "PNG")
    array = np.asarray(image)
    expected = cutline.explain(captioner, image, "a star")
    for source in (tmp_path / "image.png", str(tmp_path / "image.png"), data.getvalue(), array):
        assert_equal(cutline.explain(captioner, source, "a star"), expected)
    for several in ([image, image], np.stack([array, array])):
        both: Any = cutline.explain(captioner, several, "a star", batch_size=1)
        assert len(both) == 2
        assert_equal(both[1], expected)
    assert cutline.explain(captioner, [], "a star") == []


def test_text_is_what_the_captioner_reads(captioner: Captioner) -> None:
    image = Image.new("RGB", (9, 9))
    explanation = cutline.explain(captioner, image, "  A RED   circle!", method="attention")
    assert explanation.text == "a red circle"
    assert [word.text for word in explanation.words] == ["a", "red", "circle"]


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ("?!", "the caption '\\?!' has no words to explain"),
        ("a red собака", "the model's vocabulary lacks 'собака'; use other words"),
        (["狗 star"], "the model's vocabulary lacks '狗'"),
        ("a " * 60, "longer than the model's 48 positions"),
        (["a", "a"], "there are 2 captions for 1 images"),
    ],
)
def test_captions_that_cannot_be_explained(
    captioner: Captioner, captions: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        cutline.explain(captioner, [Image.new("RGB", (9, 9))], captions)


def test_a_generated_caption_without_words_has_no_maps() -> None:
    """A captioner whose first token is always [SEP]."""
    captioner = make_captioner()
    with torch.no_grad():
        captioner.model.text.lm_head.bias[captioner.tokenizer.sep_id] = 1e4
    for method in METHODS:
        images = [Image.new("RGB", (9, 9))] * 2
        for explanation in cutline.explain(captioner, images, method=method, min_length=1):
            assert (explanation.text, explanation.words) == ("", ())


@pytest.mark.parametrize("captions", [None, "a star", ["a star", "a", "two red", "left"]])
def test_unreadable_images(
    captioner: Captioner, images: list[Image.Image], captions: str | list[str] | None
) -> None:
    sources = [images[0], "missing.png", images[1], images[2]]
    with pytest.raises(ImageError, match=r"missing\.png"):
        cutline.explain(captioner, sources, captions)
    config = cutline.config.ExplainConfig()
    results = list(Explainer(captioner, config, batch_size=3).stream(sources, captions))
    assert [isinstance(each, CutlineError) for each in results] == [False, True, False, False]
    readable = [captions[0], *captions[2:]] if isinstance(captions, list) else captions
    expected = cutline.explain(captioner, images, readable)
    for result, other in zip((results[0], *results[2:]), expected, strict=True):
        assert not isinstance(result, CutlineError)
        assert_equal(result.explanation, other)


@settings(max_examples=50, derandomize=True)
@given(st.lists(st.floats(-2, 2, width=32), min_size=9, max_size=9))
def test_maps_are_shares_of_what_is_positive(values: list[float]) -> None:
    heat = normalize_map(torch.tensor(values))
    positive = np.maximum(values, 0).reshape(3, 3)
    total = positive.sum()
    np.testing.assert_allclose(heat, positive / total if total > 0 else 0, rtol=1e-5, atol=1e-30)


def test_maps_are_stretched_to_the_image() -> None:
    heat = np.array([[0, 1], [0, 0]], dtype=np.float32)  # above, on the right
    pixels = WordMap("a", 0, 1, heat, (10, 40)).upsample()
    assert pixels.sum() == pytest.approx(1)
    assert pixels[2, 29] == pytest.approx(pixels[2, 30]) == pixels.max()
    # a Gaussian around the middle of the patch, as wide as the image is squeezed
    deviations = [(size / 2) * SMOOTHING for size in (10, 40)]
    distances = [np.arange(size) + 0.5 - at * size for size, at in ((10, 0.25), (40, 0.75))]
    rows, columns = (
        np.exp(-((x / s) ** 2) / 2) for x, s in zip(distances, deviations, strict=True)
    )
    expected = np.outer(rows, columns)
    np.testing.assert_allclose(pixels, expected / expected.sum(), rtol=1e-4)
