"""Caption a collection: sources → what is missing → engine → manifest and output."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cutline.bulk.destination import Destination, find_destination
from cutline.bulk.dispatch import choose_engine, make_output
from cutline.bulk.engine import CaptionJob
from cutline.bulk.manifest import Manifest
from cutline.bulk.record import Failure, Record
from cutline.bulk.report import RandomSamples, write_collection_report
from cutline.bulk.run import CaptionRun, Counts, Listener
from cutline.bulk.sources import Collection
from cutline.bulk.state import remove_state
from cutline.checkpoint import load_checkpoint, load_matcher_checkpoint
from cutline.config import GenerationConfig, OutputConfig, RunConfig
from cutline.data import write_captions
from cutline.files import remove_partial
from cutline.interrupt import Interrupted


@dataclass(frozen=True)
class CollectionSettings:
    """How a collection is captioned, and where its captions go."""

    job: CaptionJob
    output: str = ""
    """file or folder, as `find_destination` takes it"""
    outputs: OutputConfig = field(default_factory=OutputConfig)
    run: RunConfig = field(default_factory=RunConfig)
    report: str = ""
    """HTML file to write; "" for none"""


@dataclass(frozen=True)
class Summary:
    """What came of a run."""

    counts: Counts
    written: Sequence[str] = ()
    """what was written where"""
    failures: Path | None = None
    """the list of what failed, if it is a file"""


def caption_collection(
    collection: Collection,
    settings: CollectionSettings,
    show: Callable[[Record], None],
    listener: Listener,
) -> Summary:
    """Caption what is missing of a collection.

    Args:
        collection: The images.
        settings: How they are captioned, and where captions go.
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
    part = settings.run.part_number
    output = make_output(destination, collection, settings.outputs, part, show)
    state = destination.state
    description = describe_settings(collection, settings, state)
    if state and settings.run.new_run:
        remove_state(state, output.forget)
    with (
        _open_folder(state, settings.report) as folder,
        Manifest(folder, description) as manifest,
    ):
        if destination.failures:
            remove_partial([destination.path, destination.failures])
        samples = RandomSamples()
        if settings.report:
            listener = replace(listener, on_sample=samples.add)
        run = CaptionRun(manifest, output, settings.run, settings.outputs, listener)
        try:
            engine = choose_engine(settings.job, settings.run, ordered=state is None)
            run.run(collection.iter_samples(output), engine)
        except Interrupted as error:
            raise _explain_stop(error, run.counts, state) from None
        finally:
            if destination.failures:
                write_failures(destination.failures, run.iter_failures())
            if settings.report and manifest.has_records:
                write_collection_report(settings.report, run, samples)
    return Summary(run.counts, output.describe(), destination.failures)


@contextmanager
def _open_folder(state: Path | None, report: str) -> Iterator[Path | None]:
    """Yield the folder of the manifest, which a report needs also if captions are printed."""
    if state or not report:
        yield state
        return
    with TemporaryDirectory(prefix="cutline-") as folder:
        yield Path(folder)


def _explain_stop(error: Interrupted, counts: Counts, state: Path | None) -> Interrupted:
    """Return the error of a run that was stopped, with what it has done, and how to go on."""
    message = f"stopped after {counts.captioned:,} captions"
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
    """Return what the captions depend on, for the manifest in the folder `state`.

    Generation settings at their defaults are left out, so that later versions can have more.
    """
    if state is None:
        return {}
    job = settings.job
    defaults = dataclasses.asdict(GenerationConfig())
    generation = dataclasses.asdict(job.generation)
    destination, layout = choose_destination(collection, settings), {}
    if destination.kind in ("text", "shard", "shards"):
        layout["caption_extension"] = destination.extension
    if destination.kind == "shards":
        layout["shard_size"] = str(settings.outputs.shard_size)
    return {
        **collection.describe(state),
        **layout,
        "model": hash_model(job),
        "precision": job.inference.precision,
        "prompt": job.prompt,
        "caption_template": settings.outputs.caption_template,
        **{name: value for name, value in generation.items() if value != defaults[name]},
        **_describe_reranking(job),
    }


def _describe_reranking(job: CaptionJob) -> dict[str, Any]:
    if not job.reranking.rerank:
        return {}
    return {
        "rerank": job.reranking.rerank,
        "matcher": hash_matcher(job),
        "keep": job.reranking.keep,
    }


def hash_model(job: CaptionJob) -> str:
    """Return the fingerprint of the captioner that a job loads."""
    return load_checkpoint(job.model, **job.checkpoint.arguments).fingerprint()


def hash_matcher(job: CaptionJob) -> str:
    """Return the fingerprint of the matcher that a job loads."""
    options = job.reranking.checkpoint_options.arguments
    return load_matcher_checkpoint(job.reranking.matcher, **options).fingerprint()


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write a list of what failed; remove the list of an earlier run if nothing did."""
    iterator = iter(failures)
    first = next(iterator, None)
    if first is None:
        path.unlink(missing_ok=True)
        return
    rows = (dataclasses.asdict(failure) for failure in itertools.chain([first], iterator))
    write_captions(path, rows)
