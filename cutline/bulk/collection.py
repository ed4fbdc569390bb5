"""Caption a collection: sources → what is missing → engine → manifest and output."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cutline.bulk.destination import Destination, find_destination
from cutline.bulk.engine import CaptionJob, Engine, Result, caption_samples
from cutline.bulk.manifest import Manifest, remove_manifest
from cutline.bulk.new_shards import NewShardOutput
from cutline.bulk.output import FileOutput, Output, PrintedOutput
from cutline.bulk.record import Failure, Record
from cutline.bulk.report import RandomSamples, write_collection_report
from cutline.bulk.run import CaptionRun, Counts
from cutline.bulk.shard_copies import ShardCopyOutput
from cutline.bulk.sources import Collection
from cutline.bulk.text_output import TextOutput
from cutline.checkpoint import load_checkpoint
from cutline.config import GenerationConfig, OutputConfig, RunConfig
from cutline.data import Sample, write_captions
from cutline.errors import ConfigError
from cutline.interrupt import Interrupted
from cutline.messages import format_text


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


@dataclass
class Listener:
    """What is told of a run while it goes on; nobody listens by default."""

    show: Callable[[Record], None] = lambda record: None
    """called with each caption, if they are printed"""
    on_result: Callable[[Counts], None] = lambda counts: None
    on_failure: Callable[[Failure], None] = lambda failure: None


def caption_collection(
    collection: Collection, settings: CollectionSettings, listener: Listener
) -> Summary:
    """Caption what is missing of a collection.

    Args:
        collection: The images.
        settings: How they are captioned, and where captions go.
        listener: What is told of it.

    Returns:
        What became of the images.

    Raises:
        ConfigError: The output belongs to a run with other settings, or to none.
        Interrupted: A signal stopped the run; what is done has been written.
        CutlineError: The run cannot go on.
    """
    destination = choose_destination(collection, settings)
    destination.check(settings.run.new_run)
    output = make_output(destination, collection, settings, listener.show)
    state = destination.state
    description = describe_settings(collection, settings, state)
    if state and settings.run.new_run:
        remove_manifest(state, output.forget)
    with (
        _open_folder(state, settings.report) as folder,
        Manifest(folder, description) as manifest,
    ):
        run = CaptionRun(manifest, output, settings.run, settings.outputs)
        run.on_result, run.on_failure = listener.on_result, listener.on_failure
        samples = RandomSamples()
        if settings.report:
            run.on_sample = samples.add
        try:
            run.run(collection.iter_samples(output), choose_engine(settings, ordered=state is None))
        except Interrupted as error:
            raise _explain_stop(error, run.counts, state) from None
        finally:
            if destination.failures:
                write_failures(destination.failures, run.iter_failures())
            if settings.report:
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


def make_output(
    destination: Destination,
    collection: Collection,
    settings: CollectionSettings,
    show: Callable[[Record], None],
) -> Output:
    """Return the output at a destination."""
    require_local_images(destination, collection)
    match destination.kind:
        case "print":
            return PrintedOutput(show)
        case "file":
            return FileOutput(destination.path)
        case "text" | "sidecars":
            folder = destination.path if destination.kind == "text" else None
            return TextOutput(folder, destination.extension, settings.outputs.existing)
    is_single = destination.kind == "shard"
    if is_single and collection.from_shards and len(collection.inputs) > 1:
        raise ConfigError(
            f"{destination.path}: a single shard, which cannot have the captions of several; "
            "name a folder as output"
        )
    if collection.from_shards:
        return ShardCopyOutput(
            destination.path,
            destination.extension,
            settings.outputs.existing,
            is_single=is_single,
            part=settings.run.part_number,
            open_shard=collection.open_shard,
        )
    shard_size = None if is_single else settings.outputs.shard_size
    return NewShardOutput(destination.path, destination.extension, shard_size, destination.suffix)


def require_local_images(destination: Destination, collection: Collection) -> None:
    """Raise ConfigError if images should have captions beside them, and are certainly no files."""
    place = next((source.place for source in collection.inputs if source.place), "")
    if place and (destination.kind == "sidecars" or destination.is_imagefolder):
        raise ConfigError(
            f"{format_text(place)}: has no image files on this machine that captions could be "
            "written beside; name a folder or a file as output"
        )


def choose_engine(settings: CollectionSettings, ordered: bool) -> Engine:
    """Return the engine that the settings ask for; it loads the model when it has work to do.

    Args:
        settings: The settings.
        ordered: Whether results must come in the order of the samples.
    """
    job, run = settings.job, settings.run
    if run.cluster:
        from cutline.bulk.ray_cluster import caption_on_ray

        num_actors = run.ray_actors or None
        engine: Engine = partial(
            caption_on_ray, job=job, address=run.ray_address, num_actors=num_actors
        )
    elif run.devices:
        from cutline.bulk.processes import caption_in_processes

        engine = partial(caption_in_processes, job=job, devices=run.devices)
    else:
        return lambda samples: caption_samples(job.load(), job, samples, ordered)
    return partial(in_order, engine) if ordered else engine


def in_order(engine: Engine, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
    """Caption samples with an engine, and yield the results in the order of the samples."""
    waiting: dict[str, Result | None] = {}

    def read() -> Iterator[Sample]:
        for sample in samples:
            waiting[sample.id] = None
            yield sample

    done: dict[str, tuple[Sample, Result]] = {}
    for sample, result in engine(read()):
        done[sample.id] = sample, result
        while waiting and (first := next(iter(waiting))) in done:
            del waiting[first]
            yield done.pop(first)


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
    sizes = {}
    if state and choose_destination(collection, settings).kind == "shards":
        sizes["shard_size"] = settings.outputs.shard_size
    return {
        **collection.describe(state),
        **sizes,
        "model": hash_model(job),
        "precision": job.inference.precision,
        "prompt": job.prompt,
        "caption_template": settings.outputs.caption_template,
        **{name: value for name, value in generation.items() if value != defaults[name]},
    }


def hash_model(job: CaptionJob) -> str:
    """Return the fingerprint of the captioner that a job loads."""
    options = job.checkpoint
    return load_checkpoint(
        job.model, options.config or None, options.tokenizer or None, options.image_size or None
    ).fingerprint()


def write_failures(path: Path, failures: Iterable[Failure]) -> None:
    """Write a list of what failed; remove the list of an earlier run if nothing did."""
    iterator = iter(failures)
    first = next(iterator, None)
    if first is None:
        path.unlink(missing_ok=True)
        return
    rows = (dataclasses.asdict(failure) for failure in itertools.chain([first], iterator))
    write_captions(path, rows)
