"""Training examples streamed from tar shards, for datasets larger than the disk.

How a stream resumes. The examples of a run are an endless sequence, fixed by the seed, the number
of processes and the number of data loading workers. Every worker of every process is one reader,
and each reader has its own share of the shards. Nothing of this is saved: a resumed run starts all
readers from the beginning, and each skips as many examples as it had read. Skipped examples are
never opened or decoded, so that skipping costs no more than reading the shards.

The DataLoader takes batches from its workers in turn: worker 0, 1, ..., 0, 1, ... A resumed loader
begins with its worker 0 again, though it may be another worker's turn. After `first_batch` batches
it is the turn of worker `first_batch % num_workers`, so that worker 0 of the new loader takes over
that worker's reader, worker 1 the next one, and so on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count, islice

from torch.utils.data import IterableDataset, get_worker_info

from cutline.config import DataConfig
from cutline.data import Sample, stream_shards
from cutline.errors import CutlineError, DataError, blame_setting
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import Batch, LoaderConfig, load_batches, make_loader
from cutline.training.data.dataset import CaptionDataset, ExampleOrError, encode_captions
from cutline.training.data.sampler import BatchSampler


@dataclass(frozen=True)
class ShardDataset:
    """An infinite stream of examples; `data.samples_per_epoch` defines an epoch."""

    data: DataConfig
    tokenizer: Tokenizer
    prompt: str | None
    """prompt of the samples without one of their own; None if no text has a prompt"""
    image_size: int
    """side of the pixels"""
    seed: int
    allow_pipe: bool = False
    """whether `pipe:` commands are run"""

    def __len__(self) -> int:
        return self.data.samples_per_epoch

    def read(self, reader: int, num_readers: int) -> Iterator[Callable[[], ExampleOrError]]:
        """Yield the examples of one reader, pass after pass over the shards, without end.

        Args:
            reader: Index of this reader, from 0.
            num_readers: Readers that share the shards.

        Yields:
            Functions that open the image of one example and return it.

        Raises:
            DataError: A shard cannot be read, or there is no example for this reader.
        """
        for epoch in count():
            samples = stream_shards(
                self.data.train,
                seed=self.seed,
                epoch=epoch,
                reader=reader,
                num_readers=num_readers,
                shuffle_buffer=self.data.shuffle_buffer,
                allow_pipe=self.allow_pipe,
            )
            examples = chain.from_iterable(self.make_examples(sample, epoch) for sample in samples)
            first = next(examples, None)
            if first is None:
                raise DataError(
                    f"{self.data.train}: no image with a caption for data loading worker "
                    f"{reader + 1} of {num_readers}: use fewer processes or lower "
                    "`data.num_workers`"
                )
            yield first
            yield from examples

    def make_examples(self, sample: Sample, epoch: int) -> Iterator[Callable[[], ExampleOrError]]:
        """Yield the examples of one sample; none if its captions are empty after cleaning."""
        captions = encode_captions([sample], self.tokenizer, self.data, self.prompt)
        if any(caption.has_targets for caption in captions[0]):
            seed = f"{self.seed} {sample.id}"
            augmented = self.data.augment
            dataset = CaptionDataset(
                [sample], captions, self.image_size, self.data, seed, augmented
            )
            for index in range(len(dataset)):
                yield partial(_open_example, dataset, (epoch, index), sample.id)


TrainDataset = CaptionDataset | ShardDataset
"""training examples, read in any order or streamed"""


def _open_example(dataset: CaptionDataset, key: tuple[int, int], id: str) -> ExampleOrError:
    """Open an example; a message about its image begins with the id, which the bytes lack."""
    result = dataset[key]
    return f"{id}: {result}" if isinstance(result, str) else result


class _ResumedStream(IterableDataset[ExampleOrError]):
    """The examples that each data loading worker of this process reads; see the top of the file."""

    def __init__(self, dataset: ShardDataset, sampler: BatchSampler, first_batch: int) -> None:
        """Continue a stream.

        Args:
            dataset: The shards.
            sampler: Batch size, and number and rank of the processes.
            first_batch: Batches that this process has taken before.
        """
        self.dataset, self.sampler, self.first_batch = dataset, sampler, first_batch

    def __iter__(self) -> Iterator[ExampleOrError]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        # This worker takes over the reader of another one.
        old_worker = (worker + self.first_batch) % num_workers
        batches_read = len(range(old_worker, self.first_batch, num_workers))
        reader = self.sampler.rank * num_workers + old_worker
        examples = self.dataset.read(reader, self.sampler.world_size * num_workers)
        try:
            with blame_setting("train", {"train": "data.train"}):
                for open_example in islice(examples, batches_read * self.sampler.batch_size, None):
                    yield open_example()
        except CutlineError as error:  # PyTorch would add its traceback to a raised error
            yield error


def stream_batches(
    dataset: ShardDataset, sampler: BatchSampler, start: int, config: LoaderConfig
) -> Iterator[Batch]:
    """Yield this process's batches from step `start` of the run, without end.

    Which examples they hold depends on the seed and on the numbers of processes and workers.
    """
    stream = _ResumedStream(dataset, sampler, start * sampler.grad_accum_steps)
    yield from make_loader(stream, config, batch_size=sampler.batch_size)


def read_batches(
    dataset: TrainDataset,
    sampler: BatchSampler,
    start: int,
    stop: int,
    config: LoaderConfig,
) -> Iterator[Batch]:
    """Return this process's batches in the steps of the run from `start` to `stop`."""
    if isinstance(dataset, ShardDataset):
        batches = stream_batches(dataset, sampler, start, config)
        return islice(batches, (stop - start) * sampler.grad_accum_steps)
    return load_batches(dataset, sampler.iter_batches(start, stop), config)
