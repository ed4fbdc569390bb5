"""Hub ids, without a network: what the hub's client would do is played by its own cache and by functions in its place."""

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
    r"^owner/some-captioner: no such file or folder, and the Hugging Face hub cannot be reached \([^\n]+\); "
    r"pass --model PATH to use a model on disk, or run `cutline demo` to train a small one$"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hub_says(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., Any]) -> None:
    monkeypatch.setattr(HfApi, "model_info", lambda self, name, timeout: answer())


def failing(error: Exception) -> Callable[..., Any]:
    def fail() -> None:
        raise error

    return fail


def put_into(cache: Path, checkpoint: Checkpoint, layout: Any) -> Path:
    """A model in the cache, as the hub's client lays it out."""
    repository = cache / "models--owner--some-captioner"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    save_checkpoint(repository / "snapshots" / ("a" * 40), checkpoint, layout)
    return repository / "snapshots" / ("a" * 40)


def test_nothing_reachable_and_nothing_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        OfflineModeIsEnabled("off"),
        ConnectionError("down"),
        TimeoutError(),
        RuntimeError("any\nthing"),
    ):
        hub_says(monkeypatch, failing(error))
        with pytest.raises(CheckpointError, match=UNREACHABLE):
            load_checkpoint(NAME)


@pytest.mark.parametrize("layout", ["cutline", "huggingface"])
def test_offline_with_the_model_in_the_cache(
    layout: Any, cache: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: MakeCheckpoint
) -> None:
    hub_says(monkeypatch, failing(ConnectionError("down")))
    folder = put_into(cache, make_checkpoint(), layout)
    assert load_checkpoint(NAME).config == make_checkpoint().config
    (folder / "model.safetensors").unlink()  # a download that was cut off
    with pytest.raises(CheckpointError, match=UNREACHABLE):
        load_checkpoint(NAME)


def test_offline_mode_of_the_client(
    cache: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: MakeCheckpoint
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=UNREACHABLE):
        load_checkpoint(NAME)
    put_into(cache, make_checkpoint(), "huggingface")
    assert load_checkpoint(NAME).config == make_checkpoint().config


def test_a_silent_hub_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never says a word
        monkeypatch.setattr(hub, "SECONDS", 0.3)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: HfApi(endpoint=address, token=False))
        begin = time.monotonic()
        with pytest.raises(CheckpointError, match=UNREACHABLE):
            load_checkpoint(NAME)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            RepositoryNotFoundError,
            "neither a file or folder here nor a model on the hub; give the path or the id of a model",
        ),
        (
            GatedRepoError,
            "the hub asks you to accept the model's terms; do so there and run `hf auth login`",
        ),
    ],
)
def test_unknown_and_gated_models(
    kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_says(
        monkeypatch, failing(kind.__new__(kind))
    )  # made by hand: its arguments are those of the client's HTTP library
    with pytest.raises(CheckpointError, match=f"^{NAME}: {message}$"):
        load_checkpoint(NAME)


@pytest.mark.parametrize(
    ("there", "weights"),
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
def test_only_what_is_needed_is_downloaded(
    there: list[str], weights: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others = ["README.md", "training_args.bin", "config.json", "vocab.txt"]
    asked: list[str] = []

    def download(name: str, allow_patterns: list[str], etag_timeout: float) -> str:
        assert name == NAME
        asked.extend(
            file
            for file in there + others
            if any(fnmatch(file, pattern) for pattern in allow_patterns)
        )
        return str(tmp_path)

    hub_says(
        monkeypatch,
        lambda: SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=file) for file in there + others]
        ),
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetch(NAME) == tmp_path
    assert asked == [*weights, "config.json", "vocab.txt"]


@pytest.mark.parametrize(
    "name", ["model.pth", "a/b/c", "/tmp/none", "./a", "../a", "C:\\model", "", "a/", "two words/x"]
)
def test_paths_are_not_asked_for_at_the_hub(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    hub_says(monkeypatch, failing(AssertionError("asked")))
    assert not hub.is_hub_id(name)
    if name:
        with pytest.raises(CheckpointError, match="no such file or folder; pass --model PATH"):
            load_checkpoint(name)
