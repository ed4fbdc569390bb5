"""The run that makes an index, or updates it: images that are new → matcher → index."""

import itertools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from cutline.bulk.record import Failure, describe_error, describe_source_error
from cutline.bulk.sources import Samples
from cutline.config import InferenceConfig
from cutline.data import Sample
from cutline.errors import CutlineError, ImageError
from cutline.interrupt import Interrupted, StopSignal
from cutline.matcher import Matcher
from cutline.messages import format_value
from cutline.retrieval.embedding import Embedded, embed_samples
from cutline.retrieval.entry import IndexedImage, describe_image
from cutline.retrieval.info import IndexInfo
from cutline.retrieval.update import IndexUpdate


@dataclass
class IndexCounts:
    """What became of the images of a run."""

    embedded: int = 0
    unchanged: int = 0
    """in the index before, or embedded by a run that was stopped"""
    repeated: int = 0
    """contained in the sources several times"""
    removed: int = 0
    """in the index before, and not any more"""
    failed: int = 0
    unreadable: int = 0
    """parts of the sources that cannot be read, such as rows of a table"""

    @property
    def processed(self) -> int:
        """Return the number of images that were opened."""
        return self.embedded + self.failed

    @property
    def skipped(self) -> int:
        """Return the number of images that needed no work."""
        return self.unchanged + self.repeated

    @property
    def all_failed(self) -> int:
        """Return the number of failures."""
        return self.failed + self.unreadable

    @property
    def total(self) -> int:
        """Return the number of images that the sources have yielded, and that are dealt with."""
        return self.embedded + self.all_failed + self.skipped


@dataclass(frozen=True)
class IndexListener:
    """What is told of a run while it goes on; nobody listens by default."""

    on_result: Callable[[IndexCounts], None] = lambda counts: None
    """called after each image that was opened"""
    on_failure: Callable[[Failure], None] = lambda failure: None
    """called with each failure"""


@dataclass
class IndexRun:
    """A run over the images of an index.

    Attributes:
        update: The index.
        folder: The folder that paths of images are relative to.
        load: Loads the matcher, if there is something to embed.
        counts: What became of the images so far.
        failures: What could not be read.
    """

    update: IndexUpdate
    folder: str
    load: Callable[[], Matcher]
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    listener: IndexListener = field(default_factory=IndexListener)
    counts: IndexCounts = field(default_factory=IndexCounts, init=False)
    failures: list[Failure] = field(default_factory=list, init=False)
    _seen: dict[str, str] = field(default_factory=dict, init=False)  # name → stamp, in order

    def run(self, samples: Samples) -> IndexInfo:
        """Embed what is new, and replace the index.

        Args:
            samples: The images, with errors for parts of the sources that cannot be read.

        Returns:
            What the index now holds.

        Raises:
            Interrupted: A signal stopped the run; what was embedded is kept for the next one.
            CutlineError: The run cannot go on.
        """
        before = self.update.names
        with StopSignal() as stop:
            try:
                self._embed(samples, stop)
            except Interrupted as error:
                message = f"stopped after {self.counts.embedded:,} images"
                message += "; the same command goes on from there"
                raise Interrupted(message, error.signal_number) from None
            finally:
                self.update.commit()
        if self.counts.unreadable:  # they may contain what has not been seen
            self._seen |= dict.fromkeys(before, "")
        info = self.update.finish(self._seen)
        self.counts.removed = len(set(before).difference(self.update.names))
        return info

    def _embed(self, samples: Samples, stop: StopSignal) -> None:
        with closing(self._iter_results(samples)) as results:
            for sample, image, result in stop.interrupt_waiting(results):
                self._record(sample, image, result)
                if stop.requested:
                    raise Interrupted("", stop.signal_number)

    def _iter_results(self, samples: Samples) -> Generator[tuple[Sample, IndexedImage, Embedded]]:
        """Load the matcher and embed what is new; load nothing if nothing is."""
        selected = self._select(samples)
        if first := list(itertools.islice(selected, 1)):
            chosen = itertools.chain(first, selected)
            yield from embed_samples(chosen, self.load(), self.inference)

    def _select(self, samples: Samples) -> Iterator[tuple[Sample, IndexedImage]]:
        """Yield the samples to embed. A thread of its own calls this."""
        for sample in samples:
            if isinstance(sample, CutlineError):
                self._fail(describe_source_error(sample))
                continue
            image = describe_image(sample, self.folder)
            if image.name in self._seen:
                self._count_repeated(sample, image)
                continue
            self._seen[image.name] = image.stamp
            if self.update.knows(image):
                self.counts.unchanged += 1
            else:
                yield sample, image

    def _count_repeated(self, sample: Sample, image: IndexedImage) -> None:
        if self._seen[image.name] == image.stamp:
            self.counts.repeated += 1
            return
        problem = f"another image has the same id, {format_value(image.name)}"
        hint = "name a column of unique ids with --id-column"
        self._fail(Failure(image.name, "data", f"{sample.name}: {problem}; {hint}"))

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.counts.unreadable += 1  # in the thread that reads; `failed` is of the other one
        self.listener.on_failure(failure)

    def _record(self, sample: Sample, image: IndexedImage, result: Embedded) -> None:
        if isinstance(result, ImageError):
            failure = describe_error(sample, result)
            self.counts.failed += 1
            self.failures.append(failure)
            self.listener.on_failure(failure)
        else:
            self.counts.embedded += 1
            self.update.add(image, result)
            if self.update.is_due():
                self.update.commit()
        self.listener.on_result(self.counts)
