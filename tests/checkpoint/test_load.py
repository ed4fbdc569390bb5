"""A captioner does not depend on its file, and its settings are read without its weights."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import start
from random_captioner import draw_images, make_captioner

import cutline
from cutline.checkpoint import Checkpoint, CheckpointFormat, load_config, save_checkpoint
from cutline.config import CaptionConfig
from cutline.errors import CheckpointError


@pytest.mark.parametrize("format", ["cutline", "huggingface"])
def test_load_config_reads_no_weights(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path, format: CheckpointFormat
) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint(tmp_path / "run" / "best", checkpoint, format)
    (tmp_path / "run" / "best" / "model.safetensors").unlink()
    assert load_config(tmp_path / "run" / "best") == checkpoint.config


def test_load_config_of_a_run_is_that_of_its_best_checkpoint(
    make_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint(tmp_path / "best", checkpoint)
    assert load_config(tmp_path) == checkpoint.config


def test_a_pth_file_has_no_config(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"weights")
    assert load_config(tmp_path / "model.pth") is None
    assert load_config(tmp_path / "model.pth", "large") == CaptionConfig.preset("large")
    with pytest.raises(CheckpointError, match="contains neither"):
        load_config(tmp_path)


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.write(bytes(file.stat().st_size))


def truncate(file: Path) -> None:
    os.truncate(file, 0)


def caption_before_and_after(model: Path, file: Path, damage: Callable[[Path], None]) -> None:
    """Caption an image, damage the file of the weights, and caption the image again."""
    captioner = cutline.load(model, "cpu", "fp32", engine="eager")
    images = draw_images(2)
    before = captioner.caption(images)
    damage(file)
    after = captioner.caption(images)
    assert [caption.text for caption in after] == [caption.text for caption in before]
    assert [caption.score for caption in after] == pytest.approx([c.score for c in before])


@pytest.mark.parametrize("damage", [overwrite, truncate])
@pytest.mark.parametrize(
    ("format", "name", "file"),
    [
        ("cutline", "model", "model/model.safetensors"),
        ("huggingface", "model", "model/model.safetensors"),
        ("salesforce", "model.pth", "model.pth"),
    ],
)
def test_a_captioner_does_not_depend_on_its_file(
    tmp_path: Path, format: CheckpointFormat, name: str, file: str, damage: Callable[[Path], None]
) -> None:
    """In a process of its own: reading a truncated memory map would end it with SIGBUS."""
    captioner = make_captioner()
    save_checkpoint(
        tmp_path / name,
        Checkpoint(captioner.config, captioner.model.state_dict(), captioner.tokenizer),
        format,
    )
    process = start(caption_before_and_after, tmp_path / name, tmp_path / file, damage)
    process.join(120)
    assert process.exitcode == 0
