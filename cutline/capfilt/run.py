"""Filter a collection: on the machinery of bulk captioning, with texts in place of captions."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from cutline.bulk.collection import (
    CollectionSettings,
    Selection,
    Summary,
    choose_destination,
    process_collection,
)
from cutline.bulk.destination import Destination
from cutline.bulk.inputs import open_collection
from cutline.bulk.overlap import reject_source_file
from cutline.bulk.random_samples import RandomSamples
from cutline.bulk.run import CaptionRun, Listener
from cutline.bulk.sources import Collection
from cutline.bulk.state import has_state
from cutline.capfilt.counts import count_texts
from cutline.capfilt.job import FilterJob
from cutline.capfilt.report import write_filter_report
from cutline.config import (
    DataSource,
    OutputConfig,
    RatioOptions,
    ReportConfig,
    RunConfig,
    SourceConfig,
    UrlPolicy,
)
from cutline.data import write_captions
from cutline.data.write import find_table_format
from cutline.errors import ConfigError
from cutline.files import check_writable, relative_path, remove_partial
from cutline.report import About, flatten_settings


@dataclass(frozen=True)
class FilterSettings:
    """How a collection is filtered, and where texts go."""

    job: FilterJob
    output: str
    """file or folder, as for captions"""
    dropped: str = ""
    """table of the texts that are not kept; "" for none"""
    report: ReportConfig = field(default_factory=ReportConfig)
    outputs: OutputConfig = field(default_factory=OutputConfig)
    run: RunConfig = field(default_factory=RunConfig)


def filter_captions(
    data: str | Path | Sequence[str | Path],
    job: FilterJob,
    output: str | Path,
    *,
    dropped: str | Path = "",
    report: str | Path = "",
) -> Summary:
    """Keep the captions of a dataset that match their images, and write them.

    The same call goes on where it was stopped or killed, and scores only what is missing.

    Example:
        job = FilterJob(MatcherOptions("runs/matcher"), FilterConfig(threshold=0.7))
        filter_captions("photos.jsonl", job, "kept.jsonl", dropped="dropped.jsonl")

    Args:
        data: Path of the dataset, or several, as `cutline filter` takes them.
        job: What scores texts, the threshold and, for CapFilt, the captioner that adds texts.
        output: File or folder to write: a table with a row for each text, a folder of .txt files or
            of tar shards, or a .tar file.
        dropped: Table of the texts that are not kept; "" for none.
        report: HTML report; "" for none.

    Returns:
        What became of the images.

    Raises:
        ConfigError: A setting is invalid, or the output belongs to a run with other settings.
        CutlineError: The data or a model cannot be read, or the output cannot be written.
    """
    paths = [data] if isinstance(data, str | Path) else data
    if not paths:
        raise ConfigError("name the data to filter: a table, a folder, or tar shards")
    collection = open_collection(list(map(str, paths)), SourceConfig(), DataSource(""), UrlPolicy())
    settings = FilterSettings(job, str(output), str(dropped), ReportConfig(str(report)))
    return run_filter(collection, settings, Listener())


def run_filter(collection: Collection, settings: FilterSettings, listener: Listener) -> Summary:
    """Filter what is missing of a collection.

    Args:
        collection: The images, with their texts.
        settings: Which texts are kept, and where they go.
        listener: What is told of the run.

    Returns:
        What became of the images.

    Raises:
        ConfigError: The output belongs to a run with other settings.
        Interrupted: A signal stopped the run; what is done has been written.
        CutlineError: The run cannot go on.
    """
    job = settings.job
    bulk = CollectionSettings(job, settings.output, settings.outputs, settings.run, settings.report)
    destination = choose_destination(collection, bulk)
    dropped = _choose_dropped(settings)
    is_new = destination.state is None or not has_state(destination.state)
    if dropped:
        _reject_own_output(dropped, destination)
        _check_dropped(dropped, collection, is_new and not settings.run.new_run)
    folder = destination.path.parent if destination.kind == "file" else Path()
    finish = partial(
        _finish,
        settings=settings,
        dropped=dropped,
        folder=folder,
        about=describe_filter(collection, job),
    )
    selection = Selection(lambda: job.fingerprints, finish)
    return process_collection(
        collection, replace(bulk, selection=selection), lambda _: None, listener
    )


def _choose_dropped(settings: FilterSettings) -> Path | None:
    """Return the table of dropped texts; that of a part of the collection has its own name."""
    if not settings.dropped:
        return None
    find_table_format(settings.dropped)
    path = Path(settings.dropped)
    return path.with_name(f"{path.stem}{settings.run.part_suffix}{path.suffix}")


def _reject_own_output(dropped: Path, destination: Destination) -> None:
    """Raise ConfigError if dropped texts would replace what the run writes, or be in its state."""
    written = map(os.path.realpath, filter(None, (destination.path, destination.failures)))
    state = destination.state and Path(os.path.realpath(destination.state))
    path = Path(os.path.realpath(dropped))
    if str(path) in written or state in path.parents:
        raise ConfigError(f"{dropped}: the run writes that itself; name another file for --dropped")


def _check_dropped(path: Path, collection: Collection, is_new: bool) -> None:
    reject_source_file(path, collection)
    if is_new and path.exists():
        raise ConfigError(f"{path}: exists; name another file, or replace it with --new-run")
    check_writable(path)
    remove_partial([path])


def _finish(
    run: CaptionRun,
    samples: RandomSamples,
    *,
    settings: FilterSettings,
    dropped: Path | None,
    folder: Path,
    about: About,
) -> list[str]:
    """Write dropped texts and the report, and return what was kept and dropped."""
    records = run.manifest.iter_records(run.complete)
    total = len(run.manifest.index.order(run.complete))
    counts = count_texts(run.listener.progress(records, total, "counting texts"))
    lines = [counts.describe()]
    if dropped:
        write_captions(dropped, _iter_dropped(run, folder, dropped), list(run.manifest.columns))
        lines.append(f"{dropped}: {counts.dropped.total():,} texts that do not match")
    if path := settings.report.report:
        write_filter_report(path, run, samples, counts, settings.job.filter, about)
    return lines


def describe_filter(collection: Collection, job: FilterJob) -> About:
    """Return what a report says of a run that filters a collection."""
    if isinstance(job.scorer, RatioOptions):
        models = {"Captioner": job.scorer.captioner}
    else:
        models = {"Matcher": job.scorer.matcher}
    settings = {
        **flatten_settings(job.filter),
        "threshold": job.filter.minimum,
        **flatten_settings(job.scorer),
        **flatten_settings(job.inference),
    }
    if job.adds_texts:
        models["Captioner"] = job.captioner.captioner
        settings |= {"prompt": job.prompt, **flatten_settings(job.generation)}
        settings |= flatten_settings(job.captioner)
    return About(collection.title, others=models, settings=settings)


def _iter_dropped(run: CaptionRun, folder: Path, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of dropped texts.

    Args:
        run: The run.
        folder: What paths of images are relative to.
        path: The table; the rows have paths relative to its folder.
    """
    for record in run.manifest.iter_records(run.complete):
        rows = record.dropped_rows
        image = record.row.get("image", "")
        if rows and not os.path.isabs(image) and (folder / image).is_file():  # noqa: PTH117
            image = relative_path(folder / image, path.parent)
        yield from ({**row, "image": image} for row in rows)
