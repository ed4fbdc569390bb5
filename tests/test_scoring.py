"""Scores of given captions: batches, perplexity and ranks."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_folder import GoldenFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from random_captioner import draw_images, make_captioner
from torch.nn.functional import log_softmax

import cutline
from cutline.captioner import Captioner
from cutline.image import open_image, to_pixels
from cutline.scoring import MAX_ROWS

IMAGES = draw_images(5)
TEXTS = ["a red circle", "two", "the left star above one two three", "a", "green", "", "one two"]
quick = settings(max_examples=25, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module")
def bf16() -> Captioner:
    made = make_captioner()
    return Captioner(copy.deepcopy(made.model), made.tokenizer, "cpu", "bf16", "packed")


def score_naively(
    captioner: Captioner, image: Image.Image, text: str, prompt: str = "a picture of "
) -> list[float]:
    """Return the log-probability of each token, from the logits of each beginning of the text."""
    pixels = to_pixels(open_image(image), captioner.config.vision.image_size)
    tokens, prompt_length = captioner.tokenizer.encode(text, prompt, 48)
    found = []
    with torch.inference_mode():
        embeds = captioner.encode_images(pixels[None])
        for end in range(prompt_length, len(tokens)):
            hidden = captioner.model.text(torch.tensor([tokens[:end]]), None, embeds)
            logits = captioner.model.text.compute_logits(hidden[0, -1]).float()
            found.append(float(log_softmax(logits, -1)[tokens[end]]))
    return found


def score_pairs(
    captioner: Captioner, pairs: list[tuple[int, str]], **arguments: Any
) -> list[cutline.CaptionScore]:
    images, texts = [IMAGES[number] for number, _ in pairs], [text for _, text in pairs]
    return captioner.score(images, texts, **arguments)


pairs_of = st.lists(
    st.tuples(st.integers(0, len(IMAGES) - 1), st.sampled_from(TEXTS)), min_size=1, max_size=20
)


@quick
@given(pairs_of, st.integers(1, 6))
def test_scores_of_pairs_are_those_of_each_alone(
    captioner: Captioner, pairs: list[tuple[int, str]], batch_size: int
) -> None:
    """Images are repeated in any order, and have any numbers of captions."""
    found = score_pairs(captioner, pairs, batch_size=batch_size)
    for (number, text), score in zip(pairs, found, strict=True):
        expected = score_naively(captioner, IMAGES[number], text)
        assert score.token_log_probs == pytest.approx(expected, abs=1e-5)
        assert score.log_prob == pytest.approx(sum(expected), abs=1e-5)


@quick
@given(pairs_of, st.integers(1, 6))
def test_bf16_scores_do_not_depend_on_the_batch(
    bf16: Captioner, pairs: list[tuple[int, str]], batch_size: int
) -> None:
    found = score_pairs(bf16, pairs, batch_size=batch_size)
    assert found == [score_pairs(bf16, [pair])[0] for pair in pairs]


def test_an_image_that_is_given_several_times_is_encoded_once(
    captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    encode = captioner.encode_images
    monkeypatch.setattr(
        captioner, "encode_images", lambda pixels: batches.append(len(pixels)) or encode(pixels)
    )
    paths = [str(tmp_path / f"{number}.png") for number in range(len(IMAGES))]
    for image, path in zip(IMAGES, paths, strict=True):
        image.save(path)
    listed = [path for path in paths for _ in range(3)]
    captioner.score(listed, TEXTS[:3] * len(IMAGES), batch_size=2)
    assert batches == [2, 2, 1]
    batches.clear()
    captioner.score(listed[::-1] + listed, TEXTS[:3] * 2 * len(IMAGES))
    assert batches == [5]
    batches.clear()
    captioner.score(paths[0], TEXTS)
    assert batches == [1]


def test_many_captions_of_an_image_are_scored_in_parts(captioner: Captioner) -> None:
    texts = [TEXTS[number % len(TEXTS)] for number in range(2 * MAX_ROWS + 3)]
    scores = captioner.score(IMAGES[0], texts)
    first = captioner.score(IMAGES[0], TEXTS)
    for number, score in enumerate(scores):
        assert score.log_prob == pytest.approx(first[number % len(TEXTS)].log_prob, abs=1e-5)


def test_golden_sums_of_the_loss(golden_folder: GoldenFolder) -> None:
    """Log-likelihoods are the negative sums of BLIP's loss without its smoothing."""
    golden = golden_folder
    captioner = cutline.load(
        golden.checkpoint, "cpu", "fp32", config=golden.config, tokenizer=golden.vocabulary
    )
    captioner.model.config = replace(captioner.config, label_smoothing=0.0)
    names = ("pixel_values", "input_ids", "attention_mask", "labels")
    inputs = [golden.tensors[name] for name in names]
    with torch.no_grad():
        losses = captioner.model(*inputs, reduction="none").loss
    tokens = [row[row != -100].tolist() for row in inputs[3]]
    texts = [captioner.tokenizer.decode(row[:-1]) for row in tokens]
    scores = captioner.score(golden.images, texts)
    same = [list(score.token_ids) == row for score, row in zip(scores, tokens, strict=True)]
    assert sum(same) > len(same) / 2  # not all texts are encoded to the tokens of the labels
    for is_same, score, loss in zip(same, scores, losses.tolist(), strict=True):
        assert score.log_prob == pytest.approx(-loss, rel=1e-5) or not is_same


def test_perplexity_is_per_token(captioner: Captioner) -> None:
    for score in captioner.score(IMAGES[0], TEXTS):
        mean = sum(score.token_log_probs) / len(score.token_ids)
        assert score.perplexity == pytest.approx(math.exp(-mean))
        assert score.perplexity >= 1
    assert cutline.CaptionScore(-1e6, (-1e6,), (3,)).perplexity == math.inf


def test_captions_are_ranked_best_first(captioner: Captioner) -> None:
    texts = [*TEXTS, "TWO", "two"]  # the tokens of one of them
    scores = captioner.score(IMAGES[0], texts)
    ranked = captioner.rank(IMAGES[0], texts)
    assert sorted(caption.index for caption in ranked) == list(range(len(texts)))
    for caption in ranked:
        assert (caption.text, caption.score) == (texts[caption.index], scores[caption.index])
    sums = [caption.score.log_prob for caption in ranked]
    assert sums == sorted(sums, reverse=True)
    by_perplexity = captioner.rank(IMAGES[0], texts, by="perplexity")
    values = [caption.score.perplexity for caption in by_perplexity]
    assert values == sorted(values)
    assert by_perplexity != ranked
    twos = [caption.index for caption in ranked if caption.text.lower() == "two"]
    assert twos == [1, len(TEXTS), len(TEXTS) + 1]
    assert captioner.rank(IMAGES[0], []) == []
    with pytest.raises(cutline.ConfigError, match="by 'length' is not one of log_prob, perplexity"):
        captioner.rank(IMAGES[0], texts, by="length")  # type: ignore[arg-type]


def test_prompts_are_not_scored(captioner: Captioner) -> None:
    for prompt in ("", "the", "a red circle"):
        [score] = captioner.score(IMAGES[0], "two star", prompt)
        expected = score_naively(captioner, IMAGES[0], "two star", prompt)
        assert score.token_log_probs == pytest.approx(expected, abs=1e-5)


def test_an_image_that_cannot_be_read_is_named(captioner: Captioner, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.png")
    with pytest.raises(cutline.ImageError, match=r"gone\.png"):
        captioner.score([IMAGES[0], gone], ["a", "two"])
    with pytest.raises(cutline.ImageError, match=r"gone\.png"):
        captioner.rank(gone, ["a", "two"])


@pytest.mark.parametrize(
    ("images", "texts", "arguments", "message"),
    [
        (IMAGES[:2], ["a", "b", "c"], {}, "2 images and 3 captions"),
        (IMAGES[:2], "a", {}, "2 images and 1 captions"),
        ([], "a", {}, "0 images and 1 captions"),
        (IMAGES[0], "a " * 60, {}, "longer than the model's 48 positions"),
        (IMAGES[0], ["a", 3], {}, "a text must be a string, not 3"),
        (IMAGES[0], "a", {"prompt": 3}, "a prompt must be a string, not 3"),
        (IMAGES[0], "a", {"batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_invalid_inputs_are_errors(
    captioner: Captioner, images: Any, texts: Any, arguments: Any, message: str
) -> None:
    with pytest.raises(cutline.ConfigError, match=message):
        captioner.score(images, texts, **arguments)


def test_the_caller_keeps_gradients(captioner: Captioner) -> None:
    captioner.score(IMAGES, TEXTS[:5], batch_size=2)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
