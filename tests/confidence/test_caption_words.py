"""Words of captions, and the confidence of the model in them."""

import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_captioner import draw_images, make_captioner

import cutline
from cutline.captioner import Captioner
from cutline.confidence import Calibration, measure_words, sum_log_probs
from cutline.confidence.words import combine_log_probs
from cutline.metrics import PlattScaling

IMAGES = draw_images(4)
SETTINGS: list[dict[str, Any]] = [
    {"num_beams": 1},
    {"num_beams": 4, "num_captions": 4},
    {"num_beams": 3, "num_captions": 2, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    {"num_beams": 3, "num_captions": 2, "bad_words": ("a",), "beam_scoring": "huggingface"},
    {"sample": True, "num_captions": 3, "temperature": 2.0},
]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


def list_words(caption: cutline.Caption) -> list[tuple[str, int, int]]:
    return [(word.text, word.start, word.end) for word in caption.words]


def list_confidences(caption: cutline.Caption) -> list[float]:
    return [caption.confidence, *(word.confidence for word in caption.words)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_words_of_every_caption_are_those_of_its_text(
    captioner: Captioner, settings: dict[str, Any]
) -> None:
    """And their confidence comes from the model's probabilities, before any penalties."""
    tokenizer = captioner.tokenizer
    for caption in captioner.caption(IMAGES, token_log_probs=True, **settings):
        assert caption.alternatives[0].words == caption.words
        for each in caption.alternatives:
            assert bool(each.words) == any(map(str.isalnum, each.text))
            if not each.words:
                continue
            for word in each.words:
                assert each.text[word.start : word.end] == word.text
                assert 0 <= word.confidence <= 1
            _, spans = tokenizer.decode_words(each.token_ids)
            own = [math.exp(value) for value in sum_log_probs(spans, each.token_log_probs)]
            total = math.prod(own)
            assert each.confidence == pytest.approx(total)
            for word, value in zip(each.words, own, strict=True):
                odds = math.sqrt(value / (1 - value) * total / (1 - total))
                assert word.confidence == pytest.approx(odds / (1 + odds), rel=1e-3)
            tokens = [token for span in spans for token in span.tokens]
            if sorted(tokens) == list(range(len(each.token_ids))):  # no [UNK] between words
                used = each.token_log_probs[: len(each.token_ids)]
                assert total == pytest.approx(math.exp(sum(used)), rel=1e-3)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_words_do_not_depend_on_the_batch_or_the_scheduler(
    captioner: Captioner, settings: dict[str, Any]
) -> None:
    batched = captioner.caption(IMAGES, "the", **settings)
    with cutline.CaptionScheduler(captioner, batch_size=3) as scheduler:
        requests = [scheduler.submit(image, "the", **settings) for image in IMAGES]
        scheduled = [request.result(60) for request in requests]
    single = [captioner.caption(image, "the", **settings)[0] for image in IMAGES]
    for captions in (scheduled, single):
        for caption, expected in zip(captions, batched, strict=True):
            for each, other in zip(caption.alternatives, expected.alternatives, strict=True):
                assert list_words(each) == list_words(other)
                assert list_confidences(each) == pytest.approx(list_confidences(other), abs=1e-4)


def test_the_prompt_is_not_among_the_words(captioner: Captioner) -> None:
    tokenizer = captioner.tokenizer
    [caption] = captioner.caption(IMAGES[0], "a picture of a red", num_beams=1)
    text, spans = tokenizer.decode_words(caption.token_ids)
    assert text == caption.text
    assert [(start, end) for start, end, _ in spans] == [
        (word.start, word.end) for word in caption.words
    ]
    assert "picture" not in [word.text for word in caption.words]


def test_words_survive_pickling_and_do_not_decide_about_equality(captioner: Captioner) -> None:
    [caption] = captioner.caption(IMAGES[0], num_captions=2)
    copied = pickle.loads(pickle.dumps(caption))
    assert copied == caption
    assert (copied.words, copied.confidence) == (caption.words, caption.confidence)
    assert [each.words for each in copied.alternatives] == [
        each.words for each in caption.alternatives
    ]
    other = cutline.Caption(caption.text, caption.score, caption.token_ids)
    assert other == caption
    assert (other.words, other.confidence) == ((), 0.0)


def test_a_calibration_changes_confidence_alone(captioner: Captioner) -> None:
    """And can be set and removed between calls, which reuse the batch."""
    plain = captioner.caption(IMAGES, num_captions=2)
    scaling = Calibration(word=PlattScaling(0.5, 1.0), caption=PlattScaling(2.0, -0.5))
    captioner.calibration = scaling
    try:
        calibrated = captioner.caption(IMAGES, num_captions=2)
        with cutline.CaptionScheduler(captioner) as scheduler:
            scheduled = scheduler.submit(IMAGES[0], num_captions=2).result(60)
        copied = pickle.loads(pickle.dumps(captioner))
        assert copied.calibration == scaling
    finally:
        captioner.calibration = None
    assert calibrated == plain
    for caption, before in zip(calibrated, plain, strict=True):
        for each, other in zip(caption.alternatives, before.alternatives, strict=True):
            assert list_words(each) == list_words(other)
            assert [word.confidence for word in each.words] == pytest.approx(
                [scaling.word.apply(word.confidence) for word in other.words]
            )
            assert each.confidence == pytest.approx(scaling.caption.apply(other.confidence))
    assert list_confidences(scheduled) == pytest.approx(list_confidences(calibrated[0]), abs=1e-4)
    again = captioner.caption(IMAGES, num_captions=2)
    assert [each.confidence for each in again] == [each.confidence for each in plain]


def test_a_caption_without_words_has_no_confidence() -> None:
    assert measure_words("", [], [-1.0]) == ((), 0.0)
    assert Calibration(caption=PlattScaling(1, 5)).scale((), 0.0) == ((), 0.0)


@given(st.floats(-2000, 0), st.floats(-2000, 0))
def test_two_probabilities_are_combined_to_one_between_them(first: float, second: float) -> None:
    combined = combine_log_probs(first, second)
    low, high = sorted((math.exp(first), math.exp(second)))
    assert low - 1e-6 <= combined <= high + 1e-6
    assert combine_log_probs(second, first) == combined
    assert combine_log_probs(first, first) == pytest.approx(math.exp(first), abs=1e-6)
