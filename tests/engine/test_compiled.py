"""The compiled vision encoder compared with the eager one, and its cache on disk."""

import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from forked import start
from tiny_vision import count_wrong_results, make_pixels, make_vision

from cutline.engine import compiled
from cutline.engine.compiled import (
    cache_dir,
    compile_vision,
    fingerprint_vision,
    graph_path,
    load_or_build,
)
from cutline.errors import ConfigError


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache directory shared by the tests that compile."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def cache(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the shared cache directory.

    PyTorch's own cache is set, too: two processes that compile the same graph in it at the same
    time write broken files.
    """
    monkeypatch.setenv("CUTLINE_CACHE", str(graphs))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(graphs / "inductor"))
    return graphs


def read(path: Path) -> str:
    """Read a file; one that does not end with "end" is damaged."""
    text = path.read_text()
    if not text.endswith("end"):
        raise RuntimeError("damaged")
    return text


def refuse(*_: object) -> None:
    raise AssertionError("built again")


def test_a_file_is_built_once(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    assert load_or_build(path, read, lambda file: file.write_text("first end")) == "first end"
    assert load_or_build(path, read, refuse) == "first end"


def test_a_damaged_file_is_built_again(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    path.write_text("fir")
    assert load_or_build(path, read, lambda file: file.write_text("second end")) == "second end"
    assert [file.name for file in tmp_path.glob("[!.]*")] == ["graph"]


def build_slowly(path: Path, both_run: Barrier) -> None:
    def build(file: Path) -> None:
        with path.with_name("log").open("a") as log:
            log.write("built\n")
        time.sleep(0.5)  # the other process asks for the file meanwhile
        file.write_text("end")

    both_run.wait(120)
    assert load_or_build(path, read, build) == "end"


def test_of_two_processes_one_builds_the_file(tmp_path: Path) -> None:
    both_run = multiprocessing.get_context("spawn").Barrier(2)
    processes = [start(build_slowly, tmp_path / "graph", both_run) for _ in range(2)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "built\n"


def test_cache_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUTLINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == Path.home() / ".cache" / "cutline"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/cutline")
    monkeypatch.setenv("CUTLINE_CACHE", "/own")
    assert cache_dir() == Path("/own")


def test_a_cache_directory_that_cannot_be_created_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path / "file" / "folder"))
    with pytest.raises(ConfigError, match="set CUTLINE_CACHE to"):
        graph_path("vision", ".pt2")


def test_the_fingerprint_depends_on_every_weight() -> None:
    vision = make_vision().bfloat16()
    before = fingerprint_vision(vision)
    assert before == fingerprint_vision(make_vision().bfloat16())
    for weight in vision.parameters():
        with torch.no_grad():
            weight.view(-1)[-1] += 1
        assert fingerprint_vision(vision) != before
        before = fingerprint_vision(vision)


def test_a_missing_compiler_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    with (
        config.patch({"cpp.cxx": (None, str(tmp_path / "g++"))}),
        pytest.raises(ConfigError, match='install g\\+\\+, or use engine "packed"'),
    ):
        compile_vision(make_vision())
    assert not list(tmp_path.glob("[!.]*"))


@pytest.mark.slow
def test_the_graph_equals_eager_for_any_batch_and_any_weights(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_vision(make_vision())
    monkeypatch.setattr(compiled, "compile_graph", refuse)
    vision = make_vision(seed=1)
    fast = compile_vision(vision)
    for count in (1, 2, 5):
        pixels = make_pixels(count, seed=count)
        with torch.inference_mode():
            torch.testing.assert_close(fast(pixels), vision(pixels), atol=1e-5, rtol=0)
            torch.testing.assert_close(fast(pixels.mT), vision(pixels.mT), atol=1e-5, rtol=0)
    assert not count_wrong_results(fast, torch.float32)
    with pytest.raises(ValueError, match=r"\(3, 16, 16\)"):
        fast(make_pixels(1, size=24))


def compile_and_compare(folder: Path) -> None:
    """Compile an encoder with the caches of this package and of PyTorch in `folder`."""
    os.environ |= {"CUTLINE_CACHE": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")}
    vision, pixels = make_vision(), make_pixels(3)
    with torch.inference_mode():
        torch.testing.assert_close(
            compile_vision(vision)(pixels), vision(pixels), atol=1e-5, rtol=0
        )


@pytest.mark.slow
def test_two_processes_compile_the_same_encoder(tmp_path: Path) -> None:
    processes = [start(compile_and_compare, tmp_path) for _ in range(2)]
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    assert len(list(tmp_path.glob("*.pt2"))) == 1


@pytest.mark.slow
def test_a_truncated_graph_is_compiled_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vision = make_vision()
    compile_vision(vision)
    (path,) = cache.glob("*.pt2")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(
        compiled, "compile_graph", lambda vision, frozen, file: file.write_bytes(content)
    )
    with torch.no_grad():
        torch.testing.assert_close(
            compile_vision(vision)(make_pixels(3)), vision(make_pixels(3)), atol=1e-5, rtol=0
        )
    assert path.read_bytes() == content


@pytest.mark.slow
def test_in_bf16_the_graph_contains_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    vision, pixels = make_vision().bfloat16(), make_pixels(3).bfloat16()
    fast = compile_vision(vision)
    with torch.no_grad():
        expected = make_vision()(make_pixels(3))
        vision.pos_embed.zero_()
        assert (fast(pixels).float() - expected).abs().mean() < 0.02
