"""cutline folders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cutline.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    save_checkpoint,
    save_native,
)
from cutline.errors import CheckpointError, ConfigError

MakeCheckpoint = Callable[..., Checkpoint]


@pytest.fixture
def folder(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> Path:
    save_native(tmp_path / "model", make_checkpoint())
    return tmp_path / "model"


def test_round_trip_keeps_everything(
    folder: Path, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint, read = make_checkpoint(), load_checkpoint(folder)
    assert read.config == checkpoint.config
    assert read.weights.keys() == checkpoint.weights.keys()
    assert all(
        torch.equal(read.weights[name], weight) for name, weight in checkpoint.weights.items()
    )
    assert read.tokenizer.encode("a reddish dog") == checkpoint.tokenizer.encode("a reddish dog")
    save_native(tmp_path / "again", read)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "again").iterdir()
    }


def test_model_can_overwrite_its_own_folder(folder: Path, make_checkpoint: MakeCheckpoint) -> None:
    before = (folder / "model.safetensors").read_bytes()
    save_native(folder, load_checkpoint(str(folder)))
    assert (folder / "model.safetensors").read_bytes() == before


def test_trainable_parameters_can_be_saved(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    model = build_model(checkpoint)
    for format, name in (("cutline", "a"), ("huggingface", "b"), ("salesforce", "c.pth")):
        trained = replace(checkpoint, weights=dict(model.named_parameters()))
        save_checkpoint(tmp_path / name, trained, format)
        read = load_checkpoint(tmp_path / name).weights
        assert all(
            torch.equal(read[key], weight) and not read[key].requires_grad
            for key, weight in model.named_parameters()
        )


def test_all_files_have_the_same_permissions(folder: Path) -> None:
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


def test_file_in_place_of_a_folder_or_the_reverse_is_an_error(
    folder: Path, make_checkpoint: MakeCheckpoint
) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"config\.json: a file, but the cutline format is a folder; use the name of a "
        r"folder$",
    ):
        save_checkpoint(folder / "config.json", make_checkpoint())
    with pytest.raises(
        CheckpointError,
        match=r"model: a folder, but the salesforce format is a single file; "
        r"use a file name such as \S+model\.pth$",
    ):
        save_checkpoint(folder, make_checkpoint(), "salesforce")


def test_failed_save_keeps_the_previous_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: MakeCheckpoint
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def fail_with_full_disk(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("cutline.checkpoint.storage.save_file", fail_with_full_disk)
    for target in (folder, folder / "new"):
        with pytest.raises(CheckpointError, match=r"no space left.*the previous file is unchanged"):
            save_native(target, make_checkpoint())
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    assert not list((folder / "new").iterdir())


def test_training_run_loads_its_best_checkpoint(
    tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    save_native(tmp_path / "run" / "best", make_checkpoint(seed=3))
    assert torch.equal(
        load_checkpoint(tmp_path / "run").weights["vision.norm.bias"],
        make_checkpoint(seed=3).weights["vision.norm.bias"],
    )


def test_file_in_a_model_folder_loads_the_folder(folder: Path) -> None:
    assert load_checkpoint(folder / "model.safetensors").config == load_checkpoint(folder).config


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_an_error(folder: Path, fraction: float) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(
        CheckpointError,
        match=r"^[^\n]*model\.safetensors: not a complete safetensors file \([^\n]*\); "
        r"download or copy it again$",
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("version", [2, None])
def test_another_format_version_is_an_error(folder: Path, version: int | None) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"version": version}))
    with pytest.raises(
        CheckpointError,
        match=rf"config\.json: format version {version}, but .* reads version 1; upgrade cutline$",
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "config.json",
            r"contains neither config\.json nor a trained model in best/; use the folder of a "
            r"model$",
        ),
        (
            "model.safetensors",
            r"model\.safetensors: cannot be read \(No such file or directory.*\); use a complete "
            r"model$",
        ),
        (
            "tokenizer.json",
            r"tokenizer\.json: cannot be read \(No such file or directory\); use a complete model$",
        ),
    ],
)
def test_missing_file_is_an_error(folder: Path, missing: str, message: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"config\.json: not JSON \("),
        ("[]", r"config\.json: not a JSON object"),
        (
            "{}",
            r"config\.json: not a BLIP captioner \(model_type None\); use the folder of a "
            r"captioner$",
        ),
        (
            '{"model_type": "gpt2"}',
            r"config\.json: not a BLIP captioner \(model_type gpt2\); use the folder of a "
            r"captioner$",
        ),
    ],
)
def test_invalid_config_file_is_an_error(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_misspelled_setting_is_named(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["config"]["vision"]["dept"] = 3
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        ConfigError,
        match=r"config\.json: unknown setting `vision\.dept`; did you mean `vision\.depth`\?",
    ):
        load_checkpoint(folder)


def test_weights_of_another_model_are_an_error(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["text.extra"] = weights.pop("text.norm.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"\(missing: text\.norm\.bias; unexpected: text\.extra\)"
    ):
        load_checkpoint(folder)
