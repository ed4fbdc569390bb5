"""Rows that flow from tar shards, for data that no disk holds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from cutline.config import DataConfig
from cutline.data import Sample, stream_shards
from cutline.errors import CutlineError, DataError
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import Batch, collate, ignore_signals, load_batches
from cutline.training.data.dataset import CaptionDataset, Row, encode_captions
from cutline.training.data.sampler import BatchSampler


@dataclass(frozen=True)
class ShardDataset:
    """The rows of shards, told of as many as make an epoch: they are read on and on."""

    data: DataConfig
    tokenizer: Tokenizer
    prompt: str
    size: int
    """image side in pixels"""
    seed: int

    def __len__(self) -> int:
        return self.data.samples_per_epoch

    def read(self, part: int, parts: int) -> Iterator[Callable[[], Row]]:
        """The rows of one of `parts` that read the shards together, pass after pass without end; each is opened when it is called."""
        shuffle = self.data.shuffle_buffer
        for epoch in count():
            samples = stream_shards(
                self.data.train,
                seed=self.seed,
                epoch=epoch,
                reader=part,
                num_readers=parts,
                shuffle_buffer=shuffle,
            )
            rows = chain.from_iterable(self.rows_of(sample, epoch) for sample in samples)
            first = next(rows, None)
            if first is None:
                raise DataError(
                    f"{self.data.train}: no image with a caption for reader {part + 1} of {parts}; lower `data.num_workers`"
                )
            yield first
            yield from rows

    def rows_of(self, sample: Sample, epoch: int) -> Iterator[Callable[[], Row]]:
        """The rows of one sample; none where cleaning leaves nothing of its captions."""
        captions = encode_captions([sample], self.tokenizer, self.data, self.prompt)
        if any(len(ids) > length for ids, length in captions[0]):
            rows = CaptionDataset(
                [sample],
                captions,
                self.size,
                self.data,
                f"{self.seed} {sample.id}",
                self.data.augment,
            )
            for row in range(len(rows)):
                yield partial(_open, rows, (epoch, row), sample.id)


def _open(rows: CaptionDataset, key: tuple[int, int], id: str) -> Row:
    item = rows[key]
    return f"{id}: {item}" if isinstance(item, str) else item


class _Part(IterableDataset[Row]):
    """What one worker of one process reads, from a batch of the run on."""

    def __init__(self, rows: ShardDataset, order: BatchSampler, first: int) -> None:
        """first: number of the process's first batch; earlier ones are read and left."""
        self.rows, self.order, self.first = rows, order, first

    def __iter__(self) -> Iterator[Row]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        number = (
            number + self.first
        ) % workers  # the loader begins with its worker 0, the run with whoever's turn it is
        before = len(range(number, self.first, workers))
        rows = self.rows.read(self.order.rank * workers + number, self.order.world_size * workers)
        try:
            yield from (row() for row in islice(rows, before * self.order.batch_size, None))
        except CutlineError as error:  # raised here it would bring a traceback along
            yield error


def stream_batches(
    rows: ShardDataset,
    order: BatchSampler,
    start: int,
    pad_id: int,
    num_workers: int,
    pin: bool = False,
) -> Iterator[Batch]:
    """This process's batches from step `start` of the run on, opened by `num_workers` processes ahead of their use.

    Which rows they hold follows from the seed and the numbers of processes and workers.
    """
    loader: DataLoader[Any] = DataLoader(
        _Part(rows, order, start * order.grad_accum_steps),
        batch_size=order.batch_size,
        collate_fn=partial(collate, pad_id=pad_id),
        num_workers=num_workers,
        worker_init_fn=ignore_signals,
        pin_memory=pin,
    )
    yield from loader


def read_batches(
    rows: CaptionDataset | ShardDataset,
    order: BatchSampler,
    start: int,
    stop: int,
    pad_id: int,
    num_workers: int,
    pin: bool = False,
) -> Iterator[Batch]:
    """This process's batches of steps `start` to `stop` of the run."""
    if isinstance(rows, ShardDataset):
        batches = stream_batches(rows, order, start, pad_id, num_workers, pin)
        return islice(batches, (stop - start) * order.grad_accum_steps)
    return load_batches(rows, order.keys(start, stop), pad_id, num_workers, pin)
