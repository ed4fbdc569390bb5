"""The run: samples that are not done yet → engine → records → output."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from cutline.bulk.engine import Engine
from cutline.bulk.index import hash_id, is_in_part
from cutline.bulk.job import Result, TextSelection
from cutline.bulk.manifest import Manifest, Status
from cutline.bulk.output import Output
from cutline.bulk.record import (
    Failure,
    Record,
    TextEdit,
    describe_error,
    describe_source_error,
    make_row,
)
from cutline.config import OutputConfig, RunConfig
from cutline.data import Sample
from cutline.data.sample import stamp_image
from cutline.errors import CutlineError, DataError
from cutline.interrupt import Interrupted, StopSignal
from cutline.messages import format_value
from cutline.progress import Progress, no_progress


@dataclass
class Counts:
    """What became of the samples of a run."""

    captioned: int = 0
    not_accepted: int = 0
    """of these, captions that are not written, because their confidence is too low"""
    failed: int = 0
    unreadable: int = 0
    """parts of the source that cannot be read, such as rows of a table"""
    done_before: int = 0
    """captioned by an earlier run"""
    failed_before: int = 0
    existing: int = 0
    """skipped, because they have a text"""
    repeated: int = 0
    """contained in the source several times"""
    gone: int = 0
    """captioned by an earlier run, and not contained in the source any more"""

    @property
    def processed(self) -> int:
        """Return the number of samples that were captioned, or could not be."""
        return self.captioned + self.failed

    @property
    def skipped(self) -> int:
        """Return the number of samples that were not captioned, and did not fail now."""
        return self.done_before + self.failed_before + self.existing + self.repeated

    @property
    def total(self) -> int:
        """Return the number of samples that the source has yielded, and that are dealt with."""
        return self.captioned + self.failed + self.unreadable + self.skipped

    @property
    def all_failed(self) -> int:
        """Return the number of failures, those of earlier runs included."""
        return self.failed + self.unreadable + self.failed_before


@dataclass(frozen=True)
class Listener:
    """What is told of a run while it goes on; nobody listens by default."""

    on_result: Callable[[Counts], None] = lambda counts: None
    """called after each result"""
    on_failure: Callable[[Failure], None] = lambda failure: None
    """called with each failure"""
    on_sample: Callable[[Sample], None] = lambda sample: None
    """called with each sample that is captioned, or has been; perhaps in another thread"""
    progress: Progress = no_progress
    """shows how much of the report is done"""


@dataclass
class CaptionRun:
    """A run over a collection.

    Attributes:
        selects: Whether texts of the source are selected, so that a change of them counts.
        columns: Further columns of all rows.
        counts: What became of its samples so far.
        source_failures: What of the source could not be read, such as rows of a table.
        complete: Whether the source was read to its end, and all of it is recorded.
    """

    manifest: Manifest
    output: Output
    config: RunConfig = field(default_factory=RunConfig)
    output_config: OutputConfig = field(default_factory=OutputConfig)
    listener: Listener = field(default_factory=Listener)
    selects: bool = False
    columns: Mapping[str, Any] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts, init=False)
    source_failures: list[Failure] = field(default_factory=list, init=False)
    complete: bool = field(default=False, init=False)
    _reached_limit: bool = field(default=False, init=False)

    def run(self, samples: Iterable[Sample | CutlineError], engine: Engine) -> None:
        """Caption what is missing, and write the output: at the end, or when the run is stopped.

        Args:
            samples: The collection, with errors for parts of it that cannot be read.
            engine: Captions.

        Raises:
            Interrupted: A signal stopped the run; what is done has been written.
            CutlineError: The run cannot go on, or the output cannot be written.
        """
        self.output.resume(self.manifest)
        with closing(self.output), StopSignal() as stop:
            try:
                self._caption(samples, engine, stop)
            except BaseException:
                if self.manifest.has_records:  # else there is nothing to write
                    self._finish()
                raise
            self._finish()

    def _caption(
        self, samples: Iterable[Sample | CutlineError], engine: Engine, stop: StopSignal
    ) -> None:
        stamps: dict[str, str] = {}  # of the samples that the engine has
        with closing(_as_generator(engine(self._select(samples, stamps)))) as results:
            for sample, result in stop.interrupt_waiting(results):
                self._record(sample, stamps.pop(sample.id), result)
                if stop.requested:
                    raise Interrupted("", stop.signal_number)
        self.complete = not self._reached_limit and not self.source_failures

    def _select(
        self, samples: Iterable[Sample | CutlineError], stamps: dict[str, str]
    ) -> Iterator[Sample]:
        """Yield the samples to caption. The engine may call this in a thread of its own."""
        count = 0
        for sample in samples:
            if isinstance(sample, CutlineError):
                self._fail(describe_source_error(sample))
                continue
            if not self._is_in_part(sample) or not self._is_missing(sample, stamps):
                continue
            count += 1
            if self.config.limit and count > self.config.limit:
                self._reached_limit = True
                return
            yield self.output.prepare(sample)

    def _fail(self, failure: Failure) -> None:
        self.source_failures.append(failure)
        self.counts.unreadable += 1  # in the thread that reads; `failed` is of the other one
        self.listener.on_failure(failure)

    def _is_in_part(self, sample: Sample) -> bool:
        return is_in_part(self.output.part_key(sample), self.config.part_number)

    def _is_missing(self, sample: Sample, stamps: dict[str, str]) -> bool:
        """Return whether a sample is to be captioned, and count it if it is not."""
        stamp = stamp_texts(sample) if self.selects else stamp_sample(sample)
        match self.manifest.claim(sample.id, stamp, self.config.retry_failed):
            case Status.REPEATED:
                self.counts.repeated += 1
                return False
            case Status.AMBIGUOUS:
                self._fail(Failure(sample.id, "data", self._describe_ambiguity(sample)))
                return False
            case Status.FAILED:
                self.counts.failed_before += 1
                return False
            case Status.DONE:
                self.counts.done_before += 1
                self.output.note(sample, done=True)
                self.listener.on_sample(sample)
                return False
        if self.output.skips(sample):
            self.counts.existing += 1
            return False
        self.output.note(sample, done=False)
        self.listener.on_sample(sample)
        stamps[sample.id] = stamp
        return True

    def _describe_ambiguity(self, sample: Sample) -> str:
        name, id = sample.name, format_value(sample.id)
        if self.selects:
            return (
                f"{name}: the data has other captions of the same id, {id}; put all rows of an "
                "image one after the other, or name a column of unique ids with --id-column"
            )
        return (
            f"{name}: another image or prompt has the same id, {id}; "
            "name a column of unique ids with --id-column"
        )

    def _record(self, sample: Sample, stamp: str, result: Result) -> None:
        record = self._make_record(sample, stamp, result)
        if failure := record.failure:
            self.counts.failed += 1
            self.listener.on_failure(failure)
        else:
            self.counts.captioned += 1
            self.counts.not_accepted += record.not_accepted
        self.manifest.add(record)
        if self.output.is_immediate or self.manifest.is_due():
            self._commit()
        self.listener.on_result(self.counts)

    def _make_record(self, sample: Sample, stamp: str, result: Result) -> Record:
        error = result
        if not isinstance(result, CutlineError):
            row = make_row(sample, result, self.output_config)
            row |= {**self.columns, **self.output.describe_sample(sample)}
            record = Record(sample.id, stamp, row)
            if isinstance(result, TextSelection):
                record = replace(record, kept=result.kept, dropped=result.dropped)
            elif not (self.output.has_all_captions or self._is_accepted(row)):
                record = replace(record, not_accepted=True)
            try:
                return replace(record, edit=self._plan_edit(sample, record))
            except DataError as raised:  # the text file that exists cannot be read
                error = raised
        assert isinstance(error, CutlineError)
        failure = describe_error(sample, error)
        return Record(sample.id, stamp, kind=failure.kind, reason=failure.reason)

    def _is_accepted(self, row: Mapping[str, Any]) -> bool:
        return self.output_config.accepts(row["confidence"])

    def _plan_edit(self, sample: Sample, record: Record) -> TextEdit | None:
        """Return the change of a text file; one that is not accepted removes only older ones."""
        if record.not_accepted:
            last = self.manifest.find_record(sample.id)
            if last is None or last.edit is None:
                return None
        return self.output.plan_edit(sample, record.texts)

    def _commit(self) -> None:
        if records := self.manifest.commit():
            self.output.write(records)

    def _finish(self) -> None:
        self._commit()
        self.output.finish(self.manifest, self.complete)
        self.counts.gone = self.manifest.count_gone() if self.complete else 0
        for failure in self.output.iter_failures():
            self.counts.failed += 1
            self.listener.on_failure(failure)

    def iter_failures(self) -> Iterator[Failure]:
        """Yield what failed, in this run and in earlier ones."""
        yield from self.source_failures
        yield from self.manifest.iter_failures(seen_only=self.complete)
        yield from self.output.iter_failures()


def _as_generator(results: Iterator[tuple[Sample, Result]]) -> Generator[tuple[Sample, Result]]:
    yield from results


def stamp_sample(sample: Sample) -> str:
    """Return what changes when the image of a sample does, or its prompt; empty if unknown."""
    stamp = stamp_image(sample.image)
    if sample.prompt is None or not stamp:
        return stamp
    return f"{stamp} {hash_id(sample.prompt).hex()}"


def stamp_texts(sample: Sample) -> str:
    """Return what changes when the image of a sample does, its prompt, or its texts."""
    return f"{stamp_sample(sample)} {hash_id(repr(sample.captions)).hex()}"
