"""Training examples streamed from tar shards."""

import json
import multiprocessing
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
import torch
from equal_runs import assert_equal_files
from interruption import train_interrupted
from tars import write_tar

from cutline.config import DataConfig, InitConfig, Recipe
from cutline.data import stream_shards
from cutline.errors import ConfigError, DataError
from cutline.tokenizer import Tokenizer
from cutline.training import (
    dry_run,
    inspect_first_batch,
    overfit,
    read_log,
    run_lr_range_test,
    train,
)
from cutline.training.data.batch import LoaderConfig
from cutline.training.data.caption_batch import collate_captions
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import ShardDataset, stream_batches

Build = Callable[..., Recipe]
NUM_SHARDS = 3


@pytest.fixture(scope="module")
def shards(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the scenes in three tar shards, and their vocabulary."""
    folder = tmp_path_factory.mktemp("shards")
    rows = [json.loads(line) for line in scenes.read_text().splitlines()]
    for shard in range(NUM_SHARDS):
        members: dict[str, bytes | str] = {}
        for number, row in list(enumerate(rows))[shard::NUM_SHARDS]:
            members[f"{number:04d}.png"] = (scenes.parent / row["file_name"]).read_bytes()
            members[f"{number:04d}.txt"] = row["captions"][0]
        write_tar(folder / f"{shard:03d}.tar", members)
    texts = [*(row["captions"][0] for row in rows), "a picture of"]
    Tokenizer.train(texts * 2, 300).save(folder / "tokenizer.json")
    return folder


def stream_settings(shards: Path, **changes: object) -> dict[str, object]:
    """Return the changes that make a recipe stream `shards`."""
    return {
        "data_train": str(shards),
        "data_stream": True,
        "data_samples_per_epoch": 20,
        "data_shuffle_buffer": 4,
        "init": InitConfig(tokenizer=str(shards / "tokenizer.json")),
        **changes,
    }


def make_dataset(shards: Path) -> ShardDataset:
    tokenizer = Tokenizer.load(shards / "tokenizer.json")
    data = DataConfig(train=str(shards), stream=True, samples_per_epoch=20, shuffle_buffer=4)
    return ShardDataset(data, tokenizer, "a picture of ", 32, seed=1)


@pytest.mark.parametrize("num_readers", [1, 2, 5])
def test_readers_share_all_examples_of_a_pass(shards: Path, num_readers: int) -> None:
    """There may be more readers than shards; an example is identified by its caption."""
    dataset = make_dataset(shards)
    expected = [str(open_example().captions) for open_example in islice(dataset.read(0, 1), 20)]
    counts: Counter[str] = Counter()
    for reader in range(num_readers):
        for sample in stream_shards(
            str(shards), seed=1, epoch=0, reader=reader, num_readers=num_readers, shuffle_buffer=4
        ):
            examples = dataset.make_examples(sample, 0)
            counts.update(str(open_example().captions) for open_example in examples)
    assert counts == Counter(expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_stream_continues_where_it_stopped(shards: Path, num_workers: int) -> None:
    """The stream resumes beyond the first pass, and at any worker's turn."""
    dataset, sampler = make_dataset(shards), BatchSampler(20, 3, 1)
    loader = LoaderConfig(partial(collate_captions, pad_id=0), num_workers)
    full, resumed = (
        [batch.input_ids for batch in islice(stream_batches(dataset, sampler, start, loader), n)]
        for start, n in ((0, 12), (5, 7))
    )
    assert len(resumed) == 7
    assert all(torch.equal(a, b) for a, b in zip(full[5:], resumed, strict=True))


def test_interrupted_run_on_shards_resumes_exactly(
    recipe: Build, shards: Path, tmp_path: Path
) -> None:
    full, resumed = (
        recipe(output=tmp_path / name, **stream_settings(shards, optim_grad_accum_steps=2))
        for name in ("full", "resumed")
    )
    train(full, show_progress=False)
    train_interrupted(resumed, 3)
    train(resumed, resume=True, show_progress=False)
    losses = [
        [line["loss"] for line in read_log(Path(run.output) / "log.jsonl") if "loss" in line]
        for run in (full, resumed)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    assert_equal_files(full, resumed, "last/model.safetensors")


def test_unreadable_image_in_a_shard_is_reported_and_skipped(
    recipe: Build, shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    with tarfile.open(shards / "000.tar") as good:
        members = {member.name: good.extractfile(member).read() for member in good}
    members["0003.png"] = members["0003.png"][: len(members["0003.png"]) // 2]
    write_tar(folder / "000.tar", members)
    run = recipe(**stream_settings(shards, data_train=str(folder), optim_epochs=1))
    lines = read_log(train(run, show_progress=False).parent / "log.jsonl")
    skipped = {line["skipped"] for line in lines if "skipped" in line}
    assert len(skipped) == 1
    assert "0003" in skipped.pop()


def test_shards_are_read_through_a_command(recipe: Build, shards: Path) -> None:
    pytest.importorskip("webdataset")
    urls = f"pipe:cat {shards}/{{000..002}}.tar"
    run = recipe(**stream_settings(shards, data_train=urls, optim_epochs=1))
    assert train(run, show_progress=False, allow_pipe=True).is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_samples_per_epoch": 0}, "`data.stream` and `data.samples_per_epoch` go together"),
        ({"init": InitConfig()}, "for the vocabulary"),
        ({"data_val": "", "data_val_fraction": 0.1}, "cannot hold out images"),
        ({"data_cache": True}, "turn off `data.cache`"),
    ],
)
def test_settings_that_do_not_fit_a_stream_are_refused(
    recipe: Build, shards: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**stream_settings(shards, **changes))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_broken_shard_ends_the_run_with_one_sentence(
    recipe: Build, shards: Path, tmp_path: Path, num_workers: int
) -> None:
    """Errors in worker processes are reported, too, and the earlier steps are saved."""
    folder = tmp_path / "broken"
    shutil.copytree(shards, folder)
    for name in ("000.tar", "001.tar"):
        (folder / name).write_bytes((folder / name).read_bytes()[:5000])
    changes = {
        "data_train": str(folder),
        "data_num_workers": num_workers,
        "data_shuffle_buffer": 1,
        "optim_batch_size": 1,
    }
    with pytest.raises(
        DataError, match=r"^data\.train: \S+\.tar: the shard cannot be read .*remove it$"
    ) as caught:
        train(recipe(**stream_settings(shards, **changes)), show_progress=False)
    assert multiprocessing.active_children() == []
    assert caught.traceback  # which keeps all variables
    assert (tmp_path / "run" / "state.safetensors").exists()  # which needs a step


def test_stream_cannot_be_resumed_with_other_workers(recipe: Build, shards: Path) -> None:
    settings = stream_settings(shards, optim_epochs=1)
    train(recipe(**settings), show_progress=False)
    with pytest.raises(ConfigError, match=r"data\.num_workers = 0, not 2"):
        train(recipe(**settings, data_num_workers=2), resume=True, show_progress=False)


def test_data_that_cannot_be_streamed_are_refused(
    recipe: Build, scenes: Path, shards: Path
) -> None:
    with pytest.raises(ConfigError, match=r"`data\.stream` is for tar shards"):
        train(recipe(**stream_settings(shards, data_train=str(scenes))), show_progress=False)
    with pytest.raises(ConfigError, match="columns, splits and image_root have no effect"):
        train(recipe(**stream_settings(shards, data_prompt_column="style")), show_progress=False)
    with pytest.raises(DataError, match="no image with a caption for data loading worker 21 of 21"):
        next(make_dataset(shards).read(20, 21))


@pytest.mark.parametrize("resume", [False, True])
def test_commands_are_refused_before_anything_else(
    recipe: Build, shards: Path, tmp_path: Path, resume: bool
) -> None:
    urls = f"{shards}::pipe:touch {tmp_path}/canary"
    run = recipe(**stream_settings(shards, data_train=urls), output=tmp_path / "run")
    message = (
        r"^data\.train: pipe:touch \S+: a shell command; .*pass --allow-pipe .*allow_pipe=True"
    )
    with pytest.raises(ConfigError, match=message):
        train(run, resume=resume, show_progress=False)
    for diagnostic in (dry_run, overfit, inspect_first_batch):
        with pytest.raises(ConfigError, match=message):
            diagnostic(run)
    with pytest.raises(ConfigError, match=message):
        run_lr_range_test(run, 1e-5, 1)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "canary").exists()


def test_diagnostics_run_allowed_commands(recipe: Build, shards: Path) -> None:
    pytest.importorskip("webdataset")
    run = recipe(**stream_settings(shards, data_train=f"pipe:cat {shards}/000.tar"))
    assert dry_run(run, allow_pipe=True).num_images > 0
    assert inspect_first_batch(run, allow_pipe=True)


def test_a_folder_with_lists_of_captions_names_them(recipe: Build, tmp_path: Path) -> None:
    (tmp_path / "photos/images").mkdir(parents=True)
    (tmp_path / "photos/images/a.jpg").touch()
    for name in ("train.jsonl", "val.jsonl"):
        (tmp_path / "photos" / name).touch()
    message = r"photos: a folder of images .*; give \S+photos/train\.jsonl or \S+photos/val\.jsonl$"
    with pytest.raises(DataError, match=message):
        train(recipe(data_train=str(tmp_path / "photos")), show_progress=False)
