"""Run a job on a collection: sources → what is missing → engine → manifest and output."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cutline.bulk.destination import Destination, find_destination
from cutline.bulk.dispatch import choose_engine, make_output, make_selection_output
from cutline.bulk.job import Job
from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.random_samples import RandomSamples, shrink_image
from cutline.bulk.record import Failure, Record
from cutline.bulk.report import write_collection_report
from cutline.bulk.run import CaptionRun, Counts, Listener
from cutline.bulk.sources import Collection
from cutline.bulk.state import remove_state
from cutline.config import OutputConfig, ReportConfig, RunConfig
from cutline.data import write_captions
from cutline.files import remove_partial
from cutline.interrupt import Interrupted
from cutline.report import About


@dataclass(frozen=True)
class Selection:
    """What a job that selects texts needs, beyond what captioning does."""

    make_columns: Callable[[], Mapping[str, Any]]
    """returns further columns of all rows"""
    finish: Callable[[CaptionRun, RandomSamples], Sequence[str]]
    """called at the end of a run, also if it is stopped, with random samples; writes reports, and
    returns what was written where"""


@dataclass(frozen=True)
class CollectionSettings:
    """What is done with a collection, and where captions go."""

    job: Job
    output: str = ""
    """file or folder, as `find_destination` takes it"""
    outputs: OutputConfig = field(default_factory=OutputConfig)
    run: RunConfig = field(default_factory=RunConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    about: About = field(default_factory=About)
    """what the report says that it is of"""
    selection: Selection | None = None
    """for a job that selects texts"""


@dataclass(frozen=True)
class Summary:
    """What came of a run."""

    counts: Counts
    written: Sequence[str] = ()
    """what was written where"""
    failures: Path | None = None
    """the list of what failed, if it is a file"""


def process_collection(
    collection: Collection,
    settings: CollectionSettings,
    show: Callable[[Record], None],
    listener: Listener,
) -> Summary:
    """Caption what is missing of a collection, or do with it what the job is.

    Args:
        collection: The images.
        settings: What is done with them, and where captions go.
        show: Called with each caption, if captions are printed.
        listener: What is told of the run.

    Returns:
        What became of the images.

    Raises:
        ConfigError: The output belongs to a run with other settings, or to none.
        Interrupted: A signal stopped the run; what is done has been written.
        CutlineError: The run cannot go on.
    """
    destination = choose_destination(collection, settings)
    destination.check(settings.run.new_run)
    output = _open_output(destination, collection, settings, show)
    state, selection = destination.state, settings.selection
    description = describe_settings(collection, settings, state)
    if state and settings.run.new_run:
        remove_state(state, output.forget)
    with (
        _open_folder(state, settings.report.report) as folder,
        Manifest(folder, description) as manifest,
    ):
        if destination.failures:
            remove_partial([destination.path, destination.failures])
        samples = RandomSamples(settings.report.report_images, shrink_image)
        if settings.report.report:
            listener = replace(listener, on_sample=samples.add)
        run = CaptionRun(manifest, output, settings.run, settings.outputs, listener)
        if selection:
            run.selects, run.columns = True, selection.make_columns()
        written: Sequence[str] = ()
        try:
            engine = choose_engine(settings.job, settings.run, ordered=state is None)
            run.run(collection.iter_samples(output, run.selects), engine)
        except Interrupted as error:
            raise _explain_stop(error, run, state) from None
        finally:
            if destination.failures:
                write_failures(destination.failures, run.iter_failures())
            if selection and manifest.has_records:
                written = selection.finish(run, samples)
            elif settings.report.report and manifest.has_records:
                write_collection_report(settings.report.report, run, samples, settings.about)
    return Summary(run.counts, [*output.describe(), *written], destination.failures)


def _open_output(
    destination: Destination,
    collection: Collection,
    settings: CollectionSettings,
    show: Callable[[Record], None],
) -> Output:
    if settings.selection:
        return make_selection_output(destination, collection, settings.outputs)
    part = settings.run.part_number
    return make_output(destination, collection, settings.outputs, part, show)


@contextmanager
def _open_folder(state: Path | None, report: str) -> Iterator[Path | None]:
    """Yield the folder of the manifest, which a report needs also if captions are printed."""
    if state or not report:
        yield state
        return
    with TemporaryDirectory(prefix="cutline-") as folder:
        yield Path(folder)


def _explain_stop(error: Interrupted, run: CaptionRun, state: Path | None) -> Interrupted:
    """Return the error of a run that was stopped, with what it has done, and how to go on."""
    message = f"stopped after {run.counts.captioned:,} {'images' if run.selects else 'captions'}"
    if state:
        message += "; the same command goes on from there"
    return Interrupted(message, error.signal_number)


def choose_destination(collection: Collection, settings: CollectionSettings) -> Destination:
    """Return where the captions of a collection go."""
    suffix = settings.run.part_suffix
    return find_destination(
        settings.output, settings.outputs, suffix, collection.folder, collection.from_shards
    )


def describe_settings(
    collection: Collection, settings: CollectionSettings, state: Path | None
) -> dict[str, Any]:
    """Return what the captions depend on, for the manifest in the folder `state`."""
    if state is None:
        return {}
    layout: dict[str, Any] = {}
    destination = choose_destination(collection, settings)
    if destination.kind in ("text", "shard", "shards"):
        layout["caption_extension"] = destination.extension
    if destination.kind != "file" and settings.outputs.min_confidence:
        layout["min_confidence"] = settings.outputs.min_confidence
    if destination.kind == "shards":
        layout["shard_size"] = str(settings.outputs.shard_size)
    return {
        **collection.describe(state),
        **layout,
        **settings.job.describe(settings.outputs),
    }


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write a list of what failed; remove the list of an earlier run if nothing did."""
    iterator = iter(failures)
    first = next(iterator, None)
    if first is None:
        path.unlink(missing_ok=True)
        return
    rows = (dataclasses.asdict(failure) for failure in itertools.chain([first], iterator))
    write_captions(path, rows)
