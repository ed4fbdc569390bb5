"""Captions that a matcher ranks, in `Captioner.caption` and `stream`."""

import gc
import itertools
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from random_captioner import draw_images, make_captioner
from random_matcher import make_matcher
from torch import nn

import cutline
from cutline.batching import CaptionRequest
from cutline.captioner import Captioner
from cutline.errors import ConfigError, GenerationError, ImageError
from cutline.matcher import Matcher
from cutline.reranking import share_encoder

IMAGES = draw_images(7)
SAMPLE: dict[str, Any] = {"sample": True, "num_captions": 6, "temperature": 2.0, "max_length": 12}
BEAMS: dict[str, Any] = {"num_beams": 3, "num_captions": 3, "prompt": "a picture of"}


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module", params=["own encoder", "shared encoder", "other size"])
def matcher(request: pytest.FixtureRequest, captioner: Captioner) -> Matcher:
    if request.param == "shared encoder":
        return make_matcher(encoder_of=captioner)
    return make_matcher(48 if request.param == "other size" else 32)


@contextmanager
def count_rows(module: nn.Module) -> Iterator[list[int]]:
    """Yield a list that gets the batch size of each call of a module."""
    rows: list[int] = []
    hook = module.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()


def rank_afterwards(
    captioner: Captioner, matcher: Matcher, image: Image.Image, **settings: Any
) -> list[tuple[str, float]]:
    """Return the texts of an image with their probabilities, ranked after captioning."""
    (caption,) = captioner.caption(image, **settings)
    texts = [each.text for each in caption.alternatives]
    matches = matcher.match(image, texts).tolist()
    return sorted(zip(texts, matches, strict=True), key=lambda pair: -pair[1])


def assert_alike(first: cutline.Caption, second: cutline.Caption) -> None:
    """Assert that the captions of an image are equal but for rounding in another batch."""
    for one, other in zip(first.alternatives, second.alternatives, strict=True):
        assert one.token_ids == other.token_ids
        assert one.match == pytest.approx(other.match, abs=1e-5)


@pytest.mark.parametrize("settings", [SAMPLE, BEAMS], ids=["sampled", "beams"])
def test_captions_are_ranked_as_the_matcher_ranks_them(
    captioner: Captioner, matcher: Matcher, settings: dict[str, Any]
) -> None:
    expected = [rank_afterwards(captioner, matcher, image, **settings) for image in IMAGES]
    for batch_size in (1, 5):
        captions = captioner.caption(IMAGES, rerank=matcher, batch_size=batch_size, **settings)
        changed = 0
        for index, (caption, pairs) in enumerate(zip(captions, expected, strict=True)):
            matches = [each.match for each in caption.alternatives]
            assert matches == pytest.approx([match for _, match in pairs], abs=1e-5)
            texts = [each.text for each in caption.alternatives]
            assert sorted(texts) == sorted(text for text, _ in pairs)
            assert caption == caption.alternatives[0]
            assert {each.index for each in caption.alternatives} == {index}
            scores = [each.score for each in caption.alternatives]
            changed += scores != sorted(scores, reverse=True)
        assert changed


def test_the_first_are_kept(captioner: Captioner, matcher: Matcher) -> None:
    everything = captioner.caption(IMAGES, rerank=matcher, **SAMPLE)
    for keep in (1, 2, 6):
        captions = captioner.caption(IMAGES, rerank=matcher, keep=keep, **SAMPLE)
        for caption, whole in zip(captions, everything, strict=True):
            assert_alike(caption, replace(whole, alternatives=whole.alternatives[:keep]))


def test_one_caption_gets_its_probability(captioner: Captioner, matcher: Matcher) -> None:
    plain = captioner.caption(IMAGES)
    captions = captioner.caption(IMAGES, rerank=matcher)
    assert [caption.token_ids for caption in captions] == [each.token_ids for each in plain]
    assert all(caption.match is None for caption in plain)
    matches = matcher.match(IMAGES, [caption.text for caption in plain]).tolist()
    assert [caption.match for caption in captions] == pytest.approx(matches, abs=1e-5)


def test_each_image_is_encoded_once(captioner: Captioner, matcher: Matcher) -> None:
    shared = share_encoder(captioner, matcher)
    with (
        count_rows(captioner.model.vision) as encoded,
        count_rows(matcher.model.vision) as encoded_again,
    ):
        captioner.caption(IMAGES, rerank=matcher, batch_size=3, **SAMPLE)
    assert sum(encoded) == 7
    assert sum(encoded_again) == (0 if shared else 7)


def test_a_shared_encoder_changes_nothing(captioner: Captioner) -> None:
    shared, separate = make_matcher(encoder_of=captioner), make_matcher(encoder_of=captioner)
    with torch.no_grad():  # what texts never read
        separate.model.vision.cls_token[0, 0, 0] += 1e-6
    assert share_encoder(captioner, shared)
    assert not share_encoder(captioner, separate)
    for one, other in zip(
        captioner.caption(IMAGES, rerank=shared, **SAMPLE),
        captioner.caption(IMAGES, rerank=separate, **SAMPLE),
        strict=True,
    ):
        assert [each.text for each in one.alternatives] == [
            each.text for each in other.alternatives
        ]
        assert one.match == pytest.approx(other.match, abs=1e-5)


def test_two_models_are_compared_once_and_not_kept() -> None:
    captioner = make_captioner()
    matcher = make_matcher(encoder_of=captioner)
    with count_rows(matcher.model.vision) as encoded:
        for _ in range(3):
            captioner.caption(IMAGES, rerank=matcher, keep=1, **SAMPLE)
    assert encoded == [1]
    references = [weakref.ref(captioner), weakref.ref(matcher)]
    del captioner, matcher
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_equal_captions_are_matched_once(captioner: Captioner, matcher: Matcher) -> None:
    settings: dict[str, Any] = SAMPLE | {"num_captions": 40, "top_k": 2, "temperature": 0.5}
    with count_rows(matcher.model.itm_head) as rows:
        captions = captioner.caption(IMAGES[:3], rerank=matcher, **settings)
    distinct = {
        (index, *matcher.tokenizer.encode_text(each.text))
        for index, caption in enumerate(captions)
        for each in caption.alternatives
    }
    assert sum(rows) == len(distinct) < 100
    assert [len(caption.alternatives) for caption in captions] == [40] * 3


@pytest.mark.parametrize("ordered", [True, False])
def test_streams(captioner: Captioner, matcher: Matcher, ordered: bool) -> None:
    images: list[Any] = [*IMAGES[:3], b"not an image", *IMAGES[3:]]
    expected = captioner.caption(IMAGES, rerank=matcher, **SAMPLE)
    expected.insert(3, expected[0])
    results = list(
        captioner.stream(iter(images), rerank=matcher, batch_size=2, ordered=ordered, **SAMPLE)
    )
    indices = [result.index for result in results]
    assert indices == list(range(8)) if ordered else sorted(indices) == list(range(8))
    for result in results:
        if result.index == 3:
            assert isinstance(result, ImageError)
            continue
        assert isinstance(result, cutline.Caption)
        assert_alike(result, expected[result.index])


def test_processes_open_images_in_two_sizes(captioner: Captioner) -> None:
    matcher = make_matcher(48)
    expected = captioner.caption(IMAGES, rerank=matcher, **SAMPLE)
    captions = captioner.caption(IMAGES, rerank=matcher, num_workers=1, **SAMPLE)
    for caption, each in zip(captions, expected, strict=True):
        assert_alike(caption, each)


def test_inputs_are_kept_for_the_images_in_flight_only(
    captioner: Captioner, matcher: Matcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: weakref.WeakSet[CaptionRequest] = weakref.WeakSet()
    finish = CaptionRequest.finish

    def note(request: CaptionRequest, *arguments: Any) -> None:
        kept.add(request)
        finish(request, *arguments)

    monkeypatch.setattr(CaptionRequest, "finish", note)
    images = itertools.islice(itertools.cycle(IMAGES), 16)
    for _ in captioner.stream(images, rerank=matcher, batch_size=2, **SAMPLE):
        assert sum(request.match_input is not None for request in kept) <= 4


def test_prompts_and_seeds_of_each_image(captioner: Captioner, matcher: Matcher) -> None:
    captions = captioner.caption(
        [IMAGES[0]] * 3, ["a", "a red", "a"], seeds=[1, 1, 1], rerank=matcher, **SAMPLE
    )
    assert_alike(captions[0], captions[2])
    texts = [each.text for each in captions[1].alternatives]
    matches = [each.match for each in captions[1].alternatives]
    assert matches == pytest.approx(matcher.match(IMAGES[0], texts).tolist(), abs=1e-5)


def test_threads(captioner: Captioner, matcher: Matcher) -> None:
    expected = captioner.caption(IMAGES, rerank=matcher, **SAMPLE)
    results: list[list[cutline.Caption]] = []
    threads = [
        threading.Thread(
            target=lambda: results.append(captioner.caption(IMAGES, rerank=matcher, **SAMPLE))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for captions in results:
        for caption, each in zip(captions, expected, strict=True):
            assert_alike(caption, each)


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": 1}, "give a matcher as rerank"),
        ({"rerank": "itm"}, "rerank must be a matcher.*not 'itm'"),
        ({"rerank": True, "keep": 0}, "rerank must be a matcher"),
    ],
)
def test_wrong_arguments(captioner: Captioner, arguments: dict[str, Any], message: str) -> None:
    for method in (captioner.caption, captioner.stream):
        with pytest.raises(ConfigError, match=message):
            method(IMAGES, **SAMPLE, **arguments)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (7, "keep 7 is above num_captions 6"),
        (0, "at least 1, not 0"),
        (-1, "at least 1, not -1"),
        (True, "must be an integer"),
        (1.0, "must be an integer"),
        ("1", "must be an integer"),
    ],
)
def test_wrong_numbers_to_keep(captioner: Captioner, keep: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        captioner.caption(IMAGES, rerank=make_matcher(), keep=keep, **SAMPLE)


def test_a_damaged_matcher_fails_image_by_image(captioner: Captioner) -> None:
    matcher = make_matcher()
    with torch.no_grad():
        matcher.model.itm_head.bias[0] = torch.nan
    results = list(captioner.stream(IMAGES, rerank=matcher, **SAMPLE))
    for index, result in enumerate(results):
        assert isinstance(result, GenerationError)
        assert f"image {index}: its captions cannot be ranked" in str(result)
        assert result.index == index


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_out_of_memory(captioner: Captioner, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer images are matched at once; one that is too much alone fails."""
    matcher = make_matcher(encoder_of=captioner)
    expected = captioner.caption(IMAGES, rerank=matcher, **SAMPLE)
    match_embeds = matcher.match_embeds

    def match(image_embeds: torch.Tensor, *arguments: Any) -> list[list[float]]:
        if len(image_embeds) > limit:
            raise MemoryError("3 GiB")
        return match_embeds(image_embeds, *arguments)

    monkeypatch.setattr(matcher, "match_embeds", match)
    results = list(captioner.stream(IMAGES, rerank=matcher, **SAMPLE))
    if limit:
        for result, each in zip(results, expected, strict=True):
            assert isinstance(result, cutline.Caption)
            assert_alike(result, each)
    else:
        assert all(isinstance(result, GenerationError) for result in results)
        assert "image 6: there is not enough memory to match its captions (3 GiB)" in str(
            results[6]
        )


def test_other_errors_end_the_stream(captioner: Captioner, monkeypatch: pytest.MonkeyPatch) -> None:
    matcher = make_matcher()
    monkeypatch.setattr(matcher, "match_embeds", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        captioner.caption(IMAGES, rerank=matcher, **SAMPLE)
