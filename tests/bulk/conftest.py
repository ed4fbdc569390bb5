"""A small captioner in a folder, images, and the captions that it makes of them."""

import contextlib
import io
from pathlib import Path

import pytest
from bulk_outputs import FAST, Captions, read_lines
from random_captioner import make_captioner

from cutline.checkpoint import Checkpoint, save_native
from cutline.cli.main import run_command
from cutline.demo.scenes import make_scenes, write_scenes


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a captioner with random weights."""
    folder = tmp_path_factory.mktemp("bulk") / "model"
    captioner = make_captioner()
    weights = captioner.model.state_dict()
    save_native(folder, Checkpoint(captioner.config, weights, captioner.tokenizer))
    return str(folder)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return twelve images, which tests link or copy."""
    folder = tmp_path_factory.mktemp("bulk") / "scenes"
    write_scenes(folder, make_scenes(12, seed=3), size=48)
    return sorted(folder.glob("*.png"))


@pytest.fixture(scope="session")
def plain_captions(scenes: list[Path], model: str) -> Captions:
    """Return the captions that the command prints for one image after the other."""
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        for path in scenes:
            assert run_command(["caption", str(path), "-m", model, *FAST]) == 0
    captions = read_lines(stdout.getvalue())
    assert len(captions) == len(scenes)
    assert len(set(captions.values())) > len(scenes) / 2
    return captions
