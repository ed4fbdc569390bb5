"""Rows that flow from tar shards."""

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from interruption import interrupt_at
from safetensors.torch import load_file
from tars import write_tar

from cutline.config import DataConfig, InitConfig, Recipe
from cutline.data import stream_shards
from cutline.errors import ConfigError, DataError
from cutline.tokenizer import Tokenizer
from cutline.training import Interrupted, read_log, train
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import ShardDataset, stream_batches

Build = Callable[..., Recipe]
SHARDS = 3


@pytest.fixture(scope="module")
def shards(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes in three tar shards, with their vocabulary beside them."""
    folder = tmp_path_factory.mktemp("shards")
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    for shard in range(SHARDS):
        members: dict[str, bytes | str] = {}
        for number, row in list(enumerate(rows))[shard::SHARDS]:
            members[f"{number:04d}.png"] = (scenes.parent / row["file_name"]).read_bytes()
            members[f"{number:04d}.txt"] = row["captions"][0]
        write_tar(folder / f"{shard:03d}.tar", members)
    Tokenizer.train([*(row["captions"][0] for row in rows), "an image of"] * 2, 300).save(
        folder / "tokenizer.json"
    )
    return folder


def settings(shards: Path, **others: object) -> dict[str, object]:
    """Of a recipe that streams."""
    vocabulary = InitConfig(tokenizer=str(shards / "tokenizer.json"))
    data = {
        "data_train": str(shards),
        "data_stream": True,
        "data_samples_per_epoch": 20,
        "data_shuffle_buffer": 4,
    }
    return {**data, "init": vocabulary, **others}


def shard_rows(shards: Path) -> ShardDataset:
    tokenizer = Tokenizer.load(shards / "tokenizer.json")
    data = DataConfig(train=str(shards), stream=True, samples_per_epoch=20, shuffle_buffer=4)
    return ShardDataset(data, tokenizer, "a picture of ", 32, seed=1)


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_the_parts_of_a_pass_are_all_rows_once(shards: Path, parts: int) -> None:
    """With fewer shards than parts, too; captions tell the rows apart as well as they tell the scenes apart."""
    rows = shard_rows(shards)
    whole = [str(row().captions) for _, row in zip(range(20), rows.read(0, 1), strict=False)]
    seen: Counter[str] = Counter()
    for part in range(parts):
        for sample in stream_shards(
            str(shards), seed=1, epoch=0, reader=part, num_readers=parts, shuffle_buffer=4
        ):
            seen.update(str(row().captions) for row in rows.rows_of(sample, 0))
    assert seen == Counter(whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_goes_on_where_it_was(shards: Path, workers: int) -> None:
    """Beyond the first pass, too, and whichever worker's turn it is."""
    rows, order = shard_rows(shards), BatchSampler(20, 3, 1)
    whole = [
        batch.input_ids
        for batch, _ in zip(stream_batches(rows, order, 0, 0, workers), range(12), strict=False)
    ]
    resumed = [
        batch.input_ids
        for batch, _ in zip(stream_batches(rows, order, 5, 0, workers), range(7), strict=False)
    ]
    assert len(resumed) == 7
    assert all(torch.equal(one, other) for one, other in zip(whole[5:], resumed, strict=True))


def test_a_stopped_run_on_shards_resumes_exactly(
    recipe: Build, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [
        recipe(output=tmp_path / name, **settings(shards, optim_grad_accum_steps=2))
        for name in ("whole", "parts")
    ]
    train(runs[0], show_progress=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(Interrupted):
            train(runs[1], show_progress=False)
    train(runs[1], resume=True, show_progress=False)
    logs = [
        [line["loss"] for line in read_log(Path(run.output) / "log.jsonl") if "loss" in line]
        for run in runs
    ]
    assert logs[0] == logs[1]
    assert len(logs[0]) == 4
    one, other = (load_file(Path(run.output) / "last" / "model.safetensors") for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_bad_picture_in_a_shard_is_named_and_skipped(
    recipe: Build, shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    with tarfile.open(shards / "000.tar") as good:
        members = {member.name: good.extractfile(member).read() for member in good}  # type: ignore[union-attr]
    members["0003.png"] = members["0003.png"][: len(members["0003.png"]) // 2]
    write_tar(folder / "000.tar", members)
    run = recipe(**settings(shards, data_train=str(folder), optim_epochs=1))
    lines = read_log(train(run, show_progress=False).parent / "log.jsonl")
    skipped = {line["skipped"] for line in lines if "skipped" in line}
    assert len(skipped) == 1
    assert "0003" in skipped.pop()


def test_shards_come_through_a_command_too(recipe: Build, shards: Path) -> None:
    pytest.importorskip("webdataset")
    run = recipe(
        **settings(shards, data_train=f"pipe:cat {shards}/{{000..002}}.tar", optim_epochs=1)
    )
    assert train(run, show_progress=False).is_dir()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"data_samples_per_epoch": 0}, "stream and epoch_rows go together"),
        ({"init": InitConfig()}, "give a vocabulary"),
        ({"data_val": "", "data_val_fraction": 0.1}, "no images can be set apart"),
        ({"data_cache": True}, "leave the caches off"),
    ],
)
def test_settings_that_do_not_go_with_a_stream_are_refused(
    recipe: Build, shards: Path, wrong: dict, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        recipe(**{**settings(shards), **wrong})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_shard_ends_the_run_with_one_sentence(
    recipe: Build, shards: Path, tmp_path: Path, workers: int
) -> None:
    """Also where a loader's process finds it; what was learned before it is kept."""
    folder = tmp_path / "broken"
    shutil.copytree(shards, folder)
    for name in ("000.tar", "001.tar"):
        (folder / name).write_bytes((folder / name).read_bytes()[:5000])
    with pytest.raises(DataError, match=r"^\S+\.tar: the shard cannot be read .*leave it out$"):
        train(
            recipe(
                **settings(
                    shards, data_train=str(folder), data_num_workers=workers, data_shuffle_buffer=1
                )
            ),
            show_progress=False,
        )
    assert (tmp_path / "run" / "state.safetensors").exists()


def test_workers_of_a_stream_are_part_of_the_run(recipe: Build, shards: Path) -> None:
    train(recipe(**settings(shards, optim_epochs=1)), show_progress=False)
    with pytest.raises(ConfigError, match=r"data\.num_workers = 0, not 2"):
        train(
            recipe(**settings(shards, optim_epochs=1, data_num_workers=2)),
            resume=True,
            show_progress=False,
        )


def test_what_is_not_a_stream_says_so(recipe: Build, scenes: Path, shards: Path) -> None:
    with pytest.raises(ConfigError, match=r"`data\.stream` is for tar shards"):
        train(recipe(**settings(shards, data_train=str(scenes))), show_progress=False)
    with pytest.raises(ConfigError, match="no columns, splits or image_root"):
        train(recipe(**settings(shards, data_prompt_column="style")), show_progress=False)
    with pytest.raises(DataError, match="no image with a caption for reader 21 of 21"):
        next(shard_rows(shards).read(20, 21))
