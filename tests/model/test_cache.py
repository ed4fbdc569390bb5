"""Decoding with the cache, step by step, against reading each text from its start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import VOCAB, make_config, make_images, make_model
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation import Prompts, generate
from cutline.model import CaptionModel
from cutline.model.cache import TextCache

MODEL = make_model()
MERGING = make_model(make_config(merge_tokens=1))
MODELS = st.sampled_from([MODEL, MERGING])
quick = settings(max_examples=25, deadline=None, derandomize=True)


def uncached_logits(model: CaptionModel, image_embeds: Tensor, tokens: list[int]) -> Tensor:
    """Compute the logits (V,) of the token after `tokens`, given image_embeds (N, D)."""
    hidden = model.text(torch.tensor([tokens]), None, image_embeds[None])
    return model.text.compute_logits(hidden)[0, -1]


def start(
    prompts: list[list[int]], image_embeds: Tensor, new_tokens: int, model: CaptionModel = MODEL
) -> tuple[Tensor, Tensor, TextCache]:
    """Pad prompts on the left; return ids, mask, and a cache that fits `new_tokens` more."""
    longest = max(map(len, prompts))
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in prompts])
    ids = torch.tensor([[7] * (longest - len(row)) + row for row in prompts])
    return ids, mask, model.prefill_images(image_embeds, longest + new_tokens, mask)


@torch.no_grad()
@quick
@given(st.data())
def test_any_sequence_of_steps_equals_reading_from_the_start(data: st.DataObject) -> None:
    model, token = data.draw(MODELS), st.integers(0, VOCAB - 1)
    prompt = st.lists(token, min_size=1, max_size=4)
    # histories[image][beam] holds the tokens so far
    histories = [[row] for row in data.draw(st.lists(prompt, min_size=1, max_size=3))]
    image_embeds = model.vision(make_images(len(histories)))
    ids, _, cache = start([rows[0] for rows in histories], image_embeds, 9, model)
    logits = model.step(ids[:, None], cache)
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.booleans()):
            slot = st.integers(0, len(histories) - 1)
            chosen = data.draw(st.lists(slot, min_size=1, max_size=3, unique=True))
            cache.select(torch.tensor(chosen))
            histories, image_embeds = [histories[image] for image in chosen], image_embeds[chosen]
        count = data.draw(st.integers(1, 3))
        beam = st.integers(0, len(histories[0]) - 1)
        beams = [
            data.draw(st.lists(beam, min_size=count, max_size=count)) for _ in range(len(histories))
        ]
        cache.reorder(torch.tensor(beams))
        new = torch.tensor(data.draw(st.lists(token, min_size=3, max_size=3)))
        new = new.repeat(len(histories), count, 1) + torch.arange(count)[:, None]
        new = new[..., : data.draw(st.integers(1, 3))] % VOCAB
        histories = [
            [rows[old] + appended for old, appended in zip(parents, tokens, strict=True)]
            for rows, parents, tokens in zip(histories, beams, new.tolist(), strict=True)
        ]
        logits = model.step(new, cache)
    assert logits.shape == (len(histories), len(histories[0]), VOCAB)
    for image, rows in enumerate(histories):
        for beam_number, tokens in enumerate(rows):
            expected = uncached_logits(model, image_embeds[image], tokens)
            torch.testing.assert_close(logits[image, beam_number], expected, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_images_are_projected_once_and_reordering_beams_moves_nothing() -> None:
    calls: list[int] = []
    projections = [layer.cross_attn.kv for layer in MODEL.text.layers]
    handles = [kv.register_forward_hook(lambda *_: calls.append(1)) for kv in projections]
    cache = MODEL.prefill_images(MODEL.vision(make_images(3)), 9)
    MODEL.step(torch.tensor([[[1, 2]], [[3, 4]], [[5, 6]]]), cache)
    cache.reorder(torch.zeros(3, 5, dtype=torch.long))
    storage, images = (cache.image_kv.data_ptr(), cache.token_kv.data_ptr()), cache.image_kv.clone()
    for number in range(3):
        MODEL.step(torch.full((3, 5, 1), number), cache)
        before = cache.token_kv.clone()
        cache.reorder(torch.tensor([[4, 3, 2, 1, 0]] * 3))
        assert torch.equal(cache.token_kv, before)
    cache.select(torch.tensor([2, 1]))
    assert (cache.image_kv.data_ptr(), cache.token_kv.data_ptr()) == storage
    assert torch.equal(cache.image_kv[:, :, :2], images[:, :, [2, 1]])
    for handle in handles:
        handle.remove()
    assert len(calls) == len(MODEL.text.layers)


@torch.no_grad()
def test_a_step_computes_only_the_new_tokens() -> None:
    shapes = []
    handle = MODEL.text.layers[0].mlp.register_forward_hook(
        lambda _, args, out: shapes.append(tuple(args[0].shape[:2]))
    )
    cache = MODEL.prefill_images(MODEL.vision(make_images(2)), 9)
    MODEL.step(torch.ones(2, 1, 4, dtype=torch.long), cache)
    cache.reorder(torch.zeros(2, 3, dtype=torch.long))
    MODEL.step(torch.ones(2, 3, 1, dtype=torch.long), cache)
    handle.remove()
    assert shapes == [(2, 4), (2, 3)]  # the beams of an image are queries of one row


@torch.no_grad()
@quick
@given(st.data())
def test_images_that_join_later_get_the_logits_of_a_run_alone(data: st.DataObject) -> None:
    """Images come and go in a ring of six positions."""
    model, token, slots, length = data.draw(MODELS), st.integers(3, VOCAB - 1), 3, 6
    embeds = model.vision(make_images(8))
    ids, mask, cache = start([[1, 5]], embeds[:1], 0, model)
    cache, new = model.new_cache(slots, length), model.prefill_images(embeds[:1], length, mask)
    model.step(ids[:, None], new)
    new.reorder(torch.zeros(1, 2, dtype=torch.long))
    cache.extend(new)
    # for each slot: the image, and the tokens of its two beams
    rows: list[tuple[int, list[list[int]]]] = [(0, [[1, 5]] * 2)]
    for number in range(1, 8):
        if len(rows) < slots and data.draw(st.booleans()):
            prompt = st.lists(token, min_size=1, max_size=4)
            prompts = data.draw(st.lists(prompt, min_size=1, max_size=slots - len(rows)))
            images = torch.arange(len(prompts)) % 2 + number % 7
            ids, mask, _ = start(prompts, embeds[images], 0, model)
            target_cache = data.draw(st.sampled_from([cache, None]))
            new = model.prefill_images(embeds[images], length, mask, target_cache)
            model.step(ids[:, None], new)
            new.reorder(torch.zeros(len(prompts), 2, dtype=torch.long))
            cache.extend(new)
            rows += [
                (image, [prompt] * 2)
                for image, prompt in zip(images.tolist(), prompts, strict=True)
            ]
        tokens = [[data.draw(token), data.draw(token)] for _ in rows]
        logits = model.step(torch.tensor(tokens)[..., None], cache)
        rows = [
            (image, [[*beam, new_token] for beam, new_token in zip(beams, new_tokens, strict=True)])
            for (image, beams), new_tokens in zip(rows, tokens, strict=True)
        ]
        for (image, beams), row_logits in zip(rows, logits, strict=True):
            for beam, beam_logits in zip(beams, row_logits, strict=True):
                expected = uncached_logits(model, embeds[image], beam)
                torch.testing.assert_close(beam_logits, expected, atol=2e-4, rtol=1e-4)
        parents = [[data.draw(st.integers(0, 1)) for _ in range(2)] for _ in rows]
        cache.reorder(torch.tensor(parents))
        rows = [
            (image, [beams[parent] for parent in row_parents])
            for (image, beams), row_parents in zip(rows, parents, strict=True)
        ]
        remaining = [
            slot
            for slot, (_, beams) in enumerate(rows)
            if len(beams[0]) < length and data.draw(st.integers(0, 3))
        ]
        cache.select(torch.tensor(remaining, dtype=torch.long))
        rows = [rows[slot] for slot in remaining]
        if not rows:
            break


@torch.no_grad()
def test_more_images_than_slots_are_an_error() -> None:
    cache, new = MODEL.new_cache(3, 5), MODEL.prefill_images(MODEL.vision(make_images(2)), 5)
    cache.extend(new)
    with pytest.raises(ValueError, match="4 images do not fit into 3 slots"):
        cache.extend(new)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [{"num_beams": 4, "num_captions": 3}, {"num_beams": 1}, {"sample": True, "num_captions": 3}],
    ids=str,
)
def test_prompts_of_different_lengths_in_a_batch_equal_one_at_a_time(
    options: dict[str, int],
) -> None:
    config = GenerationConfig(max_length=10, min_length=7, **options)
    rows = [[1, 5, 6, 7], [1], [1, 9], [1, 2, 3, 4]]
    image_embeds = MODEL.vision(make_images(len(rows)))
    ids, mask, cache = start(rows, image_embeds, new_tokens=9)
    batched = generate(MODEL.step, cache, Prompts(ids, mask, 2), config)
    for number, row in enumerate(rows):
        ids, mask, cache = start([row], image_embeds[number : number + 1], new_tokens=9)
        alone = generate(MODEL.step, cache, Prompts(ids, mask, 2), config)[0]
        assert [caption.token_ids for caption in batched[number]] == [
            caption.token_ids for caption in alone
        ]
        assert [caption.score for caption in batched[number]] == pytest.approx(
            [caption.score for caption in alone], rel=1e-4
        )


@torch.no_grad()
@quick
@given(st.data())
def test_resizing_keeps_the_tokens(data: st.DataObject) -> None:
    """Tokens after a resize, at any position of the ring, equal those of a large cache."""
    embeds = MODEL.vision(make_images(2))
    ids, _, first = start([[1, 5, 6], [1]], embeds, new_tokens=12)
    resized, fixed = MODEL.new_cache(3, 7), MODEL.new_cache(3, 30)
    MODEL.step(ids[:, None], first)
    first.reorder(torch.zeros(2, 2, dtype=torch.long))
    for cache in (resized, fixed):
        cache.resize(30 if cache is fixed else 7, 2)
        cache.extend(first)
    for length in range(4, 10):
        if data.draw(st.booleans()):
            size = data.draw(st.integers(length, 40)), data.draw(st.integers(2, 9))
            resized.resize(*size, exact=data.draw(st.booleans()))
            assert resized.ancestry.shape[1] >= size[1]
            assert resized.ancestry.shape[2] >= size[0]
        if resized.ancestry.shape[2] < length:
            resized.resize(length, 2)
        token = data.draw(st.integers(3, VOCAB - 3))
        tokens = torch.tensor([[token, token + 1]] * 2)[..., None]
        torch.testing.assert_close(
            MODEL.step(tokens, resized), MODEL.step(tokens, fixed), atol=2e-4, rtol=1e-4
        )
        beams = torch.tensor([[data.draw(st.integers(0, 1)) for _ in range(2)] for _ in range(2)])
        resized.reorder(beams)
        fixed.reorder(beams)


@torch.no_grad()
def test_a_cache_shrinks_when_it_is_much_too_large_or_exactly() -> None:
    cache = MODEL.new_cache(2, 1)
    for size, exact, shape in [
        ((20, 5), False, (2, 5, 20)),
        ((12, 3), False, (2, 5, 20)),
        ((12, 3), True, (2, 3, 12)),
        ((30, 2), False, (2, 3, 30)),
        ((7, 3), False, (2, 3, 7)),
    ]:
        cache.resize(*size, exact=exact)
        assert tuple(cache.ancestry.shape) == shape
        assert cache.token_kv.shape[4:6] == shape[:0:-1]
