"""Progress of a run: lines where there is no terminal, a bar where there is one."""

import io
import threading

import pytest
from rich.console import Console

import cutline.bulk.progress as progress_module
from cutline.bulk.progress import RunProgress, format_seconds
from cutline.bulk.run import Counts


def test_lines_have_count_rate_failures_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LINE_SECONDS", 0.0)
    lines: list[str] = []
    counted = threading.Event()

    def count() -> int:
        counted.set()
        return 1000

    with RunProgress(Console(file=io.StringIO()), lines.append, count) as progress:
        assert counted.wait(10)
        while progress._total is None:
            pass
        progress.update(Counts(captioned=300, failed=2, done_before=90, existing=8))
    assert lines[0].startswith("400 of 1,000 images, ")
    assert "images/s, 2 failed, 98 skipped, 0:0" in lines[0]
    assert lines[0].endswith(" left")


def test_no_line_comes_within_a_minute() -> None:
    lines: list[str] = []
    with RunProgress(Console(file=io.StringIO()), lines.append, lambda: None) as progress:
        progress.update(Counts(captioned=1))
    assert lines == []


def test_a_terminal_gets_a_bar_and_a_source_that_cannot_be_counted_has_no_total() -> None:
    def count() -> int:
        raise OSError("unreadable")

    terminal = io.StringIO()
    with RunProgress(Console(file=terminal, force_terminal=True), print, count) as progress:
        progress.update(Counts(captioned=7, repeated=1))
    assert "captioning" in terminal.getvalue()
    assert "8/" in terminal.getvalue()


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_follows_a_run_has_a_bar_of_its_own(is_terminal: bool) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, force_terminal=is_terminal)
    with RunProgress(console, print, lambda: None) as progress:
        assert list(progress.track(iter("abc"), 3, "adding images")) == ["a", "b", "c"]
    assert ("adding images" in terminal.getvalue()) == is_terminal
    assert ("3/3" in terminal.getvalue()) == is_terminal


def test_durations() -> None:
    assert [format_seconds(value) for value in (0, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]
