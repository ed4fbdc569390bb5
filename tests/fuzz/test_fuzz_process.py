"""Tests of the harness: each way in which a case can fail is seen."""

import time
import warnings
from pathlib import Path

import pytest
from fuzz_process import CANARY, Limits, check_cases, run_cases

from cutline.errors import CutlineError

FAILURES = {
    1: "ValueError",
    2: "no answer",
    3: "memory",
    4: "one sentence",
    5: "UserWarning",
    6: "code in the input",
}


def run_case(seed: int, folder: Path) -> None:
    match seed:
        case 0:
            raise CutlineError(f"{folder / 'file'}: wrong; correct it")
        case 1:
            raise ValueError
        case 2:
            time.sleep(100)
        case 3:
            bytearray(b"x") * 200_000_000
        case 4:
            raise CutlineError("first line\nsecond line")
        case 5:
            warnings.warn("unusual", stacklevel=1)
        case 6:
            CANARY.touch()


def test_every_kind_of_failure_is_seen():
    limits = Limits(memory=100_000_000, seconds=3)
    outcomes = list(run_cases(__file__, [0, 1, 2, 4, 5, 6, 8, 3], limits))
    assert [outcome.seed for outcome in outcomes] == [0, 1, 2, 4, 5, 6, 8, 3]
    assert outcomes[0].message.endswith("wrong; correct it")
    for outcome in outcomes:
        assert FAILURES.get(outcome.seed, "") in outcome.failure
        assert bool(outcome.failure) == (outcome.seed in FAILURES)


def test_a_failing_case_fails_the_test():
    with pytest.raises(AssertionError, match="case 1: "):
        check_cases(__file__, [0, 1], Limits(memory=100_000_000))
