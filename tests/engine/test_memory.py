"""Options of glibc's malloc."""

import ctypes
import sys

import pytest

from cutline.engine.memory import keep_freed_memory, return_freed_memory


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("loaded a C library")

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    keep_freed_memory()
    return_freed_memory()
