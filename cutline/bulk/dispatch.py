"""Choose the engine and the output of a run."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial

from cutline.bulk.destination import Destination, Kind
from cutline.bulk.engine import Engine, caption_locally
from cutline.bulk.job import Job, Result
from cutline.bulk.new_shards import NewShardOutput
from cutline.bulk.output import (
    FileOutput,
    ImagefolderOutput,
    Output,
    PrintedOutput,
    ResultsOutput,
)
from cutline.bulk.overlap import reject_source_output
from cutline.bulk.record import Record
from cutline.bulk.shard_copies import ShardCopyOutput
from cutline.bulk.sources import Collection
from cutline.bulk.text_output import TextOutput
from cutline.config import OutputConfig, RunConfig
from cutline.data import Sample
from cutline.errors import ConfigError
from cutline.messages import format_text

_USED_SETTINGS: dict[Kind, tuple[str, ...]] = {
    "print": (),
    "file": (),
    "text": ("existing", "caption_extension", "folder_format"),
    "sidecars": ("existing", "caption_extension"),
    "shard": ("caption_extension",),
    "shards": ("caption_extension", "folder_format", "shard_size"),
}
"""settings besides the template that have an effect on an output; on copies of shards, those of
`reject_unused_settings`"""


def choose_engine(job: Job, run: RunConfig, ordered: bool) -> Engine:
    """Return the engine that the settings ask for; it loads the model when it has work to do.

    Args:
        job: How to caption.
        run: Where.
        ordered: Whether results must come in the order of the samples.
    """
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
        return partial(caption_locally, job=job, ordered=ordered)
    return partial(in_order, engine) if ordered else engine


def in_order(engine: Engine, samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
    """Caption samples with an engine, and yield the results in the order of the samples."""
    waiting = deque[str]()  # which the engine may extend in another thread

    def read() -> Iterator[Sample]:
        for sample in samples:
            waiting.append(sample.id)
            yield sample

    done: dict[str, tuple[Sample, Result]] = {}
    for sample, result in engine(read()):
        done[sample.id] = sample, result
        while waiting and waiting[0] in done:
            yield done.pop(waiting.popleft())


def make_output(
    destination: Destination,
    collection: Collection,
    outputs: OutputConfig,
    part: tuple[int, int],
    show: Callable[[Record], None],
) -> Output:
    """Return the output of captions at a destination.

    Args:
        destination: Where captions go.
        collection: The images.
        outputs: How captions are written.
        part: I and N of part I/N of the collection.
        show: Called with each caption, if captions are printed.

    Raises:
        ConfigError: The destination cannot have the captions of these images, or a setting has no
            effect there.
    """
    require_local_images(destination, collection)
    copies_shards = collection.from_shards and destination.kind in ("shard", "shards")
    has_columns = destination.kind in ("file", "shard", "shards") and not copies_shards
    caption_settings = ["style", "min_confidence"]
    if has_columns and not (destination.is_imagefolder or destination.is_results):
        caption_settings.append("words")
    reject_unused_settings(destination, outputs, copies_shards, caption_settings)
    match destination.kind:
        case "print":
            return PrintedOutput(show)
        case "file" if destination.is_results:
            return ResultsOutput(destination.path, outputs.min_confidence)
        case "file" if destination.is_imagefolder:
            return ImagefolderOutput(destination.path, outputs.min_confidence)
        case "file":
            return FileOutput(destination.path, outputs.min_confidence)
        case "text" | "sidecars":
            return _make_text_output(destination, collection, outputs)
    if copies_shards:
        return _make_shard_copies(destination, collection, outputs, part)
    return _make_new_shards(destination, outputs)


def make_selection_output(
    destination: Destination, collection: Collection, outputs: OutputConfig
) -> Output:
    """Return the output of selected texts at a destination.

    Shards of the source are not copied with all their members: an image without texts is left out.

    Raises:
        ConfigError: As for `make_output`; texts cannot be printed, or would be read again.
    """
    if destination.kind == "print":
        raise ConfigError("name the file or folder to write, such as -o kept.jsonl")
    if destination.is_results:
        raise ConfigError(
            f"{destination.path}: COCO results have one caption of each image; write the texts to "
            f"{destination.path.with_suffix('.jsonl').name} instead"
        )
    reject_source_output(destination, collection)
    require_local_images(destination, collection)
    reject_unused_settings(destination, outputs)
    match destination.kind:
        case "file" if destination.is_imagefolder:
            return ImagefolderOutput(destination.path)
        case "file":
            return FileOutput(destination.path, relative_paths=True)
        case "text" | "sidecars":
            return _make_text_output(destination, collection, outputs)
    return _make_new_shards(destination, outputs)


def _make_text_output(
    destination: Destination, collection: Collection, outputs: OutputConfig
) -> Output:
    folder = destination.path if destination.kind == "text" else None
    return TextOutput(folder, collection.folder, destination.extension, outputs.existing)


def _make_new_shards(destination: Destination, outputs: OutputConfig) -> Output:
    shard_size = None if destination.kind == "shard" else outputs.shard_size
    suffix = destination.suffix
    return NewShardOutput(destination.path, destination.extension, shard_size, suffix)


def _make_shard_copies(
    destination: Destination,
    collection: Collection,
    outputs: OutputConfig,
    part: tuple[int, int],
) -> Output:
    is_single = destination.kind == "shard"
    if is_single and len(collection.inputs) > 1:
        raise ConfigError(
            f"{destination.path}: a single shard, which cannot have the captions of several; "
            "name a folder as output"
        )
    return ShardCopyOutput(
        destination.path,
        destination.extension,
        outputs.existing,
        is_single=is_single,
        part=part,
        open_shard=collection.open_shard,
    )


def reject_unused_settings(
    destination: Destination,
    outputs: OutputConfig,
    copies_shards: bool = False,
    others: Sequence[str] = (),
) -> None:
    """Raise ConfigError for a setting that has no effect on the output, and is not in `others`."""
    used = {"caption_template", *_USED_SETTINGS[destination.kind], *others}
    if copies_shards:
        used = used - {"shard_size"} | {"existing"}
    for setting in fields(OutputConfig):
        if getattr(outputs, setting.name) != setting.default and setting.name not in used:
            raise ConfigError(
                f"{setting.name} has no effect on this output: remove it, or name another output"
            )


def require_local_images(destination: Destination, collection: Collection) -> None:
    """Raise ConfigError if images should have captions beside them, and are certainly no files."""
    place = next((source.place for source in collection.inputs if source.place), "")
    if place and (destination.kind == "sidecars" or destination.is_imagefolder):
        raise ConfigError(
            f"{format_text(place)}: has no image files on this machine that captions could be "
            "written beside; name a folder or a file as output"
        )
