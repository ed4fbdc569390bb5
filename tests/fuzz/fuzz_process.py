"""Run seeded hostile cases in child processes with limits on memory and time.

A module of hostile inputs defines `run_case(seed, folder)`, which makes the input number `seed` in
`folder` and hands it to cutline. A `CutlineError` is a correct answer, and so is a result; anything
else is a failure: another exception, a warning, more time or more memory than allowed, a message of
several lines, or a file that only code hidden in the input would write.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

CANARY = Path(tempfile.gettempdir()) / f"cutline-canary-{os.getpid()}"
"""a file that code in an input of this process tries to write: none may run"""
MAX_CASES = 50
"""cases of one child process"""


@dataclass(frozen=True)
class Limits:
    """What one case may use."""

    memory: int
    """bytes beyond those of the child before the first case"""
    seconds: float = 60.0
    """wall-clock time; a busy machine needs several times what a quiet one does"""


@dataclass(frozen=True)
class Outcome:
    """What a case came to."""

    seed: int
    message: str
    """the message of its CutlineError; empty if it has a result"""
    failure: str = ""
    """why the case fails; empty if it passes"""
    peak: int = 0
    """bytes beyond those before the first case"""


def check_cases(module: str, seeds: Sequence[int], limits: Limits) -> list[Outcome]:
    """Run the cases `seeds` of a module, at most 50 to a child process, and fail if one fails.

    Args:
        module: Its `__file__`.
        seeds: Numbers of the cases.
        limits: Memory and time of each case.
    """
    outcomes = [
        outcome
        for first in range(0, len(seeds), MAX_CASES)
        for outcome in run_cases(module, seeds[first : first + MAX_CASES], limits)
    ]
    failures = [outcome for outcome in outcomes if outcome.failure]
    assert not failures, "\n\n".join(f"case {each.seed}: {each.failure}" for each in failures)
    return outcomes


def run_cases(module: str, seeds: Sequence[int], limits: Limits) -> Iterator[Outcome]:
    """Run cases in one child process, and in another from a case that ends the child."""
    if sys.platform != "linux":
        pytest.skip("limits memory through Linux's /proc")
    seeds = list(seeds)
    while seeds:
        outcomes = _run_child(module, seeds, limits)
        yield from outcomes
        seeds = seeds[len(outcomes) :]


def _run_child(module: str, seeds: list[int], limits: Limits) -> list[Outcome]:
    """Return the outcomes of a child; the last one is a failure if the child did not finish."""
    words = [sys.executable, "-W", "error", __file__, module, str(limits.memory)]
    outcomes: list[Outcome] = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*words, *map(str, seeds)], stdout=subprocess.PIPE, stderr=errors, text=True
        )
        assert process.stdout
        start_up = 120.0
        while len(outcomes) < len(seeds):
            started = time.monotonic()
            timer = Timer(limits.seconds + (0 if outcomes else start_up), process.kill)
            timer.start()
            line = process.stdout.readline()
            timer.cancel()
            if not line:
                seconds = time.monotonic() - started
                errors.seek(0)
                reason = f"no answer after {seconds:.0f} s: {errors.read()[-2000:]}"
                outcomes.append(Outcome(seeds[len(outcomes)], "", reason))
                break
            outcomes.append(Outcome(**json.loads(line)))
        process.stdout.close()
        process.wait()
    return outcomes


def _main(module_file: str, memory: int, seeds: list[int]) -> None:
    module = _import_module(module_file)
    from cutline.errors import CutlineError

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what cutline prints does not mix with the answers
    _limit_memory(memory)
    _reset_peak()
    before = _peak()
    for seed in seeds:
        message = failure = ""
        _reset_peak()
        CANARY.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                module.run_case(seed, Path(folder))
            except CutlineError as error:
                message = str(error)
                if "\n" in message or not message or len(message) > 1000:
                    failure = f"the message is not one sentence: {message!r}"
            except BaseException:
                failure = traceback.format_exc()
        if CANARY.exists():
            failure += "code in the input was run"
        peak = max(0, _peak() - before)
        if peak > memory:
            failure += f"{peak / 1e6:.0f} MB of memory"
        answers.write(json.dumps(Outcome(seed, message, failure, peak).__dict__) + "\n")


def _import_module(file: str) -> Any:
    sys.path[:0] = [str(Path(file).parent), str(Path(__file__).parents[1])]
    spec = importlib.util.spec_from_file_location("hostile_inputs", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _limit_memory(extra: int) -> None:
    """Let this process map `extra` bytes beyond what it has, so that none can fill the machine."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2 * extra + (1 << 30)  # threads map their stacks
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak() -> int:
    """Return the most bytes that were resident since the last `_reset_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), [int(seed) for seed in sys.argv[3:]])
