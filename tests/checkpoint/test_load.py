"""Settings of a captioner are read without its weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
