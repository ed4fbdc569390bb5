"""Batches: order, labels, skips, prompts."""

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutline.config import DataConfig
from cutline.data import Sample
from cutline.errors import ConfigError, DataError
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import LoaderConfig, collate, load_batches
from cutline.training.data.dataset import CaptionDataset, Example, encode_captions
from cutline.training.data.sampler import BatchSampler

PLAIN = DataConfig(crop_scale=(1.0, 1.0), flip=False, randaugment=False, num_workers=0)
TEXTS = ["a red circle", "two large blue squares above a star", "a star"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([*TEXTS, "a picture of", "a photo of a dog"] * 2, 300)


@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 3),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_resumed_order_is_the_tail_of_the_whole_order(
    rows: int, size: int, accum: int, start: int, more: int
) -> None:
    order = BatchSampler(rows, size, 5, accum)
    whole = list(order.keys(0, start + more))
    assert len(whole) == (start + more) * accum
    assert list(order.keys(start, start + more)) == whole[start * accum :]


@given(st.integers(1, 40), st.integers(1, 12))
def test_an_epoch_shows_every_row_once_but_those_of_the_last_incomplete_step(
    rows: int, size: int
) -> None:
    order = BatchSampler(rows, size, seed=1)
    keys = list(order.keys(2 * order.steps_per_epoch, 3 * order.steps_per_epoch))
    seen = Counter(row for batch in keys for _, row in batch)
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == (rows // size * size or rows)
    assert all(epoch == 2 for batch in keys for epoch, _ in batch)


@given(st.integers(1, 40), st.sampled_from([(8, 1, 1), (4, 1, 2), (2, 2, 2), (1, 8, 1), (1, 2, 4)]))
def test_processes_and_accumulation_divide_the_same_steps(
    rows: int, layout: tuple[int, int, int]
) -> None:
    size, accum, world = layout
    whole = BatchSampler(rows, 8, 3)
    parts = [BatchSampler(rows, size, 3, accum, world, rank) for rank in range(world)]
    assert {part.steps_per_epoch for part in parts} == {whole.steps_per_epoch}
    stop = 2 * whole.steps_per_epoch
    batches = [list(part.keys(0, stop)) for part in parts]
    assert {len(of_one) for of_one in batches} == {stop * accum}
    for step, keys in enumerate(whole.keys(0, stop)):
        micro = [of_one[step * accum : (step + 1) * accum] for of_one in batches]
        assert [
            key for in_turn in zip(*micro, strict=True) for batch in in_turn for key in batch
        ] == keys


def test_epochs_differ_in_order() -> None:
    order = BatchSampler(100, 10, seed=0)
    first, second = list(order.keys(0, 10)), list(order.keys(10, 20))
    assert first != [[(0, row) for _, row in keys] for keys in second]


def test_labels_are_the_caption_without_its_prompt(tokenizer: Tokenizer, scenes: Path) -> None:
    """Prompts of different lengths and none in one batch: each row's own is not scored."""
    image = str(scenes.parent / "scene-000000.png")
    samples = [
        Sample(image, (TEXTS[0],), "1"),
        Sample(image, (TEXTS[1],), "2", prompt="a photo of a dog "),
        Sample(image, (TEXTS[2],), "3", ""),
    ]
    rows = CaptionDataset(
        samples, encode_captions(samples, tokenizer, PLAIN, "a picture of "), 32, PLAIN, seed=0
    )
    batch = collate([rows[(0, row)] for row in range(3)], tokenizer.pad_id)
    for ids, labels, mask, text, prompt in zip(
        batch.input_ids,
        batch.labels,
        batch.attention_mask,
        TEXTS,
        ("a picture of", "a photo of a dog", ""),
        strict=True,
    ):
        scored = labels[labels != -100].tolist()
        assert scored[-1] == tokenizer.sep_id
        assert tokenizer.decode(scored) == text
        assert tokenizer.decode(ids[(labels == -100) & (mask == 1)].tolist()) == prompt
        assert ids[0] == tokenizer.dec_id
    assert batch.token_count == int((batch.labels != -100).sum())


def test_a_prompt_that_fills_max_tokens_is_refused(tokenizer: Tokenizer) -> None:
    samples = [Sample("x.png", ("a star",), "1")]
    data = replace(PLAIN, max_tokens=4)
    with pytest.raises(ConfigError, match="max_tokens 4 leaves no room after the prompt"):
        CaptionDataset(
            samples, encode_captions(samples, tokenizer, data, "a photo of a dog "), 32, data, 0
        )


def test_rows_with_opened_pictures_can_go_to_another_process(
    tokenizer: Tokenizer, scenes: Path
) -> None:
    """Where processes are spawned, what they work on is pickled."""
    samples = [Sample(str(scenes.parent / "scene-000000.png"), ("a star",), "1")]
    rows = CaptionDataset(
        samples, encode_captions(samples, tokenizer, PLAIN, ""), 32, replace(PLAIN, cache=True), 0
    )
    item = rows[(0, 0)]
    assert isinstance(item, Example)
    again = pickle.loads(pickle.dumps(rows))[(0, 0)]
    assert torch.equal(again.pixels, item.pixels)


def test_captions_that_cleaning_empties_are_dropped(tokenizer: Tokenizer) -> None:
    samples = [Sample("x.png", ("...", "a star", "!!"), "1"), Sample("y.png", ("~",), "2")]
    encoded = encode_captions(samples, tokenizer, PLAIN, "")
    assert [len(texts) for texts in encoded] == [1, 0]
    assert len(CaptionDataset(samples, encoded, 32, PLAIN, 0)) == 1
    with pytest.raises(DataError, match="no image with a caption"):
        CaptionDataset(samples[1:], encoded[1:], 32, PLAIN, 0)


def test_k_captions_of_a_picture_are_chosen_anew_each_epoch(
    tokenizer: Tokenizer, scenes: Path
) -> None:
    texts = tuple(f"{word} star" for word in ("red", "blue", "large", "two", "a"))
    data = replace(PLAIN, captions_per_image=2)
    samples = [
        Sample(str(scenes.parent / "scene-000000.png"), texts, "1"),
        Sample(str(scenes.parent / "scene-000001.png"), texts[:1], "2"),
    ]
    rows = CaptionDataset(samples, encode_captions(samples, tokenizer, data, ""), 32, data, seed=0)
    assert len(rows) == 2
    chosen = {tuple(map(str, rows[(epoch, 0)].captions)) for epoch in range(20)}
    assert len(chosen) > 5
    assert rows[(3, 0)].captions == rows[(3, 0)].captions
    batch = collate([rows[(0, 0)], rows[(0, 1)]], tokenizer.pad_id)
    assert batch.input_ids.shape[0] == 4
    assert (
        batch.labels[3] == -100
    ).all()  # the second image has one caption; the place of the other is not scored


def test_augmentation_depends_on_seed_epoch_and_row_alone(
    tokenizer: Tokenizer, scenes: Path
) -> None:
    samples = [
        Sample(str(scenes.parent / f"scene-{i:06d}.png"), ("a star",), str(i)) for i in range(2)
    ]
    data = DataConfig(num_workers=0)
    encoded = encode_captions(samples, tokenizer, data, "")
    rows, again = (CaptionDataset(samples, encoded, 32, data, seed=7) for _ in range(2))
    again[(0, 1)]
    assert torch.equal(rows[(5, 0)].pixels, again[(5, 0)].pixels)
    assert any(not torch.equal(rows[(5, 0)].pixels, rows[(epoch, 0)].pixels) for epoch in range(5))
    plain = CaptionDataset(samples, encoded, 32, data, seed=7, augmented=False)
    assert torch.equal(plain[(0, 0)].pixels, plain[(1, 0)].pixels)


def test_cached_pictures_are_the_same_pictures(
    tokenizer: Tokenizer, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cutline.training.data.dataset as module

    opened: list[object] = []
    original = module.open_image
    monkeypatch.setattr(
        module, "open_image", lambda source: opened.append(source) or original(source)
    )
    samples = [Sample(str(scenes.parent / "scene-000000.png"), ("a star",), "1")]
    encoded = encode_captions(samples, tokenizer, PLAIN, "")
    kept, fresh = (
        CaptionDataset(samples, encoded, 32, replace(PLAIN, cache=cache), 0)
        for cache in (True, False)
    )
    pixels = [rows[(epoch, 0)].pixels for rows in (kept, fresh) for epoch in range(3)]
    assert len(opened) == 1 + 3
    assert all(torch.equal(pixels[0], other) for other in pixels)


def test_a_batch_of_bad_pictures_is_empty_and_names_them(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    samples = [Sample(str(tmp_path / "gone.png"), ("a star",), "1")]
    rows = CaptionDataset(samples, encode_captions(samples, tokenizer, PLAIN, ""), 32, PLAIN, 0)
    [batch] = load_batches(rows, iter([[(0, 0)]]), LoaderConfig(tokenizer.pad_id))
    assert len(batch.pixels) == 0
    assert batch.token_count == 0
    assert "gone.png" in batch.skipped[0]
