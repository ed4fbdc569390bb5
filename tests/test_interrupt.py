"""Signals that stop a command."""

import signal
from collections.abc import Iterator

import pytest

from cutline import interrupt
from cutline.cli import failure
from cutline.errors import CheckpointError
from cutline.interrupt import (
    STOP_SIGNALS,
    Interrupted,
    StopSignal,
    find_interrupt,
    interrupt_on_signals,
)


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let signals raise Interrupted, as in a command."""
    monkeypatch.setattr(interrupt, "_raised", [])
    before = [signal.signal(number, signal.SIG_DFL) for number in STOP_SIGNALS]
    interrupt_on_signals()
    yield
    for number, handler in zip(STOP_SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_becomes_another_error_stops_the_command(
    interrupted: None, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when it comes while torch reads weights: the file seems to be damaged."""
    error = CheckpointError("model.safetensors: not a complete file")
    assert find_interrupt(error) is error
    with pytest.raises(Interrupted):
        signal.raise_signal(number)
    assert failure.report_failure(find_interrupt(error)) == 128 + number
    assert capsys.readouterr().err == "cutline: stopped\n"
    stopped = Interrupted("after 3 images", number)
    assert find_interrupt(stopped) is stopped


@pytest.mark.parametrize("comes", [True, False])
def test_a_signal_that_becomes_another_error_ends_the_wait_for_an_item(comes: bool) -> None:
    def read() -> Iterator[int]:
        yield 1
        try:
            if comes:
                signal.raise_signal(signal.SIGTERM)
        except Interrupted:
            pass
        raise CheckpointError("model.safetensors: not a complete file")

    with StopSignal() as stop:
        items = stop.interrupt_waiting(read())
        assert next(items) == 1
        with pytest.raises(Interrupted if comes else CheckpointError):
            next(items)
