"""Decoding step by step, with what the cache remembers, against reading every text from its start."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import VOCAB, pictures, tiny_model
from torch import Tensor

from cutline.config import GenerationConfig
from cutline.generation import Prompts, generate
from cutline.model import CaptionModel
from cutline.model.cache import TextCache

MODEL = tiny_model()
quick = settings(max_examples=35, deadline=None, derandomize=True)


def uncached(model: CaptionModel, image_embeds: Tensor, tokens: list[int]) -> Tensor:
    """Logits (V,) of the token after `tokens`, image_embeds (N, D)."""
    return model.text.logits(model.text(torch.tensor([tokens]), None, image_embeds[None]))[0, -1]


def start(
    prompts: list[list[int]], image_embeds: Tensor, room: int
) -> tuple[Tensor, Tensor, TextCache]:
    """Prompts padded on the left, their mask, and a cache with room for as many more tokens."""
    longest = max(map(len, prompts))
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in prompts])
    ids = torch.tensor([[7] * (longest - len(row)) + row for row in prompts])
    return ids, mask, MODEL.start(image_embeds, longest + room, mask)


@torch.no_grad()
@quick
@given(st.data())
def test_any_course_of_steps_equals_reading_everything(data: st.DataObject) -> None:
    token = st.integers(0, VOCAB - 1)
    histories = [
        [row]
        for row in data.draw(
            st.lists(st.lists(token, min_size=1, max_size=4), min_size=1, max_size=3)
        )
    ]  # image, beam
    image_embeds = MODEL.vision(pictures(len(histories)))
    ids, _, cache = start([rows[0] for rows in histories], image_embeds, room=9)
    logits = MODEL.step(ids[:, None], cache)
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.booleans()):
            chosen = data.draw(
                st.lists(st.integers(0, len(histories) - 1), min_size=1, max_size=3, unique=True)
            )
            cache.select(torch.tensor(chosen))
            histories, image_embeds = [histories[image] for image in chosen], image_embeds[chosen]
        count = data.draw(st.integers(1, 3))
        beam = st.integers(0, len(histories[0]) - 1)
        beams = data.draw(
            st.lists(
                st.lists(beam, min_size=count, max_size=count),
                min_size=len(histories),
                max_size=len(histories),
            )
        )
        cache.reorder(torch.tensor(beams))
        new = torch.tensor(data.draw(st.lists(token, min_size=3, max_size=3))).repeat(
            len(histories), count, 1
        )
        new = (new + torch.arange(count)[:, None])[..., : data.draw(st.integers(1, 3))] % VOCAB
        histories = [
            [rows[old] + fresh for old, fresh in zip(picks, tokens, strict=True)]
            for rows, picks, tokens in zip(histories, beams, new.tolist(), strict=True)
        ]
        logits = MODEL.step(new, cache)
    assert logits.shape == (len(histories), len(histories[0]), VOCAB)
    for image, rows in enumerate(histories):
        for beam_number, tokens in enumerate(rows):
            expected = uncached(MODEL, image_embeds[image], tokens)
            torch.testing.assert_close(logits[image, beam_number], expected, atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_pictures_are_projected_once_and_nothing_moves_when_beams_do() -> None:
    calls: list[int] = []
    handles = [
        layer.cross_attn.kv.register_forward_hook(lambda *_: calls.append(1))
        for layer in MODEL.text.layers
    ]  # type: ignore[union-attr]
    cache = MODEL.start(MODEL.vision(pictures(3)), 9)
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
def test_a_step_reads_only_the_new_tokens() -> None:
    seen = []
    handle = MODEL.text.layers[0].mlp.register_forward_hook(
        lambda _, args, out: seen.append(tuple(args[0].shape[:2]))
    )  # type: ignore[union-attr]
    cache = MODEL.start(MODEL.vision(pictures(2)), 9)
    MODEL.step(torch.ones(2, 1, 4, dtype=torch.long), cache)
    cache.reorder(torch.zeros(2, 3, dtype=torch.long))
    MODEL.step(torch.ones(2, 3, 1, dtype=torch.long), cache)
    handle.remove()
    assert seen == [(2, 4), (2, 3)]  # the beams of an image are queries of one row


@torch.no_grad()
@quick
@given(st.data())
def test_pictures_that_join_later_are_captioned_as_if_alone(data: st.DataObject) -> None:
    """A ring of six slots, images that come and go, and every row's logits as those of reading it from its start."""
    token, places, slots = st.integers(3, VOCAB - 1), 3, 6
    embeds = MODEL.vision(pictures(8))
    ids, mask, cache = start([[1, 5]], embeds[:1], room=0)
    cache, new = MODEL.new_cache(places, slots), MODEL.start(embeds[:1], slots, mask)
    MODEL.step(ids[:, None], new)
    new.reorder(torch.zeros(1, 2, dtype=torch.long))
    cache.join(new)
    rows: list[tuple[int, list[list[int]]]] = [
        (0, [[1, 5]] * 2)
    ]  # image, the tokens of its two beams
    for number in range(1, 8):
        if len(rows) < places and data.draw(st.booleans()):
            prompts = [
                data.draw(st.lists(token, min_size=1, max_size=4))
                for _ in range(data.draw(st.integers(1, places - len(rows))))
            ]
            image = torch.arange(len(prompts)) % 2 + number % 7
            ids, mask, _ = start(prompts, embeds[image], room=0)
            new = MODEL.start(embeds[image], slots, mask, data.draw(st.sampled_from([cache, None])))
            MODEL.step(ids[:, None], new)
            new.reorder(torch.zeros(len(prompts), 2, dtype=torch.long))
            cache.join(new)
            rows += [
                (one, [prompt] * 2) for one, prompt in zip(image.tolist(), prompts, strict=True)
            ]
        tokens = [[data.draw(token), data.draw(token)] for _ in rows]
        logits = MODEL.step(torch.tensor(tokens)[..., None], cache)
        rows = [
            (one, [[*row, t] for row, t in zip(beams, new_tokens, strict=True)])
            for (one, beams), new_tokens in zip(rows, tokens, strict=True)
        ]
        for (one, beams), row_logits in zip(rows, logits, strict=True):
            for beam, beam_logits in zip(beams, row_logits, strict=True):
                torch.testing.assert_close(
                    beam_logits, uncached(MODEL, embeds[one], beam), atol=2e-4, rtol=1e-4
                )
        beams_kept = torch.tensor([[data.draw(st.integers(0, 1)) for _ in range(2)] for _ in rows])
        cache.reorder(beams_kept)
        rows = [
            (one, [beams[old] for old in picks])
            for (one, beams), picks in zip(rows, beams_kept.tolist(), strict=True)
        ]
        stay = [
            place
            for place, (_, beams) in enumerate(rows)
            if len(beams[0]) < slots and data.draw(st.integers(0, 3))
        ]
        cache.select(torch.tensor(stay, dtype=torch.long))
        rows = [rows[place] for place in stay]
        if not rows:
            break


@torch.no_grad()
def test_no_more_pictures_join_than_there_is_room_for() -> None:
    cache, new = MODEL.new_cache(3, 5), MODEL.start(MODEL.vision(pictures(2)), 5)
    cache.join(new)
    with pytest.raises(ValueError, match="4 images do not fit into 3 places"):
        cache.join(new)


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [{"num_beams": 4, "num_captions": 3}, {"num_beams": 1}, {"sample": True, "num_captions": 3}],
    ids=str,
)
def test_prompts_of_different_lengths_together_as_one_at_a_time(options: dict[str, int]) -> None:
    config = GenerationConfig(max_length=10, min_length=7, **options)  # type: ignore[arg-type]
    rows = [[1, 5, 6, 7], [1], [1, 9], [1, 2, 3, 4]]
    image_embeds = MODEL.vision(pictures(len(rows)))
    ids, mask, cache = start(rows, image_embeds, room=9)
    together = generate(MODEL.step, cache, Prompts(ids, mask, 2), config)
    for number, row in enumerate(rows):
        ids, mask, cache = start([row], image_embeds[number : number + 1], room=9)
        alone = generate(MODEL.step, cache, Prompts(ids, mask, 2), config)[0]
        assert [caption.token_ids for caption in together[number]] == [
            caption.token_ids for caption in alone
        ]
        assert [caption.score for caption in together[number]] == pytest.approx(
            [caption.score for caption in alone], rel=1e-4
        )
