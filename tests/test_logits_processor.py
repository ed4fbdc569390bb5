"""Logits processors of users, in a captioner and in a scheduler."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from random_captioner import draw_images, make_captioner
from torch import Tensor

import cutline
from cutline.captioner import Captioner
from cutline.generation.logits_processors import MinLength

IMAGES = draw_images(6)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"num_beams": 5, "num_captions": 2, "repetition_penalty": 1.5},
    {"num_beams": 1},
    {"sample": True, "num_captions": 3, "top_k": 20},
]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


def texts(caption: cutline.Caption) -> list[str]:
    return [each.text for each in caption.alternatives]


def boost(token: int, by: float) -> cutline.LogitsProcessor:
    """Return a processor that adds a number to the score of a token."""

    def add(input_ids: Tensor, scores: Tensor) -> Tensor:
        scores[:, token] += by
        return scores

    return add


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_token_that_is_forbidden_is_never_generated(
    captioner: Captioner, settings: dict[str, Any]
) -> None:
    prompts = ["", "a red", "two", "the left star", "a", ""]
    plain = captioner.caption(IMAGES, prompts, **settings)
    [[token]] = captioner.tokenizer.encode_bad_words(["two"])
    expected = captioner.caption(IMAGES, prompts, bad_words=("two",), **settings)
    found = captioner.caption(IMAGES, prompts, logits_processor=boost(token, -math.inf), **settings)
    assert list(map(texts, found)) == list(map(texts, expected)) != list(map(texts, plain))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_input_ids_are_start_prompt_and_caption_without_padding(
    captioner: Captioner, settings: dict[str, Any]
) -> None:
    prompts = ["", "a red circle", "two", "a red", "the left", "star"]
    allowed = [tuple(captioner.tokenizer.encode_prompt(prompt)) for prompt in prompts]
    end, lengths = captioner.tokenizer.sep_id, set()

    def look(input_ids: Tensor, scores: Tensor) -> Tensor:
        assert (input_ids.dtype, scores.dtype) == (torch.int64, torch.float32)
        assert scores.shape == (len(input_ids), captioner.config.text.vocab_size)
        is_log_prob = torch.allclose(scores.logsumexp(-1), torch.zeros(len(scores)), atol=1e-4)
        searches_beams = not settings.get("sample") and settings.get("num_beams") != 1
        if "repetition_penalty" not in settings:
            assert is_log_prob == searches_beams or scores.isinf().any()
        for row in input_ids.tolist():
            assert any(tuple(row[: len(prompt)]) == prompt for prompt in allowed)
            assert end not in row
        lengths.add(input_ids.shape[1])
        return scores

    plain = captioner.caption(IMAGES, prompts, **settings)
    found = captioner.caption(IMAGES, prompts, logits_processor=look, **settings)
    assert list(map(texts, found)) == list(map(texts, plain))
    assert lengths == set(range(1, max(lengths) + 1))


def test_requests_with_other_processors_do_not_influence_each_other(captioner: Captioner) -> None:
    processors = [None, boost(9, 4.0), [boost(12, 3.0), boost(9, -math.inf)], boost(20, 9.0)]
    with cutline.CaptionScheduler(captioner, batch_size=5) as scheduler:
        cases = [
            (image, settings, processor)
            for image in IMAGES[:2]
            for settings in SETTINGS
            for processor in processors
        ]
        requests = [
            scheduler.submit(image, logits_processor=processor, **settings)
            for image, settings, processor in cases
        ]
        found = [texts(request.result(60)) for request in requests]
    expected = [
        texts(captioner.caption(image, logits_processor=processor, **settings)[0])
        for image, settings, processor in cases
    ]
    assert found == expected
    assert len(set(map(tuple, found))) > 2 * len(SETTINGS)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_processors_of_the_package_are_called_as_others(
    captioner: Captioner, settings: dict[str, Any]
) -> None:
    longer = MinLength(16, captioner.tokenizer.sep_id)
    found = captioner.caption(IMAGES, logits_processor=longer, **settings)
    wrapped = captioner.caption(
        IMAGES, logits_processor=lambda ids, scores: longer(ids, scores), **settings
    )
    assert list(map(texts, found)) == list(map(texts, wrapped))
    assert all(len(each.token_ids) >= 14 for caption in found for each in caption.alternatives)


def test_processors_run_in_order_after_the_settings(captioner: Captioner) -> None:
    """Limits of the settings can be lifted."""
    end = captioner.tokenizer.sep_id

    def end_at_once(input_ids: Tensor, scores: Tensor) -> Tensor:
        return torch.full_like(scores, -math.inf).index_fill_(1, torch.tensor([end]), 0.0)

    undo = boost(end, -math.inf)
    for settings in SETTINGS:
        [caption] = captioner.caption(
            IMAGES[0], min_length=9, logits_processor=[undo, end_at_once], **settings
        )
        assert caption.text == ""
        with pytest.raises(cutline.GenerationError, match="forbid every token"):
            captioner.caption(IMAGES[0], logits_processor=[end_at_once, undo], **settings)


def raise_error(*_: Tensor) -> Tensor:
    raise IndexError("index 9 is out of range")


BROKEN: list[tuple[Callable[..., Any], str]] = [
    (lambda ids, scores: None, "returned NoneType, not a tensor"),
    (lambda ids, scores: scores[:, :4], r"returned scores of shape \(\d+, 4\), not \(\d+, \d+\)"),
    (lambda ids, scores: ids.new_zeros(scores.shape), "returned torch.int64, not scores"),
    (lambda ids, scores: scores * math.nan, "returned NaN"),
    (raise_error, r"failed \(IndexError: index 9 is out of range\)"),
]


@pytest.mark.parametrize(("broken", "message"), BROKEN)
def test_what_a_broken_processor_does_is_the_error_of_its_requests(
    captioner: Captioner, broken: Callable[..., Any], message: str
) -> None:
    name = broken.__qualname__.replace("<", "[<]").replace(">", "[>]")
    message = f"the logits processor {name} {message}; fix it$"
    for settings in SETTINGS:
        with pytest.raises(cutline.GenerationError, match=f"^image 0: {message}"):
            captioner.caption(IMAGES, logits_processor=broken, **settings)
    results = list(captioner.stream(IMAGES, logits_processor=broken, batch_size=2))
    assert [getattr(result, "index", None) for result in results] == list(range(len(IMAGES)))
    assert all(isinstance(result, cutline.GenerationError) for result in results)
    with cutline.CaptionScheduler(captioner, batch_size=4) as scheduler:
        good = [scheduler.submit(image) for image in IMAGES[:2]]
        bad = scheduler.submit(IMAGES[2], logits_processor=broken)
        with pytest.raises(cutline.GenerationError, match=f"^request 2: {message}") as raised:
            bad.result(60)
        assert isinstance(raised.value.__cause__, IndexError) == (broken is raise_error)
        expected = captioner.caption(IMAGES[:2])
        assert [request.result(60).text for request in good] == [c.text for c in expected]


@pytest.mark.parametrize("processor", [3, "add", [None], torch.nn.Softmax])
def test_what_is_no_function_is_an_error(captioner: Captioner, processor: Any) -> None:
    with pytest.raises(cutline.ConfigError, match="a logits processor must be a function of"):
        captioner.caption(IMAGES[0], logits_processor=processor)
    with (
        cutline.CaptionScheduler(captioner) as scheduler,
        pytest.raises(cutline.ConfigError, match="a logits processor must be a function of"),
    ):
        scheduler.submit(IMAGES[0], logits_processor=processor)


def test_nan_of_the_model_is_not_blamed_on_a_processor() -> None:
    captioner = make_captioner()
    with torch.no_grad():
        captioner.model.text.norm.weight.fill_(math.nan)
    for settings in SETTINGS:
        with pytest.raises(cutline.GenerationError, match="the model's output is NaN"):
            captioner.caption(IMAGES[0], logits_processor=raise_error, **settings)
