"""The compiled encoder against the plain one, and the files it is kept in."""

from pathlib import Path

import pytest
import torch
from tiny_vision import pictures, tiny_vision

from cutline.engine import compiled
from cutline.engine.compiled import (
    cache_folder,
    compile_vision,
    fingerprint_vision,
    graph_file,
    kept,
)
from cutline.errors import ConfigError


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder shared by the tests that compile."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def cache(graphs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, in use."""
    monkeypatch.setenv("CUTLINE_CACHE", str(graphs))
    return graphs


def read(path: Path) -> str:
    """A file that ends well; another is damaged."""
    text = path.read_text()
    if not text.endswith("end"):
        raise RuntimeError("damaged")
    return text


def refuse(*_: object) -> None:
    raise AssertionError("compiled again")


def test_what_is_kept_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    assert kept(path, read, lambda file: file.write_text("first end")) == "first end"  # type: ignore[arg-type, return-value]
    assert kept(path, read, refuse) == "first end"


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    path.write_text("fir")
    assert kept(path, read, lambda file: file.write_text("second end")) == "second end"  # type: ignore[arg-type, return-value]
    assert [file.name for file in tmp_path.iterdir()] == ["graph"]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUTLINE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "cutline"
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_folder() == Path("/caches/cutline")
    monkeypatch.setenv("CUTLINE_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_a_cache_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path / "file" / "folder"))
    with pytest.raises(ConfigError, match="set CUTLINE_CACHE to"):
        graph_file("vision", ".pt2")


def test_fingerprint_is_of_every_weight() -> None:
    vision = tiny_vision().bfloat16()
    before = fingerprint_vision(vision)
    assert before == fingerprint_vision(tiny_vision().bfloat16())
    for weight in vision.parameters():
        with torch.no_grad():
            weight.view(-1)[-1] += 1
        assert fingerprint_vision(vision) != before
        before = fingerprint_vision(vision)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    with (
        config.patch({"cpp.cxx": (None, str(tmp_path / "g++"))}),
        pytest.raises(ConfigError, match='install g\\+\\+, or use the engine "packed"'),
    ):
        compile_vision(tiny_vision())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_compiled_is_plain_for_any_batch_and_any_weights(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_vision(tiny_vision())
    monkeypatch.setattr(compiled, "compile_graph", refuse)
    vision = tiny_vision(seed=1)
    fast = compile_vision(vision)
    for count in (1, 2, 5):
        pixels = pictures(count, seed=count)
        with torch.inference_mode():
            torch.testing.assert_close(fast(pixels), vision(pixels), atol=1e-5, rtol=0)
            torch.testing.assert_close(fast(pixels.mT), vision(pixels.mT), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="16 x 16"):
        fast(pictures(1, size=24))


@pytest.mark.slow
def test_a_truncated_graph_is_compiled_anew(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vision = tiny_vision()
    compile_vision(vision)
    (path,) = cache.glob("*.pt2")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(
        compiled, "compile_graph", lambda vision, frozen, file: file.write_bytes(whole)
    )
    with torch.no_grad():
        torch.testing.assert_close(
            compile_vision(vision)(pictures(3)), vision(pictures(3)), atol=1e-5, rtol=0
        )
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_in_bf16_the_file_holds_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    vision, pixels = tiny_vision().bfloat16(), pictures(3).bfloat16()
    fast = compile_vision(vision)
    with torch.no_grad():
        expected = tiny_vision()(pictures(3))
        vision.pos_embed.zero_()
        assert (fast(pixels).float() - expected).abs().mean() < 0.02
