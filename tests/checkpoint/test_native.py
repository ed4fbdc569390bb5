"""cutline's own folder."""

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


def test_a_model_can_be_saved_over_itself(folder: Path, make_checkpoint: MakeCheckpoint) -> None:
    before = (folder / "model.safetensors").read_bytes()
    save_native(folder, load_checkpoint(str(folder)))
    assert (folder / "model.safetensors").read_bytes() == before


def test_weights_of_a_model_in_training_can_be_saved(
    tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    model = build_model(checkpoint)
    for layout, place in (("cutline", "a"), ("huggingface", "b"), ("salesforce", "c.pth")):
        save_checkpoint(
            tmp_path / place, replace(checkpoint, weights=dict(model.named_parameters())), layout
        )  # type: ignore[arg-type]
        read = load_checkpoint(tmp_path / place).weights
        assert all(
            torch.equal(read[name], weight) and not read[name].requires_grad
            for name, weight in model.named_parameters()
        )


def test_all_files_are_as_readable_as_each_other(folder: Path) -> None:
    assert len({file.stat().st_mode for file in folder.iterdir()}) == 1


def test_a_file_where_a_folder_belongs(folder: Path, make_checkpoint: MakeCheckpoint) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"config\.json: a file, but the cutline layout is a folder; give the name of a folder$",
    ):
        save_checkpoint(folder / "config.json", make_checkpoint())
    with pytest.raises(
        CheckpointError,
        match=r"model: a folder, but the salesforce layout is one file; give a name such as \S+model\.pth$",
    ):
        save_checkpoint(folder, make_checkpoint(), "salesforce")


def test_failed_save_leaves_the_old_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch, make_checkpoint: MakeCheckpoint
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def disk_full(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("cutline.checkpoint.storage.save_file", disk_full)
    for place in (folder, folder / "new"):
        with pytest.raises(
            CheckpointError, match=r"no space left.*what was there before is untouched"
        ):
            save_native(place, make_checkpoint())
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    assert sorted(file.name for file in (folder / "new").iterdir()) == [
        "config.json",
        "tokenizer.json",
    ]  # weights come last


def test_training_run_stands_for_its_best_checkpoint(
    tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    save_native(tmp_path / "run" / "best", make_checkpoint(seed=3))
    assert torch.equal(
        load_checkpoint(tmp_path / "run").weights["vision.norm.bias"],
        make_checkpoint(seed=3).weights["vision.norm.bias"],
    )


def test_file_of_a_folder_stands_for_the_folder(folder: Path) -> None:
    assert load_checkpoint(folder / "model.safetensors").config == load_checkpoint(folder).config


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights(folder: Path, share: float) -> None:
    file = folder / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(
        CheckpointError,
        match=r"^[^\n]*model\.safetensors: not a whole safetensors file \([^\n]*\); copy or save it again$",
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("version", [2, None])
def test_other_version(folder: Path, version: int | None) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"version": version}))
    with pytest.raises(
        CheckpointError,
        match=rf"config\.json: version {version} of the format, but .* reads version 1; upgrade cutline$",
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            "config.json",
            r"holds neither config\.json nor a trained model in best/; give a model's folder$",
        ),
        (
            "model.safetensors",
            r"model\.safetensors: cannot be read \(No such file or directory.*\); give a whole model$",
        ),
        (
            "tokenizer.json",
            r"tokenizer\.json: the vocabulary cannot be read \(No such file or directory\)",
        ),
    ],
)
def test_missing_file(folder: Path, missing: str, message: str) -> None:
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
            r"config\.json: describes no BLIP captioner \(model_type None\); give a captioner's folder$",
        ),
        (
            '{"model_type": "gpt2"}',
            r"config\.json: describes no BLIP captioner \(model_type gpt2\); give a captioner's folder$",
        ),
    ],
)
def test_config_that_is_none(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_misspelt_setting_is_named(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    values["config"]["vision"]["dept"] = 3
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        ConfigError,
        match=r"config\.json: unknown setting `vision\.dept`; did you mean `vision\.depth`\?",
    ):
        load_checkpoint(folder)


def test_weights_of_another_model(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["text.extra"] = weights.pop("text.norm.bias")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"\(missing: text\.norm\.bias; unexpected: text\.extra\)"
    ):
        load_checkpoint(folder)
