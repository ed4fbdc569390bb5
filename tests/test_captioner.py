"""The object users hold."""

import io
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from random_captioner import drawn_pictures, random_captioner

import cutline
from cutline.captioner import Captioner
from cutline.config import GenerationConfig, GenerationKwargs


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return random_captioner()


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return drawn_pictures(7)


def same(one: list[cutline.Caption], other: list[cutline.Caption]) -> bool:
    return [c.token_ids for c in one] == [c.token_ids for c in other] and np.allclose(
        [c.score for c in one], [c.score for c in other], atol=1e-5
    )


def test_every_kind_of_picture_is_the_same_picture(
    captioner: Captioner, pictures: list[Image.Image], tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    pictures[0].save(path)
    buffer = io.BytesIO()
    pictures[0].save(buffer, "PNG")
    kinds = [pictures[0], str(path), path, buffer.getvalue(), np.asarray(pictures[0])]
    captions = captioner.caption(kinds)
    assert len(captions) == 5
    assert len({c.token_ids for c in captions}) == 1
    assert same(captioner.caption(path), captions[:1])  # one image, not in a list


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 1}, {"sample": True, "seed": 3}, {"num_beams": 4, "num_captions": 3}],
)
def test_a_batch_is_its_pictures_one_at_a_time(
    captioner: Captioner, pictures: list[Image.Image], settings: dict
) -> None:
    alone = [captioner.caption(picture, **settings)[0] for picture in pictures]
    assert len({c.token_ids for c in alone}) > 1
    for batch_size in (2, 7):
        assert same(captioner.caption(pictures, batch_size=batch_size, **settings), alone)


def test_prompts_of_different_lengths_in_one_batch(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    prompts = ["", "a picture of a red ", "the", "a", "one two three ", "a picture of ", ""]
    together = captioner.caption(pictures, prompts)
    alone = [
        captioner.caption(picture, prompt)[0]
        for picture, prompt in zip(pictures, prompts, strict=True)
    ]
    assert same(together, alone)
    assert not same(together, captioner.caption(pictures, ""))


def test_the_model_s_own_prompt_is_the_default(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    assert same(captioner.caption(pictures), captioner.caption(pictures, "a picture of "))


def test_sampling_differs_by_seed_and_by_picture_alone(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    first = captioner.caption(pictures, sample=True, seed=0)
    assert same(first, captioner.caption(pictures[::-1], sample=True, seed=0)[::-1])
    assert not same(first, captioner.caption(pictures, sample=True, seed=1))
    assert captioner.caption(pictures[0], sample=True, seed=2**40)


def test_alternatives_are_all_captions_best_first(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    [caption] = captioner.caption(pictures[0], num_beams=5, num_captions=4)
    assert caption.alternatives[0] == caption
    assert len(caption.alternatives) == 4
    assert len({one.token_ids for one in caption.alternatives}) == 4
    scores = [one.score for one in caption.alternatives]
    assert scores == sorted(scores, reverse=True)


def test_token_ids_are_the_caption_s_alone(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    tokenizer = captioner.tokenizer
    for caption in captioner.caption(pictures, min_length=8):
        assert caption.text == tokenizer.decode(caption.token_ids)
        assert not {tokenizer.sep_id, tokenizer.pad_id} & set(caption.token_ids)
        assert (
            3 <= len(caption.token_ids) <= 16
        )  # lengths count the four tokens of start and prompt


def test_stream_passes_over_bad_pictures_in_order(
    captioner: Captioner, pictures: list[Image.Image], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"nothing")
    mixed = [bad, pictures[0], bad, bad, bad, pictures[1], pictures[2], bad]
    results = list(captioner.stream(mixed, batch_size=2))
    assert [isinstance(result, cutline.ImageError) for result in results] == [
        True,
        False,
        True,
        True,
        True,
        False,
        False,
        True,
    ]
    assert same(
        [r for r in results if isinstance(r, cutline.Caption)], captioner.caption(pictures[:3])
    )
    with pytest.raises(cutline.ImageError, match=r"bad\.jpg"):
        captioner.caption(mixed)


def test_stream_is_lazy(captioner: Captioner, pictures: list[Image.Image]) -> None:
    taken = []

    def endless():  # type: ignore[no-untyped-def]
        while True:
            taken.append(1)
            yield pictures[0]

    stream = captioner.stream(endless(), batch_size=2)
    for _ in range(3):
        next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert len(taken) <= 8


def test_wrong_use_is_told(captioner: Captioner, pictures: list[Image.Image]) -> None:
    with pytest.raises(cutline.ConfigError, match="2 prompts for 7 images"):
        captioner.caption(pictures, ["a", "b"])
    with pytest.raises(
        cutline.ConfigError, match="max_length 4, which counts them, leaves no room"
    ):
        captioner.caption(pictures, max_length=4, min_length=0)
    with pytest.raises(cutline.ConfigError, match="leaves no room"):
        captioner.caption(pictures[:2], ["a red circle", "a red"], max_length=2, min_length=0)
    with pytest.raises(cutline.ConfigError, match="max_length 60 is above the 48 positions"):
        captioner.caption(pictures, max_length=60)
    with pytest.raises(cutline.ConfigError, match="fewer prompts than images"):
        list(captioner.stream(pictures, iter(["a"])))
    with pytest.raises(cutline.ConfigError, match="precision 'fp16' is not one of"):
        Captioner(captioner.model, captioner.tokenizer, "cpu", "fp16")  # type: ignore[arg-type]
    assert captioner.score(pictures[0], []) == []
    with pytest.raises(cutline.ConfigError, match="batch_size 0 is below 1"):
        captioner.caption(pictures, batch_size=0)
    with pytest.raises(cutline.ConfigError, match="3 captions need at least as many beams"):
        captioner.caption(pictures, num_beams=2, num_captions=3)
    with pytest.raises(cutline.ConfigError, match="device 'nowhere' cannot be used"):
        Captioner(captioner.model, captioner.tokenizer, "nowhere")
    assert captioner.caption([]) == []


def test_two_streams_at_once_do_not_meet(captioner: Captioner, pictures: list[Image.Image]) -> None:
    expected = captioner.caption(pictures)
    streams = [
        captioner.stream(pictures, batch_size=2),
        captioner.stream(reversed(pictures), batch_size=2),
    ]
    found = [list(pair) for pair in zip(*streams, strict=True)]
    assert same([one for one, _ in found], expected)  # type: ignore[misc]
    assert same([other for _, other in found][::-1], expected)  # type: ignore[misc]


def test_one_call_leaves_nothing_behind_for_the_next(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    """Memory is used again: by searches of other widths and lengths, and after a stream that was left half read."""
    settings: list[GenerationKwargs] = [
        {},
        {"num_beams": 5},
        {},
        {"num_beams": 1},
        {"max_length": 9},
        {"sample": True, "num_captions": 3},
    ]
    for each in settings:
        fresh = Captioner(captioner.model, captioner.tokenizer, "cpu", "fp32").caption(
            pictures, batch_size=3, **each
        )
        assert same(captioner.caption(pictures, batch_size=3, **each), fresh)
        next(captioner.stream(pictures, batch_size=3, **each))


def test_pictures_opened_by_processes_are_the_same(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    assert same(captioner.caption(pictures[:3], workers=1), captioner.caption(pictures[:3]))
    with pytest.raises(cutline.ConfigError, match="workers -1 is below 0"):
        captioner.caption(pictures, workers=-1)


def test_settings_are_the_fields_of_generation_config() -> None:
    hints = {
        field.name: get_type_hints(GenerationConfig)[field.name]
        for field in fields(GenerationConfig)
    }
    assert get_type_hints(GenerationKwargs) == hints


def test_bf16_finds_nearly_what_fp32_finds(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    import copy

    half = Captioner(copy.deepcopy(captioner.model), captioner.tokenizer, "cpu", "bf16")
    assert half.model.vision.patch_embed.weight.dtype == torch.bfloat16
    texts = ["a red circle", "the left star", "two"]
    for one, other in zip(
        half.score(pictures[0], texts), captioner.score(pictures[0], texts), strict=True
    ):
        assert one.token_log_probs == pytest.approx(other.token_log_probs, abs=0.3)
        assert one != other
    assert all(caption.text for caption in half.caption(pictures))


def test_score_agrees_with_the_search(captioner: Captioner, pictures: list[Image.Image]) -> None:
    """Without length penalty, the score of a beam that ended is the log-likelihood of its caption."""
    found = captioner.caption(
        pictures, "", max_length=3, length_penalty=0.0, min_length=0, num_beams=30, num_captions=30
    )
    compared = 0
    for picture, caption in zip(pictures, found, strict=True):
        scores = captioner.score(picture, [one.text for one in caption.alternatives], prompt="")
        for one, score in zip(caption.alternatives, scores, strict=True):
            if score.token_ids != (*one.token_ids, captioner.tokenizer.sep_id):
                continue  # random weights also write what would be spelt otherwise, and are cut by max_length
            if len(one.token_ids) < 2:  # ended by itself: two tokens are as many as fit
                assert score.log_prob == pytest.approx(one.score, abs=1e-4)
                compared += 1
    assert compared


def test_scores_of_tokens_sum_to_the_caption_s_and_do_not_depend_on_company(
    captioner: Captioner, pictures: list[Image.Image]
) -> None:
    texts = ["a red circle", "the left star above one two three", "two"]
    together = captioner.score(pictures[0], texts)
    assert together == captioner.score([pictures[0]], texts)
    for text, score in zip(texts, together, strict=True):
        [alone] = captioner.score(pictures[0], text)
        assert score.log_prob == pytest.approx(sum(score.token_log_probs), abs=1e-4)
        assert alone.token_log_probs == pytest.approx(score.token_log_probs, abs=1e-4)
        assert len(score.token_ids) == len(score.token_log_probs) == len(text.split()) + 1
    assert (
        captioner.score(pictures[0], "a star", prompt="")[0]
        != captioner.score(pictures[0], "a star")[0]
    )


def test_score_refuses_what_does_not_fit(captioner: Captioner, pictures: list[Image.Image]) -> None:
    with pytest.raises(cutline.ConfigError, match="2 images and 3 captions"):
        captioner.score(pictures[:2], ["a", "b", "c"])
    with pytest.raises(cutline.ConfigError, match="longer than the 48 tokens"):
        captioner.score(pictures[0], "a " * 60)
