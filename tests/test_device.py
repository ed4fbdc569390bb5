"""Choice of device and precision, and memory figures without a POSIX system."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cutline.config import DeviceConfig, Recipe
from cutline.device import (
    available_memory,
    has_native_bf16,
    peak_memory,
    pick_device,
    pick_precision,
)
from cutline.errors import ConfigError
from cutline.training.diagnostics.memory import reset_peak_memory

CPU = torch.device("cpu")


def test_auto_is_cuda_if_available_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == torch.device("cuda")


def test_auto_never_chooses_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto") == CPU


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has MPS")
def test_absent_mps_is_an_error() -> None:
    with pytest.raises(ConfigError, match="device 'mps' cannot be used here: no such device"):
        pick_device("mps")


def test_available_mps_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def empty_on_any_device(*sizes: int, device: torch.device) -> torch.Tensor:
        assert device.type == "mps"
        return empty(*sizes)

    monkeypatch.setattr(torch, "empty", empty_on_any_device)
    assert pick_device("mps") == torch.device("mps")
    assert pick_precision("auto", torch.device("mps")) == "fp32"


def test_an_unavailable_device_is_an_error_of_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^device 'cuda:99' cannot be used here: .+$"):
        pick_device("cuda:99")


@pytest.mark.parametrize("name", ["moon", "xpu", "hpu", "meta", "xla", "", "cuda:", "cuda:300"])
def test_an_unknown_device_is_an_error_that_lists_the_known_ones(name: str) -> None:
    message = f"device '{name}' is not one of auto, cpu, cuda, cuda:N, mps"
    for use in (pick_device, lambda name: Recipe(device=name), lambda name: DeviceConfig(name)):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            use(name)


def test_auto_precision_follows_native_bf16() -> None:
    assert pick_precision("auto", CPU) == ("bf16" if has_native_bf16(CPU) else "fp32")
    assert pick_precision("bf16", CPU) == "bf16"


def test_unknown_precision_is_an_error() -> None:
    with pytest.raises(ConfigError, match="precision 'fp8' is not one of auto, fp32, bf16, int8"):
        pick_precision("fp8", CPU)


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide /proc, as on macOS and Windows."""
    read_text, exists = Path.read_text, Path.exists

    def read_text_outside_proc(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.is_relative_to("/proc"):
            raise FileNotFoundError(path)
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text_outside_proc)
    monkeypatch.setattr(
        Path, "exists", lambda path: not path.is_relative_to("/proc") and exists(path)
    )


@pytest.mark.usefixtures("without_proc")
def test_memory_figures_without_proc() -> None:
    pytest.importorskip("resource")
    assert peak_memory(CPU) > 10_000_000
    available = available_memory(CPU)
    assert available is not None
    assert available > peak_memory(CPU)


@pytest.mark.usefixtures("without_proc")
def test_memory_figures_without_posix(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module = builtins.__import__

    def import_without_resource(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "resource":
            raise ModuleNotFoundError(name)
        return import_module(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_without_resource)
    monkeypatch.delattr(os, "sysconf", raising=False)
    reset_peak_memory(CPU)
    assert peak_memory(CPU) == 0
    assert available_memory(CPU) is None
