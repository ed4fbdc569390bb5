"""`Captioner`: captions, streams and scores."""

import copy
import io
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from random_captioner import draw_images, make_captioner

import cutline
from cutline.captioner import Captioner
from cutline.config import GenerationConfig, GenerationKwargs


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return draw_images(7)


def equal(captions: list[cutline.Caption], others: list[cutline.Caption]) -> bool:
    return [c.token_ids for c in captions] == [c.token_ids for c in others] and np.allclose(
        [c.score for c in captions], [c.score for c in others], atol=1e-5
    )


def test_every_kind_of_source_gives_the_same_caption(
    captioner: Captioner, images: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    images[0].save(path)
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG")
    sources = [images[0], str(path), path, buffer.getvalue(), np.asarray(images[0])]
    captions = captioner.caption(sources)
    assert len(captions) == 5
    assert len({c.token_ids for c in captions}) == 1
    assert equal(captioner.caption(path), captions[:1])  # one image, not in a list
    assert equal(captioner.caption(np.stack([sources[-1]] * 2)), captions[:2])


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 1}, {"sample": True, "seed": 3}, {"num_beams": 4, "num_captions": 3}],
)
def test_captions_do_not_depend_on_the_batch(
    captioner: Captioner, images: list[Image.Image], settings: dict[str, Any]
) -> None:
    single = [captioner.caption(image, **settings)[0] for image in images]
    assert len({c.token_ids for c in single}) > 1
    for batch_size in (2, 7):
        assert equal(captioner.caption(images, batch_size=batch_size, **settings), single)


def test_prompts_of_different_lengths_in_one_batch(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    prompts = ["", "a picture of a red ", "the", "a", "one two three ", "a picture of ", ""]
    batched = captioner.caption(images, prompts)
    pairs = zip(images, prompts, strict=True)
    assert equal(batched, [captioner.caption(image, prompt)[0] for image, prompt in pairs])
    assert not equal(batched, captioner.caption(images, ""))


def test_the_prompt_of_the_model_is_the_default(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    assert equal(captioner.caption(images), captioner.caption(images, "a picture of "))


def test_samples_depend_on_seed_and_image_only(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    captions = captioner.caption(images, sample=True, seed=0)
    assert equal(captions, captioner.caption(images[::-1], sample=True, seed=0)[::-1])
    assert not equal(captions, captioner.caption(images, sample=True, seed=1))
    assert captioner.caption(images[0], sample=True, seed=2**40)


def test_alternatives_are_all_captions_best_first(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    [caption] = captioner.caption(images[0], num_beams=5, num_captions=4)
    assert caption.alternatives[0] == caption
    assert len(caption.alternatives) == 4
    assert len({alternative.token_ids for alternative in caption.alternatives}) == 4
    scores = [alternative.score for alternative in caption.alternatives]
    assert scores == sorted(scores, reverse=True)


def test_token_ids_exclude_prompt_end_and_padding(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    tokenizer = captioner.tokenizer
    for caption in captioner.caption(images, min_length=8):
        assert caption.text == tokenizer.decode(caption.token_ids)
        assert not {tokenizer.sep_id, tokenizer.pad_id} & set(caption.token_ids)
        # min_length and max_length include the four tokens of start and prompt
        assert 3 <= len(caption.token_ids) <= 16


def test_stream_returns_errors_of_unreadable_images_in_order(
    captioner: Captioner, images: list[Image.Image], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nothing")
    mixed = [bad, images[0], bad, bad, bad, images[1], images[2], bad]
    results = list(captioner.stream(mixed, batch_size=2))
    is_error = [isinstance(result, cutline.ImageError) for result in results]
    assert is_error == [True, False, True, True, True, False, False, True]
    assert equal(
        [result for result in results if isinstance(result, cutline.Caption)],
        captioner.caption(images[:3]),
    )
    with pytest.raises(cutline.ImageError, match=r"bad\.jpg"):
        captioner.caption(mixed)


def test_stream_is_lazy(captioner: Captioner, images: list[Image.Image]) -> None:
    num_read = 0

    def repeat_forever() -> Iterator[Image.Image]:
        nonlocal num_read
        while True:
            num_read += 1
            yield images[0]

    stream = captioner.stream(repeat_forever(), batch_size=2)
    for _ in range(3):
        next(stream)
    stream.close()
    assert num_read <= 8


@pytest.mark.parametrize(
    ("prompt", "settings", "message"),
    [
        (["a", "b"], {}, "there are 2 prompts for 7 images"),
        (None, {"max_length": 4, "min_length": 0}, "max_length 4 leaves no room for a caption"),
        (
            ["a red circle", *[""] * 6],
            {"max_length": 2, "min_length": 0},
            "includes the prompt, which has 4 tokens",
        ),
        (None, {"max_length": 60}, "max_length 60 is above the model's 48 positions"),
        (None, {"batch_size": 0}, "batch_size must be at least 1, not 0"),
        (None, {"batch_size": "3"}, "batch_size must be an integer, not '3'"),
        (None, {"ordered": False}, "unknown argument `ordered`"),
        (["a", 3, *[""] * 5], {}, "a prompt must be a string, not 3"),
        (7, {}, "give one prompt for all images, or a list"),
        (None, {"sample": True, "seeds": 5}, "give one seed for all images, or a list"),
        (None, {"num_workers": -1}, "num_workers must be at least 0, not -1"),
        (None, {"num_beams": 2, "num_captions": 3}, "num_captions 3 is above num_beams 2"),
        (None, {"bad_words": ["red", "%"]}, "bad_words '%' is not in the model's vocabulary"),
        (None, {"workers": 2}, "the argument `workers` is now `num_workers`"),
        (None, {"num_beem": 2}, "unknown argument `num_beem`: did you mean `num_beams`?"),
        (None, {"batchsize": 2}, "unknown argument `batchsize`: did you mean `batch_size`?"),
        (None, {"x": 2}, "unknown argument `x`; the arguments are prompt, batch_size"),
        (None, {"batch_size": 2.5}, "batch_size must be an integer, not 2.5"),
        (None, {"top_k": 3.7}, "top_k must be an integer, not 3.7"),
    ],
)
def test_invalid_settings_are_errors(
    captioner: Captioner,
    images: list[Image.Image],
    prompt: list[str] | None,
    settings: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(cutline.ConfigError, match=message):
        captioner.caption(images, prompt, **settings)


def test_too_few_prompts_of_a_stream_are_an_error(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    with pytest.raises(cutline.ConfigError, match="fewer prompts than images"):
        list(captioner.stream(images, iter(["a"])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "fp16"}, "precision 'fp16' is not one of"),
        ({"engine": "plain"}, "engine 'plain' is now 'eager'"),
        ({"device": "nowhere"}, "device 'nowhere' is not one of auto"),
    ],
)
def test_invalid_devices_precisions_and_engines_are_errors(
    captioner: Captioner, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(cutline.ConfigError, match=message):
        Captioner(captioner.model, captioner.tokenizer, **{"device": "cpu", **settings})


def test_load_checks_settings_before_it_reads_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(cutline.ConfigError, match="engine 'plain' is now 'eager'"):
        cutline.load(tmp_path / "missing", engine="plain")
    with pytest.raises(cutline.CheckpointError, match="missing"):
        cutline.load(tmp_path / "missing")


def test_no_images_give_no_captions(captioner: Captioner, images: list[Image.Image]) -> None:
    assert captioner.caption([]) == []
    assert captioner.score(images[0], []) == []


def test_two_streams_can_be_read_in_turn(captioner: Captioner, images: list[Image.Image]) -> None:
    expected = captioner.caption(images)
    streams = [
        captioner.stream(images, batch_size=2),
        captioner.stream(reversed(images), batch_size=2),
    ]
    pairs = list(zip(*streams, strict=True))
    assert equal([first for first, _ in pairs], expected)
    assert equal([second for _, second in pairs][::-1], expected)


def test_calls_do_not_affect_each_other(captioner: Captioner, images: list[Image.Image]) -> None:
    """A cache is reused by searches of other widths and lengths, and after unfinished streams."""
    settings: list[GenerationKwargs] = [
        {},
        {"num_beams": 5},
        {},
        {"num_beams": 1},
        {"max_length": 9},
        {"sample": True, "num_captions": 3},
    ]
    for kwargs in settings:
        fresh = Captioner(captioner.model, captioner.tokenizer, "cpu", "fp32")
        expected = fresh.caption(images, batch_size=3, **kwargs)
        assert equal(captioner.caption(images, batch_size=3, **kwargs), expected)
        next(captioner.stream(images, batch_size=3, **kwargs))


def test_worker_processes_give_the_same_captions(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    expected = captioner.caption(images[:3])
    assert equal(captioner.caption(images[:3], num_workers=1), expected)


def test_generation_kwargs_are_the_fields_of_generation_config() -> None:
    hints = get_type_hints(GenerationConfig)
    assert get_type_hints(GenerationKwargs) == {
        field.name: hints[field.name] for field in fields(GenerationConfig)
    }


def test_bf16_scores_are_close_to_fp32(captioner: Captioner, images: list[Image.Image]) -> None:
    bf16 = Captioner(copy.deepcopy(captioner.model), captioner.tokenizer, "cpu", "bf16")
    assert bf16.model.vision.patch_embed.weight.dtype == torch.bfloat16
    texts = ["a red circle", "the left star", "two"]
    pairs = zip(bf16.score(images[0], texts), captioner.score(images[0], texts), strict=True)
    for score, expected in pairs:
        assert score.token_log_probs == pytest.approx(expected.token_log_probs, abs=0.3)
        assert score != expected
    assert all(caption.text for caption in bf16.caption(images))


@pytest.mark.parametrize("settings", [{"num_beams": 3}, {"sample": True, "top_k": 8}])
def test_bf16_captions_do_not_depend_on_the_batch(
    captioner: Captioner, images: list[Image.Image], settings: dict[str, Any]
) -> None:
    """To the last bit: a run that goes on has other batches than one that was not stopped."""
    bf16 = Captioner(copy.deepcopy(captioner.model), captioner.tokenizer, "cpu", "bf16", "packed")
    prompts = ["a", "a red circle left of", ""] * len(images)
    prompts = prompts[: len(images)]
    alone = bf16.caption(images, prompts, batch_size=1, **settings)
    assert bf16.caption(images, prompts, batch_size=len(images), **settings) == alone
    reversed_captions = list(
        bf16.stream(iter(images[::-1]), iter(prompts[::-1]), batch_size=3, **settings)
    )
    assert reversed_captions[::-1] == alone


def test_score_equals_the_score_of_the_search(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    """Without length penalty, a beam that ended has the log-likelihood of its caption as score."""
    captions = captioner.caption(
        images, "", max_length=3, length_penalty=0.0, min_length=0, num_beams=30, num_captions=30
    )
    num_compared = 0
    for image, caption in zip(images, captions, strict=True):
        texts = [alternative.text for alternative in caption.alternatives]
        scores = captioner.score(image, texts, prompt="")
        for alternative, score in zip(caption.alternatives, scores, strict=True):
            # Random weights also generate token sequences that the tokenizer would not produce,
            # and captions that max_length cuts: two tokens fit, so an ended caption has fewer.
            same_tokens = score.token_ids == (*alternative.token_ids, captioner.tokenizer.sep_id)
            if same_tokens and len(alternative.token_ids) < 2:
                assert score.log_prob == pytest.approx(alternative.score, abs=1e-4)
                num_compared += 1
    assert num_compared


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 8, "num_captions": 8},
        {"num_beams": 8, "num_captions": 8, "beam_scoring": "huggingface"},
        {"num_beams": 4, "num_captions": 4, "repetition_penalty": 2.0, "bad_words": ["a", "the"]},
        {"num_beams": 1},
        {"sample": True, "num_captions": 8, "temperature": 0.8},
    ],
    ids=str,
)
def test_token_log_probs_equal_those_of_score(
    captioner: Captioner, images: list[Image.Image], settings: dict[str, Any]
) -> None:
    """Also where penalties and limits led to the caption; one that is cut has no end token."""
    tokenizer, num_compared = captioner.tokenizer, 0
    settings |= {"min_length": 0, "max_length": 7}
    captions = captioner.caption(images, token_log_probs=True, **settings)
    for image, caption, plain in zip(
        images, captions, captioner.caption(images, **settings), strict=True
    ):
        assert (plain.token_ids, plain.token_log_probs) == (caption.token_ids, ())
        for each in caption.alternatives:
            cut = len(tokenizer.encode_prompt(captioner.config.prompt)) + len(each.token_ids) == 7
            assert len(each.token_log_probs) == len(each.token_ids) + (not cut)
            [score] = captioner.score(image, each.text)
            if score.token_ids[:-1] == each.token_ids:
                expected = score.token_log_probs[: len(each.token_log_probs)]
                assert each.token_log_probs == pytest.approx(expected, abs=1e-4)
                num_compared += 1
    assert num_compared


def test_scores_are_sums_over_tokens_and_do_not_depend_on_the_batch(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    texts = ["a red circle", "the left star above one two three", "two"]
    scores = captioner.score(images[0], texts)
    assert scores == captioner.score([images[0]], texts)
    for text, score in zip(texts, scores, strict=True):
        [single] = captioner.score(images[0], text)
        assert score.log_prob == pytest.approx(sum(score.token_log_probs), abs=1e-4)
        assert single.token_log_probs == pytest.approx(score.token_log_probs, abs=1e-4)
        assert len(score.token_ids) == len(score.token_log_probs) == len(text.split()) + 1
    [with_prompt], [without] = (
        captioner.score(images[0], "a star"),
        captioner.score(images[0], "a star", prompt=""),
    )
    assert with_prompt != without
