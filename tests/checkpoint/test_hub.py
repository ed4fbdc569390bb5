"""Hub ids without a network: the client's cache is real, its requests are replaced."""

import socket
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

from cutline.checkpoint import Checkpoint, hub, load_checkpoint, save_checkpoint
from cutline.errors import CheckpointError

MakeCheckpoint = Callable[..., Checkpoint]
NAME = "owner/some-captioner"
UNREACHABLE = (
    r"^owner/some-captioner: no such file or folder, and the Hugging Face hub cannot be reached "
    r"\([^\n]+\); "
    r"name a model on disk with --model PATH or --matcher PATH, or run `cutline demo` to train a "
    r"small captioner$"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def mock_hub(monkeypatch: pytest.MonkeyPatch, respond: Callable[..., Any]) -> None:
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, timeout: respond())


def make_failing(error: Exception) -> Callable[..., Any]:
    def fail() -> None:
        raise error

    return fail


def fill_cache(cache: Path, checkpoint: Checkpoint, format: Any) -> Path:
    """Save a model to the cache in the directory layout of the hub's client."""
    repository = cache / "models--owner--some-captioner"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    save_checkpoint(repository / "snapshots" / ("a" * 40), checkpoint, format)
    return repository / "snapshots" / ("a" * 40)


def test_unreachable_hub_without_a_cached_model_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for error in (
        OfflineModeIsEnabled("off"),
        ConnectionError("down"),
        TimeoutError(),
        RuntimeError("any\nthing"),
    ):
        mock_hub(monkeypatch, make_failing(error))
        with pytest.raises(CheckpointError, match=UNREACHABLE):
            load_checkpoint(NAME)


@pytest.mark.parametrize("format", ["cutline", "huggingface"])
def test_cached_model_is_used_offline(
    format: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: MakeCheckpoint
) -> None:
    mock_hub(monkeypatch, make_failing(ConnectionError("down")))
    folder = fill_cache(cache, make_checkpoint(), format)
    assert load_checkpoint(NAME).config == make_checkpoint().config
    (folder / "model.safetensors").unlink()  # an interrupted download
    with pytest.raises(CheckpointError, match=UNREACHABLE):
        load_checkpoint(NAME)


def test_offline_mode_of_the_client_is_respected(
    cache: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: MakeCheckpoint
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=UNREACHABLE):
        load_checkpoint(NAME)
    fill_cache(cache, make_checkpoint(), "huggingface")
    assert load_checkpoint(NAME).config == make_checkpoint().config


def test_hub_that_does_not_respond_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections and never responds
        monkeypatch.setattr(hub, "TIMEOUT_S", 0.3)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: HfApi(endpoint=address, token=False))
        start = time.monotonic()
        with pytest.raises(CheckpointError, match=UNREACHABLE):
            load_checkpoint(NAME)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            RepositoryNotFoundError,
            "neither a local file or folder nor a model on the hub; use a path or the id of a "
            "model",
        ),
        (
            GatedRepoError,
            "the hub requires you to accept the model's terms; accept them on its page and run "
            "`hf auth login`",
        ),
    ],
)
def test_unknown_and_gated_models_are_errors(
    kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the arguments of __init__ depend on the client's HTTP library
    mock_hub(monkeypatch, make_failing(kind.__new__(kind)))
    with pytest.raises(CheckpointError, match=f"^{NAME}: {message}$"):
        load_checkpoint(NAME)


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
            ["model-00001-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (["pytorch_model.bin", "flax_model.msgpack"], ["pytorch_model.bin"]),
        (
            ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
            ["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"],
        ),
        (["optimizer.bin"], []),
    ],
)
def test_only_required_files_are_downloaded(
    files: list[str], weights: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others = ["README.md", "training_args.bin", "config.json", "vocab.txt"]
    downloaded: list[str] = []

    def download(name: str, allow_patterns: list[str], etag_timeout: float) -> str:
        assert name == NAME
        downloaded.extend(
            file
            for file in files + others
            if any(fnmatch(file, pattern) for pattern in allow_patterns)
        )
        return str(tmp_path)

    mock_hub(
        monkeypatch,
        lambda: SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=file) for file in files + others]
        ),
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.download_model(NAME) == tmp_path
    assert downloaded == [*weights, "config.json", "vocab.txt"]


def test_graphs_on_the_hub_are_to_be_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"format": "cutline-onnx"}')
    mock_hub(monkeypatch, lambda: SimpleNamespace(siblings=[]))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(CheckpointError, match=rf"run `hf download {NAME} --local-dir FOLDER`, and"):
        load_checkpoint(NAME)


@pytest.mark.parametrize(
    "name", ["model.pth", "a/b/c", "/tmp/none", "./a", "../a", "C:\\model", "", "a/", "two words/x"]
)
def test_paths_are_not_looked_up_on_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    mock_hub(monkeypatch, make_failing(AssertionError("request sent")))
    assert not hub.is_hub_id(name)
    if name:
        with pytest.raises(CheckpointError, match="no such file or folder; name a model on disk"):
            load_checkpoint(name)
