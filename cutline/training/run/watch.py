"""Pages that follow runs while they train; the files of the runs are only read."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cutline.progress import Progress, no_progress
from cutline.report import write_report
from cutline.training.run.history import RUN_FILES, read_history
from cutline.training.run.report import make_run_report
from cutline.training.run.runs_report import make_runs_report

IDLE_RATIO = 10
"""time between two looks relative to that of writing a page: training needs the processor"""
Stamp = tuple[tuple[int, int] | None, ...]


def write_page(
    directories: Sequence[Path], path: Path, refresh: float = 0, progress: Progress = no_progress
) -> bool:
    """Write a report of one run, or of several.

    Args:
        directories: Run directories.
        path: The HTML file.
        refresh: Seconds after which the page loads itself again, unless all runs are finished.
        progress: Shows how many images are done.

    Returns:
        Whether all runs are finished.
    """
    runs = [read_history(directory) for directory in directories]
    is_finished = all(run.is_finished for run in runs)
    refresh = 0 if is_finished else refresh
    if len(runs) == 1:
        report = make_run_report(runs[0], refresh)
    else:
        report = make_runs_report(runs, refresh)
    write_report(path, report, progress)
    return is_finished


def watch_runs(
    directories: Sequence[Path], path: Path, seconds: float, announce: Callable[[], None]
) -> None:
    """Write a page again whenever a run has logged something, until all runs are finished.

    In the end, the page no longer loads itself. If a run is deleted, the page stays as it is until
    there is one again.

    Args:
        directories: Run directories, which may not exist yet.
        path: The HTML file.
        seconds: Time between two looks at the runs.
        announce: Called when there is a page for the first time.
    """
    written: list[Stamp] | None = None
    is_announced, pause = False, seconds
    try:
        while True:
            stamps = [_stamp_files(directory) for directory in directories]
            if (
                stamps != written
                and not _is_in_missing_run(path, directories)
                and not _is_deleted(stamps, written)
            ):
                start, written = time.monotonic(), stamps
                is_finished = write_page(directories, path, seconds)
                pause = max(seconds, IDLE_RATIO * (time.monotonic() - start))
                if not is_announced:
                    announce()
                    is_announced = True
                if is_finished:
                    return
            time.sleep(pause)
    except KeyboardInterrupt:
        stamps = [_stamp_files(directory) for directory in directories]
        if written is not None and not _is_deleted(stamps, written):
            write_page(directories, path)
        raise


def _is_deleted(stamps: Sequence[Stamp], written: Sequence[Stamp] | None) -> bool:
    """Return whether a run that the page shows has no files any more: the page keeps it."""
    pairs = zip(stamps, written or (), strict=False)
    return any(any(before) and not any(now) for now, before in pairs)


def _is_in_missing_run(path: Path, directories: Sequence[Path]) -> bool:
    """Return whether a page would be in the directory of a run that has not created it yet."""
    folders = [directory.resolve() for directory in directories]
    return path.parent.resolve() in folders and not path.parent.is_dir()


def _stamp_files(directory: Path) -> Stamp:
    """Return the time and size of each file of a run; None for those that do not exist."""
    stamps: list[tuple[int, int] | None] = []
    for name in RUN_FILES:
        try:
            status = (directory / name).stat()
        except FileNotFoundError:
            stamps.append(None)
        else:
            stamps.append((status.st_mtime_ns, status.st_size))
    return tuple(stamps)
