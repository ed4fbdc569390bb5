"""Batches: order, labels, unreadable images, prompts."""

import pickle
import threading
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from cutline.config import DataConfig
from cutline.data import Sample
from cutline.errors import ConfigError, DataError
from cutline.tokenizer import Tokenizer
from cutline.training.data import dataset as dataset_module
from cutline.training.data.batch import (
    LoaderConfig,
    collect_skipped,
    explain_worker_failure,
    load_batches,
    make_loader,
)
from cutline.training.data.caption_batch import collate_captions
from cutline.training.data.dataset import CaptionDataset, Example, encode_captions
from cutline.training.data.sampler import BatchSampler

PLAIN = DataConfig(crop_scale=(1.0, 1.0), flip=False, randaugment=False, num_workers=0)
TEXTS = ["a red circle", "two large blue squares above a star", "a star"]
DIVISIONS = [(8, 1, 1), (4, 1, 2), (2, 2, 2), (1, 8, 1), (1, 2, 4)]
"""batch size, gradient accumulation and processes, for eight examples per step"""


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
def test_resumed_order_continues_the_full_order(
    num_examples: int, batch_size: int, accum: int, start: int, steps: int
) -> None:
    sampler = BatchSampler(num_examples, batch_size, 5, accum)
    full = list(sampler.iter_batches(0, start + steps))
    assert len(full) == (start + steps) * accum
    assert list(sampler.iter_batches(start, start + steps)) == full[start * accum :]


@given(st.integers(1, 40), st.integers(1, 12))
def test_epoch_has_each_example_once_except_those_of_the_incomplete_step(
    num_examples: int, batch_size: int
) -> None:
    sampler = BatchSampler(num_examples, batch_size, seed=1)
    keys = list(sampler.iter_batches(2 * sampler.steps_per_epoch, 3 * sampler.steps_per_epoch))
    counts = Counter(index for batch in keys for _, index in batch)
    assert set(counts.values()) == {1}
    assert sum(counts.values()) == (num_examples // batch_size * batch_size or num_examples)
    assert all(epoch == 2 for batch in keys for epoch, _ in batch)


@given(st.integers(1, 40), st.sampled_from(DIVISIONS))
def test_processes_and_accumulation_divide_the_same_steps(
    num_examples: int, division: tuple[int, int, int]
) -> None:
    batch_size, accum, world_size = division
    single = BatchSampler(num_examples, 8, 3)
    samplers = [
        BatchSampler(num_examples, batch_size, 3, accum, world_size, rank)
        for rank in range(world_size)
    ]
    assert {sampler.steps_per_epoch for sampler in samplers} == {single.steps_per_epoch}
    stop = 2 * single.steps_per_epoch
    batches = [list(sampler.iter_batches(0, stop)) for sampler in samplers]
    assert {len(process_batches) for process_batches in batches} == {stop * accum}
    for step, keys in enumerate(single.iter_batches(0, stop)):
        step_batches = [
            process_batches[step * accum : (step + 1) * accum] for process_batches in batches
        ]
        rounds = zip(*step_batches, strict=True)
        assert [key for ranks in rounds for batch in ranks for key in batch] == keys


def test_epochs_differ_in_order() -> None:
    sampler = BatchSampler(100, 10, seed=0)
    first, second = list(sampler.iter_batches(0, 10)), list(sampler.iter_batches(10, 20))
    assert first != [[(0, index) for _, index in keys] for keys in second]


def test_labels_are_the_caption_without_its_prompt(tokenizer: Tokenizer, scenes: Path) -> None:
    """Prompts of different lengths, and none, in one batch: each is left out of its labels."""
    image = str(scenes.parent / "scene-000000.png")
    samples = [
        Sample(image, (TEXTS[0],), "1"),
        Sample(image, (TEXTS[1],), "2", prompt="a photo of a dog "),
        Sample(image, (TEXTS[2],), "3", ""),
    ]
    captions = encode_captions(samples, tokenizer, PLAIN, "a picture of ")
    dataset = CaptionDataset(samples, captions, 32, PLAIN, seed=0)
    batch = collate_captions([dataset[(0, index)] for index in range(3)], tokenizer.pad_id)
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
    assert batch.num_targets == int((batch.labels != -100).sum())


@pytest.mark.parametrize("max_tokens", [4, 7])  # 7: [DEC], five words and [SEP]
def test_prompt_that_fills_max_tokens_is_refused(tokenizer: Tokenizer, max_tokens: int) -> None:
    samples = [Sample("x.png", ("a star",), "1")]
    data = replace(PLAIN, max_tokens=max_tokens)
    captions = encode_captions(samples, tokenizer, data, "a photo of a dog ")
    with pytest.raises(
        ConfigError, match=f"max_tokens {max_tokens} leaves no room for a caption after the prompt"
    ):
        CaptionDataset(samples, captions, 32, data, 0)


def test_dataset_with_cached_images_can_be_pickled(tokenizer: Tokenizer, scenes: Path) -> None:
    """Worker processes that are spawned get a pickled copy."""
    samples = [Sample(str(scenes.parent / "scene-000000.png"), ("a star",), "1")]
    captions = encode_captions(samples, tokenizer, PLAIN, "")
    dataset = CaptionDataset(samples, captions, 32, replace(PLAIN, cache=True), 0)
    example = dataset[(0, 0)]
    assert isinstance(example, Example)
    copied = pickle.loads(pickle.dumps(dataset))[(0, 0)]
    assert torch.equal(copied.pixels, example.pixels)


def test_captions_that_are_empty_after_cleaning_are_dropped(tokenizer: Tokenizer) -> None:
    samples = [Sample("x.png", ("...", "a star", "!!"), "1"), Sample("y.png", ("~",), "2")]
    captions = encode_captions(samples, tokenizer, PLAIN, "")
    assert [len(texts) for texts in captions] == [1, 0]
    assert len(CaptionDataset(samples, captions, 32, PLAIN, 0)) == 1
    with pytest.raises(DataError, match="no image has a caption"):
        CaptionDataset(samples[1:], captions[1:], 32, PLAIN, 0)


def test_captions_of_an_image_are_drawn_anew_each_epoch(tokenizer: Tokenizer, scenes: Path) -> None:
    texts = tuple(f"{word} star" for word in ("red", "blue", "large", "two", "a"))
    data = replace(PLAIN, captions_per_image=2)
    samples = [
        Sample(str(scenes.parent / "scene-000000.png"), texts, "1"),
        Sample(str(scenes.parent / "scene-000001.png"), texts[:1], "2"),
    ]
    captions = encode_captions(samples, tokenizer, data, "")
    dataset = CaptionDataset(samples, captions, 32, data, seed=0)
    assert len(dataset) == 2
    chosen = {tuple(map(str, dataset[(epoch, 0)].captions)) for epoch in range(20)}
    assert len(chosen) > 5
    assert dataset[(3, 0)].captions == dataset[(3, 0)].captions
    batch = collate_captions([dataset[(0, 0)], dataset[(0, 1)]], tokenizer.pad_id)
    assert batch.input_ids.shape[0] == 4
    # The second image has one caption; the padding in place of another one is not scored.
    assert (batch.labels[3] == -100).all()


def test_augmentation_depends_on_seed_epoch_and_index_alone(
    tokenizer: Tokenizer, scenes: Path
) -> None:
    samples = [
        Sample(str(scenes.parent / f"scene-{i:06d}.png"), ("a star",), str(i)) for i in range(2)
    ]
    data = DataConfig(num_workers=0)
    captions = encode_captions(samples, tokenizer, data, "")
    first, second = (CaptionDataset(samples, captions, 32, data, seed=7) for _ in range(2))
    second[(0, 1)]
    assert torch.equal(first[(5, 0)].pixels, second[(5, 0)].pixels)
    views = [first[(epoch, 0)].pixels for epoch in range(6)]
    assert any(not torch.equal(views[5], view) for view in views[:5])
    resized = CaptionDataset(samples, captions, 32, data, seed=7, augmented=False)
    assert torch.equal(resized[(0, 0)].pixels, resized[(1, 0)].pixels)


def test_cached_images_are_opened_once(
    tokenizer: Tokenizer, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    original = dataset_module.open_image
    monkeypatch.setattr(
        dataset_module, "open_image", lambda source: opened.append(source) or original(source)
    )
    samples = [Sample(str(scenes.parent / "scene-000000.png"), ("a star",), "1")]
    captions = encode_captions(samples, tokenizer, PLAIN, "")
    datasets = [
        CaptionDataset(samples, captions, 32, replace(PLAIN, cache=cache), 0)
        for cache in (True, False)
    ]
    pixels = [dataset[(epoch, 0)].pixels for dataset in datasets for epoch in range(3)]
    assert len(opened) == 1 + 3
    assert all(torch.equal(pixels[0], other) for other in pixels)


def test_batch_of_unreadable_images_is_empty_and_names_them(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    samples = [Sample(str(tmp_path / "gone.png"), ("a star",), "1")]
    captions = encode_captions(samples, tokenizer, PLAIN, "")
    dataset = CaptionDataset(samples, captions, 32, PLAIN, 0)
    [batch] = load_batches(
        dataset, iter([[(0, 0)]]), LoaderConfig(partial(collate_captions, pad_id=tokenizer.pad_id))
    )
    assert len(batch.pixels) == 0
    assert batch.num_targets == 0
    assert "gone.png" in batch.skipped[0]


class ThreadNames(Dataset[str]):
    """Messages that name the threads of the process that reads them."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> str:
        return " ".join(thread.name for thread in threading.enumerate())


def test_only_the_end_of_a_worker_is_explained() -> None:
    """PyTorch names the worker in errors that are raised in one, too."""
    killed = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    for error in (killed, ConnectionResetError(), EOFError()):  # the others within a batch
        assert "worker was killed" in str(explain_worker_failure(error, 2))
    for bug in (RuntimeError, ConnectionResetError):
        error = bug("Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback")
        assert explain_worker_failure(error, 2) is None
    assert explain_worker_failure(BrokenPipeError(), 0) is None  # not of a worker: there is none


def test_workers_watch_their_parent() -> None:
    """They end when it is killed; see test_worker.py."""
    loader = make_loader(
        ThreadNames(),
        LoaderConfig(partial(collate_captions, pad_id=0), num_workers=1),
        batch_size=2,
    )
    messages = collect_skipped(list(loader))
    assert len(messages) == 2
    assert all("cutline-parent" in message for message in messages)
