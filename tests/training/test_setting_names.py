"""Errors of `cutline train` name the recipe's settings, not the flags of other commands."""

import json
import logging
import re
import shlex
import shutil
from pathlib import Path

import pyarrow
import pytest
import torch
import yaml
from PIL import Image
from pyarrow import parquet
from random_captioner import save_captioner, save_encoders
from random_matcher import save_matcher
from tiny_recipe import MODEL, tiny_recipe

from cutline.checkpoint import load_checkpoint, save_checkpoint
from cutline.cli.main import run_command
from cutline.config import ModelSettings, to_dict

FLAGS = ("--allow-pipe", "--resume", "--data.train", "--init.captioner", "--output")
"""flags of `train` that errors may name"""
NEW = "--init.captioner '' "
"""without a captioner to start from"""
ENCODERS = f"{NEW} --init.vision vision.safetensors --init.text text.safetensors"
CASES = [
    # the model to start from
    ("--init.captioner no-such", "init.captioner"),
    ("--init.captioner no/such", "init.captioner"),
    ("--init.captioner empty", "init.captioner"),
    ("--init.captioner broken", "init.captioner"),
    ("--init.captioner matcher", "init.captioner"),
    ("--init.captioner matcher", "init.matcher"),
    ("--init.captioner columns.csv", "init.captioner"),
    ("--task match --init.captioner no/such", "init.captioner"),
    ("--task match --init.captioner matcher", "init.captioner"),
    (f"--task match {NEW} --init.matcher no/such", "init.matcher"),
    (f"--task match {NEW} --init.matcher model", "init.matcher"),
    ("--task pretrain --init.captioner no/such", "init.captioner"),
    ("--init.captioner bare.pth", "init.config"),
    ("--init.captioner model.pth --init.config none", "init.config"),
    ("--init.captioner model.pth --init.config columns.csv", "init.config"),
    ("--init.captioner model.pth --init.config base", "init.image_size"),
    ("--init.captioner model --init.config base", "init.config"),
    ("--init.captioner model --init.image-size 33", "init.image_size"),
    ("--init.captioner sizes.pth", "init.tokenizer"),
    ("--init.captioner sizes.pth --init.tokenizer none.txt", "init.tokenizer"),
    ("--init.captioner model --init.tokenizer columns.csv", "init.tokenizer"),
    ("--init.captioner hf --init.tokenizer columns.csv", "init.tokenizer"),
    ("--init.captioner model --init.tokenizer other.json", "init.tokenizer"),
    (f"{NEW} --init.tokenizer none.txt", "init.tokenizer"),
    (f"{NEW} --init.vocab-size 5", "init.vocab_size"),
    (f"{ENCODERS} --init.tokenizer other.json", "init.text"),
    (f"{NEW} --init.vision none.pth", "init.vision"),
    (f"{NEW} --init.vision text.safetensors", "init.vision"),
    (f"{NEW} --init.text none.pth", "init.text"),
    (f"{NEW} --init.text vision.safetensors --init.tokenizer model", "init.text"),
    # the data
    ("--data.train ''", "data.train"),
    ("--data.train none.jsonl", "data.train"),
    ("--data.train empty", "data.train"),
    ("--data.train columns.csv", "data.train"),
    ("--data.train columns.csv", "data.image_column"),
    ("--data.train columns.csv --data.image-column bild", "data.caption_column"),
    ("--data.train columns.csv --data.image-column file", "data.image_column"),
    ("--data.train scenes.jsonl --data.caption-column text", "data.caption_column"),
    ("--data.train scenes.jsonl --data.group-column scene --data.val ''", "data.group_column"),
    ("--data.train scenes.jsonl --data.group-pattern xyz --data.val ''", "data.group_pattern"),
    ("--data.train scenes.jsonl --data.prompt-template 'a {style} of'", "data.prompt_template"),
    ("--data.train scenes.jsonl --data.prompt-template 'a dog'", "data.prompt_template"),
    ("--data.train scenes.jsonl --data.train-split dev", "data.train_split"),
    ("--data.train karpathy.json --data.train-split dev", "data.train_split"),
    ("--data.train folder --data.id-column name", "data.id_column"),
    ("--data.train folder --data.id-column name", "data.train"),
    ("--data.train urls.csv", "data.train"),
    ("--data.train table.parquet", "data.image_column"),
    ("--data.train table.parquet --data.image-column bild", "data.image_column"),
    ("--data.train none.tar", "data.train"),
    ("--data.train none.tar --data.stream --data.samples-per-epoch 8", "data.train"),
    ("--data.train pipe:cat --data.stream --data.samples-per-epoch 8", "data.train"),
    ("--data.train scenes.jsonl --data.stream --data.samples-per-epoch 8", "data.stream"),
    ("--data.train scenes.jsonl --data.image-root none", "data.image_root"),
    ("--data.val none.jsonl", "data.val"),
    ("--data.val columns.csv", "data.image_column"),
    ("--data.val scenes.jsonl --data.val-split dev", "data.val_split"),
    ("--data.val missing.jsonl", "data.val"),
    # the others
    ("--data.max-tokens 4", "data.max_tokens"),
    ("--generation.max-length 3 --generation.min-length 0", "generation.max_length"),
    ("--generation.max-length 400", "generation.max_length"),
    ("--generation.bad-words zebra", "generation.bad_words"),
    ("--optim.freeze 'xyz.*'", "optim.freeze"),
    ("--lora.rank 2 --lora.targets xyz", "lora.targets"),
    ("--device cuda:99", "device"),
    ("--output folder/a.txt", "output"),
    ("--output folder/a.txt/run", "output"),
    ("--match.queue-size 5", "match.queue_size"),
    ("--task match --match.momentum 0.9 --lora.rank 2", "match.momentum"),
    ("--task match --match.momentum 2", "match.momentum"),
    ("--task match --optim.batch-size 1", "optim.batch_size"),
]


@pytest.fixture(scope="module")
def files(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models and data, most of them wrong in some way, and a recipe."""
    folder = tmp_path_factory.mktemp("files")
    shutil.copytree(scenes.parent, folder, dirs_exist_ok=True)
    (folder / scenes.name).rename(folder / "scenes.jsonl")
    write_models(folder)
    write_data(folder)
    recipe = to_dict(tiny_recipe(Path("scenes.jsonl"), "run", optim_max_steps=1))
    recipe["model"] = to_dict(ModelSettings())
    recipe["init"]["captioner"] = "model"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    recipe["model"] = to_dict(ModelSettings.from_config(MODEL))
    recipe["init"]["captioner"] = ""
    (folder / "new.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def write_models(folder: Path) -> None:
    captioner = save_captioner(folder / "model")
    save_encoders(folder, captioner)
    (folder / "tokenizer.json").unlink()  # which .pth files beside it would have
    save_matcher(folder / "matcher")
    checkpoint = load_checkpoint(folder / "model")
    save_checkpoint(folder / "hf", checkpoint, "huggingface")
    save_checkpoint(folder / "model.pth", checkpoint, "salesforce")
    content = torch.load(folder / "model.pth")
    torch.save(content, folder / "sizes.pth")
    torch.save({"model": content["model"]}, folder / "bare.pth")
    shutil.copytree(folder / "model", folder / "broken")
    (folder / "broken" / "model.safetensors").write_bytes(b"no weights")
    (folder / "empty").mkdir()
    type(captioner.tokenizer).train(["a zebra"] * 3, 60).save(folder / "other.json")


def write_data(folder: Path) -> None:
    (folder / "columns.csv").write_text("bild,legend\na.png,a dog\n")
    (folder / "urls.csv").write_text("url,caption\nhttp://localhost/a.png,a dog\n")
    (folder / "missing.jsonl").write_text('{"file_name": "gone.png", "captions": ["a dog"]}\n')
    image = {"filename": "a.png", "split": "train", "imgid": 1, "sentences": [{"raw": "a dog"}]}
    (folder / "karpathy.json").write_text(json.dumps({"images": [image]}))
    parquet.write_table(
        pyarrow.table({"bild": [{"x": 1}], "legend": ["a dog"]}), folder / "table.parquet"
    )
    (folder / "folder").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "folder" / "a.png")
    (folder / "folder" / "a.txt").write_text("a dog")


@pytest.mark.parametrize(("flags", "setting"), CASES)
def test_errors_name_the_setting(
    flags: str,
    setting: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(logging.getLogger("cutline"), "handlers", [])
    shutil.rmtree("run", ignore_errors=True)
    recipe = "new.yaml" if flags.startswith(NEW) else "recipe.yaml"
    words = shlex.split(flags.removeprefix(NEW))
    assert run_command(["train", recipe, *words]) in (1, 2)
    message = capsys.readouterr().err
    assert setting in message
    assert "internal error" not in message
    for flag in re.findall(r"(?<!\S)--[\w.-]+", message):
        assert flag in (*FLAGS, *words), message
