"""`cutline report`: which page it writes, what it refuses, and how it follows runs."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from forked import start_command
from html_reader import read_galleries, read_page
from written_runs import make_log, write_log, write_run

from cutline.cli.main import run_command
from cutline.report import is_report, read_refresh

DEADLINE = 60.0
EVERY = 0.1


def list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the time and size of each file, by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def test_one_run_gets_its_report_and_nothing_else_changes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_run(tmp_path / "run")
    before = list_files(tmp_path)
    assert run_command(["report", str(directory)]) == 0
    page = directory / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    assert "Training run run" in page.read_text()
    after = list_files(tmp_path)
    del after[str(page)]
    assert after == before


def test_several_runs_get_a_page_here_or_where_o_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [str(write_run(Path(name))) for name in ("a", "b")]
    for _ in range(2):  # the second page replaces the first
        assert run_command(["report", *runs]) == 0
        assert "Training runs a and b" in Path("runs.html").read_text()
    assert run_command(["report", *runs, "-o", "pages/both.html"]) == 0
    [gallery] = read_galleries(read_page(Path("pages/both.html")))
    assert gallery["cards"][0]["link"] == "../a/samples/0.jpg"
    assert not Path("a/report.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the directory of a run, such as runs/captioner"),
        (["a", "a/"], "a: named twice"),
        (["a", "gone"], "gone: holds no run"),
        (["a", "."], ".: holds no run"),
        (["a", "b", "-o", "b/report.html"], "b/report.html: is the report of one of the runs"),
        (["a", "-o", "page.pdf"], "page.pdf: a report is an HTML file"),
        (["a", "b"], "runs.html: exists, and is no report; name another file with -o"),
        (["a", ".", "--watch"], ".: holds no run"),
        (["runs.html", "--watch"], "runs.html: holds no run"),
        (["a", "--every", "3"], "--every is for --watch"),
        (["a", "--watch", "--every", "0"], "--every must be from 0.1 to 3600 seconds"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write_run(Path(name))
    Path("runs.html").write_text("<p>my own page")
    before = list_files(tmp_path)
    assert run_command(["report", *words]) == 2
    assert capsys.readouterr().err.startswith(f"cutline: {message}")
    assert list_files(tmp_path) == before


@contextmanager
def watch(log: Path, *words: str | Path) -> Iterator[BaseProcess]:
    """Run `cutline report --watch` in a process of its own until the context ends."""
    process = start_command(["report", *map(str, words), "--watch", "--every", str(EVERY)], log)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def wait_until(condition: Callable[[], bool], process: BaseProcess) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_page_follows_a_run_from_before_its_first_line_to_its_end(tmp_path: Path) -> None:
    output = tmp_path / "output.txt"
    directory, lines = tmp_path / "run", make_log()
    page = directory / "report.html"

    def shows(text: str) -> bool:
        return page.exists() and text in page.read_text()

    def says(text: str) -> bool:
        return output.exists() and text in output.read_text()

    with watch(output, directory) as process:
        wait_until(lambda: says("waiting for the run to start"), process)
        time.sleep(3 * EVERY)
        assert not directory.exists()  # it is the run that creates it
        write_run(directory, [])
        wait_until(lambda: shows("step 0 of 40"), process)
        assert read_refresh(page) == EVERY
        for count in (1, 20, len(lines) - 1):
            write_log(directory, lines[:count])
            with (directory / "log.jsonl").open("a") as log:
                log.write('{"step": 41, "epo')  # not yet complete
            wait_until(lambda step=lines[count - 1]["step"]: shows(f"step {step} of 40"), process)
            assert read_refresh(page) == EVERY
        before = list_files(directory)
        time.sleep(3 * EVERY)
        assert list_files(directory) == before  # nothing new, nothing written
        write_log(directory, lines)
        process.join(DEADLINE)
        assert process.exitcode == 0
    assert shows("The run is finished")
    assert read_refresh(page) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_page_that_is_no_longer_written_no_longer_loads_itself(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Several runs: one is finished, the other never will be."""
    runs = [write_run(tmp_path / "done"), write_run(tmp_path / "new", make_log(last_step=5))]
    page = tmp_path / "page.html"
    with watch(tmp_path / "output.txt", *runs, "-o", page) as process:
        wait_until(lambda: page.exists() and is_report(page), process)
        assert read_refresh(page) == EVERY
        assert process.pid
        os.kill(process.pid, number)
        process.join(DEADLINE)
        assert process.exitcode == 128 + number
    assert read_refresh(page) == 0
    assert "step 5 of 40" in page.read_text()


def test_a_run_that_reads_its_data_has_a_page(tmp_path: Path) -> None:
    """It has locked its directory, and written nothing."""
    (tmp_path / ".lock").touch()
    assert run_command(["report", str(tmp_path)]) == 0
    assert "The run is at step 0" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("is_inside", [True, False])
def test_the_page_of_a_deleted_run_is_not_emptied(tmp_path: Path, is_inside: bool) -> None:
    run, log = write_run(tmp_path / "run", make_log(last_step=15)), tmp_path / "out.log"
    page = run / "report.html" if is_inside else tmp_path / "page.html"
    with watch(log, run, "-o", page) as process:
        wait_until(page.exists, process)
        before = page.read_bytes()
        shutil.rmtree(run)
        time.sleep(4 * EVERY)
        assert process.pid
        os.kill(process.pid, signal.SIGINT)
        process.join(DEADLINE)
    assert process.exitcode == 130
    assert not run.exists()
    assert is_inside or page.read_bytes() == before
