"""`cutline report`."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result
from cutline.cli.flags import Output, check_report
from cutline.errors import ConfigError
from cutline.progress import progress_bar

DEFAULT_PAGE = "runs.html"
"""report of several runs"""
DEFAULT_SECONDS = 5.0
MIN_SECONDS, MAX_SECONDS = 0.1, 3600.0


def report_command(
    runs: Positional[Annotated[list[str], arg(metavar="RUN")]],
    *,
    output: Output = "",
    watch: bool = False,
    every: Annotated[float | None, arg(metavar="SECONDS")] = None,
) -> int:
    """Write an HTML page of a training run, or of several: curves, settings, captions.

    One run gets the page that training writes: findings, losses, metrics, learning rate, gradient
    norm, memory, speed, and the captions of validation images before training, at the best and at
    the last evaluation. Several runs get one page: each metric is a chart with a line per run, and
    tables show the best results and the settings that differ. Runs that are still training are
    shown as far as they have come; their files are only read.

    Examples:
        cutline report runs/captioner

        cutline report runs/captioner --watch

        cutline report runs/lr-1e-4 runs/lr-1e-5 -o comparison.html

    Args:
        runs: Run directories, the `output` of recipes.
        output: HTML file (default: report.html in the run directory; of several runs: runs.html
            here).
        watch: Write the page again whenever a run has logged something; it loads itself again in
            the browser. This ends when all runs are finished, or with Ctrl-C.
        every: With --watch: seconds between two looks at the runs (default: 5).
    """
    if every is not None and not watch:
        raise ConfigError("--every is for --watch: add --watch, or remove --every")
    seconds = DEFAULT_SECONDS if every is None else every
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise ConfigError(f"--every must be from {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds")
    directories = find_runs(runs, must_exist=not watch)
    path = choose_page(directories, output)
    from cutline.training.run.watch import watch_runs, write_page

    if watch:
        watch_runs(directories, path, seconds, lambda: announce_page(path, len(runs)))
        print_message("the run is finished" if len(runs) == 1 else "the runs are finished")
    else:
        write_page(directories, path, progress=progress_bar)
        print_result(f"{path}\n")
    return 0


def find_runs(paths: list[str], must_exist: bool) -> list[Path]:
    """Return the run directories.

    Raises:
        ConfigError: None is named, or one holds no run, or is named twice.
    """
    if not paths:
        raise ConfigError("name the directory of a run, such as runs/captioner")
    from cutline.training.run.history import check_is_run

    directories: dict[Path, Path] = {}
    for path in map(Path, paths):
        if path.resolve() in directories:
            raise ConfigError(f"{path}: named twice; name each run once")
        directories[path.resolve()] = path
        if must_exist or path.is_file() or (path.is_dir() and any(path.iterdir())):
            check_is_run(path)
        else:
            print_message(f"{path}: waiting for the run to start; Ctrl-C ends this")
    return list(directories.values())


def choose_page(directories: list[Path], output: str) -> Path:
    """Return the HTML file to write.

    Raises:
        ConfigError: It would replace a file that is no report, or the report of one run.
    """
    from cutline.report import is_report
    from cutline.training.run.directory import REPORT_FILE

    pages = [directory / REPORT_FILE for directory in directories]
    path = Path(output or (pages[0] if len(pages) == 1 else DEFAULT_PAGE))
    check_report(str(path))
    if len(pages) > 1 and path.resolve() in [page.resolve() for page in pages]:
        raise ConfigError(f"{path}: is the report of one of the runs; name another file")
    if not output and path.exists() and not is_report(path):
        raise ConfigError(f"{path}: exists, and is no report; name another file with -o")
    return path


def announce_page(path: Path, num_runs: int) -> None:
    """Tell where the page is that follows runs."""
    print_result(f"{path}\n")
    runs = "the run is" if num_runs == 1 else "the runs are"
    print_message(
        f"{path.absolute().as_uri()} loads itself again until {runs} finished; Ctrl-C ends this"
    )
