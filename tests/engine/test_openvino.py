"""The vision encoder in OpenVINO compared with the eager one."""

import sys
from pathlib import Path

import pytest
import torch
from tiny_vision import count_wrong_results, make_pixels, make_vision

from cutline.engine import openvino
from cutline.engine.openvino import compile_with_openvino, import_openvino
from cutline.errors import ConfigError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set an empty cache directory; skip where OpenVINO is not installed."""
    try:
        import_openvino()
    except ConfigError:
        pytest.skip("needs OpenVINO")
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    return tmp_path


def refuse(*_: object) -> None:
    raise AssertionError("converted again")


@pytest.mark.parametrize("merge_tokens", [0, 2])
def test_openvino_equals_eager_and_is_converted_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, merge_tokens: int
) -> None:
    vision = make_vision(merge_tokens=merge_tokens)
    first = compile_with_openvino(vision, "fp32")
    monkeypatch.setattr(openvino, "convert_to_openvino", refuse)
    second = compile_with_openvino(vision, "fp32")
    for count in (1, 2, 5):
        pixels = make_pixels(count, seed=count)
        with torch.inference_mode():
            expected = vision(pixels)
            torch.testing.assert_close(first(pixels), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(
                second(pixels.mT.contiguous().mT), expected, atol=1e-4, rtol=0
            )
    with pytest.raises(ValueError, match=r"\(3, 16, 16\)"):
        first(make_pixels(1, size=24))


@pytest.mark.slow
def test_a_damaged_file_is_built_again_and_bf16_has_its_own(cache: Path) -> None:
    vision = make_vision()
    compile_with_openvino(vision, "fp32")
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with torch.no_grad():
        expected = vision(make_pixels(2))
        torch.testing.assert_close(
            compile_with_openvino(vision, "fp32")(make_pixels(2)), expected, atol=1e-4, rtol=0
        )
        fast = compile_with_openvino(vision.bfloat16(), "bf16")(make_pixels(2).bfloat16())
    assert fast.dtype == torch.bfloat16
    assert (fast.float() - expected).abs().mean() < 0.02
    assert len(list(cache.iterdir())) == 2


def test_threads_get_the_embeddings_of_their_own_images(cache: Path) -> None:
    assert not count_wrong_results(compile_with_openvino(make_vision(), "fp32"), torch.float32)


def test_a_missing_package_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"pip install 'cutline\[openvino\]'"):
        compile_with_openvino(make_vision(), "fp32")
