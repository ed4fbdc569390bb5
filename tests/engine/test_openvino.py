"""The encoder in OpenVINO against the plain one."""

import sys
from pathlib import Path

import pytest
import torch
from tiny_vision import pictures, tiny_vision

from cutline.engine import openvino
from cutline.engine.openvino import import_openvino, openvino_vision
from cutline.errors import ConfigError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, where OpenVINO is installed."""
    try:
        import_openvino()
    except ConfigError:
        pytest.skip("needs openvino")
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    return tmp_path


def refuse(*_: object) -> None:
    raise AssertionError("converted again")


def test_openvino_is_plain_now_and_at_the_next_start(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = tiny_vision()
    first = openvino_vision(vision, "fp32")
    monkeypatch.setattr(openvino, "convert", refuse)
    second = openvino_vision(vision, "fp32")
    for count in (1, 2, 5):
        pixels = pictures(count, seed=count)
        with torch.inference_mode():
            expected = vision(pixels)
            torch.testing.assert_close(first(pixels), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(
                second(pixels.mT.contiguous().mT), expected, atol=1e-4, rtol=0
            )
    with pytest.raises(ValueError, match="16 x 16"):
        first(pictures(1, size=24))


@pytest.mark.slow
def test_damaged_file_other_weights_and_bf16(cache: Path) -> None:
    vision = tiny_vision()
    openvino_vision(vision, "fp32")
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with torch.no_grad():
        expected = vision(pictures(2))
        torch.testing.assert_close(
            openvino_vision(vision, "fp32")(pictures(2)), expected, atol=1e-4, rtol=0
        )
        fast = openvino_vision(vision.bfloat16(), "bf16")(pictures(2).bfloat16())
    assert fast.dtype == torch.bfloat16
    assert (fast.float() - expected).abs().mean() < 0.02
    assert len(list(cache.iterdir())) == 2


def test_missing_package_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"pip install 'cutline\[openvino\]'"):
        openvino_vision(tiny_vision(), "fp32")
