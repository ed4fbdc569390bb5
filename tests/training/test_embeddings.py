"""Embeddings kept on disk change what a run costs, and nothing else."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from processes import launch
from safetensors.torch import load_file

import cutline
from cutline.config import ImageConfig, LoraConfig, Recipe
from cutline.data import Sample
from cutline.image import normalize, open_image, to_pixels
from cutline.training import read_log, train
from cutline.training.data import embeddings
from cutline.training.data.dataset import CaptionDataset
from cutline.training.data.embeddings import EmbeddingStore, embed, fingerprint_model, picture_key
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import prepare_run

Build = Callable[..., Recipe]
FROZEN = {
    "optim_freeze": ("vision.*",),
    "data_augment": False,
    "data_val": "",
    "data_val_fraction": 0.0,
    "eval_every_epochs": 9,
}


@pytest.fixture
def kept(recipe: Build, tmp_path: Path) -> Build:
    """Builds a recipe whose embeddings are kept in one folder."""
    return lambda **changes: recipe(
        **{**FROZEN, "data_cache_embeddings": str(tmp_path / "store"), **changes}
    )


@pytest.fixture
def pictures(scenes: Path, tmp_path: Path) -> Path:
    """The scenes once more, to do things to."""
    return Path(shutil.copytree(scenes.parent, tmp_path / "images")) / scenes.name


def lines(folder: str | Path, key: str) -> list:
    return [line[key] for line in read_log(Path(folder) / "log.jsonl") if key in line]


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "state.safetensors")


def stop_at(step: int) -> Callable[..., None]:
    """A check that ends a run at `step`."""

    def check(self: Trainer, loss: float, norm: float) -> None:
        if self.progress.step + 1 == step:
            raise cutline.CutlineError("enough")

    return check


def embedded(recipe: Recipe) -> CaptionDataset:
    """The rows of a run that is about to begin."""
    prepared = prepare_run(recipe)
    prepared.rows.embeddings = embed(
        recipe, prepared.model, prepared.rows.used_samples(), show_progress=False
    )
    return prepared.rows


def count_made(monkeypatch: pytest.MonkeyPatch) -> list[str | bytes]:
    """The images that are read from now on, to train on."""
    read: list[str | bytes] = []
    original = embeddings.prefetch_images

    def prefetch_images(pairs: list, *settings: int) -> object:
        pairs = list(pairs)
        read.extend(image for image, _ in pairs)
        return original(iter(pairs), *settings)

    monkeypatch.setattr(embeddings, "prefetch_images", prefetch_images)
    monkeypatch.setattr(
        CaptionDataset, "_open", lambda self, index: pytest.fail("an image was read again")
    )
    return read


@pytest.mark.parametrize(
    ("precision", "changes"),
    [
        ("fp32", {"data_val_fraction": 0.2, "eval_select_by": "loss"}),
        ("bf16", {}),
        ("fp32", {"data_captions_per_image": 2, "data_num_workers": 2}),
        (
            "fp32",
            {
                "lora": LoraConfig(rank=2, targets=("text.*.kv", "text.*.qkv")),
                "optim_freeze": (),
            },
        ),
    ],
    ids=["fp32", "bf16", "workers", "lora"],
)
def test_kept_equals_computed(kept: Build, tmp_path: Path, precision: str, changes: dict) -> None:
    """Losses, evaluations and weights, with dropout and stochastic depth as they come."""
    one = kept(output=str(tmp_path / "one"), precision=precision, **changes)
    other = kept(
        output=str(tmp_path / "other"),
        precision=precision,
        **{**changes, "data_cache_embeddings": ""},
    )
    for run in (one, other):
        train(run, show_progress=False)
    near = {"fp32": 1e-5, "bf16": 1e-2}[precision]
    for key in ("loss", "grad_norm", "val_loss"):
        assert lines(one.output, key) == pytest.approx(lines(other.output, key), rel=10 * near)
    first, second = weights(one.output), weights(other.output)
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(
            weight,
            second[name],
            rtol=near,
            atol=near,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_the_store_gives_what_the_vision_side_gives(kept: Build) -> None:
    run = kept()
    model = prepare_run(run).model.eval()
    rows = embedded(run)
    for row in (0, 7, 19):
        pixels = to_pixels(open_image(rows.samples[row].image), 32)
        with torch.no_grad():
            [expected] = model.vision(normalize(pixels[None], model.config.image))
        item = rows[(3, row)]
        assert not isinstance(item, str)
        torch.testing.assert_close(item.image_embeds, expected, rtol=1e-5, atol=1e-5)


def test_later_runs_read_no_picture(
    kept: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However they differ in what follows the vision side."""
    read = count_made(monkeypatch)
    train(kept(optim_epochs=1), show_progress=False)
    assert len(read) == 20
    changes = {
        "optim_lr": 1e-2,
        "vision_drop_path": 0.3,
        "optim_batch_size": 3,
        "eval_batch_size": 7,
    }
    train(kept(output=str(tmp_path / "again"), **changes), show_progress=False)
    assert len(read) == 20


def test_pictures_that_changed_or_came_are_read(
    kept: Build, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pictures.read_text().splitlines()
    pictures.write_text("\n".join(rows[:-1]))
    run = kept(data_train=str(pictures))
    before = embedded(run)
    read = count_made(monkeypatch)
    changed = pictures.parent / "scene-000002.png"
    changed.write_bytes((pictures.parent / "scene-000003.png").read_bytes() + b"\0")
    pictures.write_text("\n".join(rows))
    after = embedded(run)
    assert {Path(str(image)).name for image in read} == {"scene-000002.png", "scene-000019.png"}
    assert [
        torch.equal(before[(0, row)].image_embeds, after[(0, row)].image_embeds) for row in range(4)
    ] == [True, True, False, True]
    torch.testing.assert_close(after[(0, 2)].image_embeds, after[(0, 3)].image_embeds)


def test_bytes_are_known_by_what_they_are(
    kept: Build, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kept()
    model = prepare_run(run).model
    read = count_made(monkeypatch)
    content = [(scenes.parent / f"scene-{number:06d}.png").read_bytes() for number in (0, 1, 0)]
    found = embed(
        run,
        model,
        {4 * index: Sample(image, ("a",), str(index)) for index, image in enumerate(content)},
        False,
    )
    assert found[0] == found[8] != found[4]
    assert read == content[:2]


def embed_and_die(run: Recipe, torn: str) -> None:
    """Write two batches, and be killed in the middle of the third."""
    append, written = EmbeddingStore.append, []

    def append_or_die(self: EmbeddingStore, keys: list[bytes], image_embeds: torch.Tensor) -> None:
        written.append(keys)
        if len(written) < 3:
            return append(self, keys, image_embeds)
        records = image_embeds.numpy().tobytes()
        parts = {
            "records": (records[: len(records) // 2], b""),
            "keys": (records, keys[0] + keys[1][:5]),
        }[torn]
        for kind, content in zip((".records", ".keys"), parts, strict=True):
            with self.part.with_suffix(kind).open("ab") as file:
                file.write(content)
        os.kill(os.getpid(), signal.SIGKILL)

    EmbeddingStore.append = append_or_die  # type: ignore[method-assign]  # in this process alone
    embedded(run)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("torn", "whole"), [("records", 6), ("keys", 7)])
def test_a_killed_pass_goes_on(
    kept: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: str, whole: int
) -> None:
    """All that was finished is kept, nothing that is half written is taken for whole, and the rest is made."""
    run = kept(eval_batch_size=3)
    process = multiprocessing.get_context("forkserver").Process(
        target=embed_and_die, args=(run, torn)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    read = count_made(monkeypatch)
    resumed, fresh = embedded(run), embedded(kept(data_cache_embeddings=str(tmp_path / "fresh")))
    assert len(read) == 20 - whole + 20
    for row in range(20):
        torch.testing.assert_close(
            resumed[(0, row)].image_embeds, fresh[(0, row)].image_embeds, rtol=1e-5, atol=1e-5
        )


def test_runs_at_the_same_time_share_a_folder(kept: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run begins and ends while the first is making its embeddings."""
    append = EmbeddingStore.append
    run, inner = kept(eval_batch_size=6), []

    def append_and_interrupt(
        self: EmbeddingStore, keys: list[bytes], image_embeds: torch.Tensor
    ) -> None:
        append(self, keys, image_embeds)
        if not inner:
            inner.append(None)
            inner[0] = embedded(run)

    monkeypatch.setattr(EmbeddingStore, "append", append_and_interrupt)
    outer = embedded(run)
    for row in range(20):
        torch.testing.assert_close(
            outer[(0, row)].image_embeds, inner[0][(0, row)].image_embeds, rtol=1e-5, atol=1e-5
        )


def test_another_vision_side_is_refused(kept: Build) -> None:
    """Other weights, another image size, precision or normalisation; not other settings of the text side."""
    embedded(kept())
    embedded(kept(text_depth=1))
    others = [
        {"seed": 1},
        {"precision": "bf16"},
        {"vision_image_size": 16},
        {"model_image": ImageConfig(mean=(0.5, 0.5, 0.5))},
    ]
    for changes in others:
        with pytest.raises(
            cutline.ConfigError,
            match=r"store holds embeddings of another vision side .*delete the folder, or name another",
        ):
            embedded(kept(**changes))


def test_every_weight_counts(kept: Build) -> None:
    model = prepare_run(kept()).model
    before = fingerprint_model(model, torch.float32)
    for weight in model.vision.parameters():
        value = weight.flatten()[-1].item()
        weight.data.view(-1)[-1] = value + 1e-3
        assert fingerprint_model(model, torch.float32) != before
        weight.data.view(-1)[-1] = value
    assert fingerprint_model(model, torch.float32) == before


def test_bad_pictures_are_skipped_and_named_as_ever(
    kept: Build, pictures: Path, tmp_path: Path
) -> None:
    (pictures.parent / "scene-000004.png").unlink()
    (pictures.parent / "scene-000011.png").write_bytes(b"no image")
    runs = [
        kept(
            output=str(tmp_path / name),
            data_train=str(pictures),
            data_cache_embeddings=name and str(tmp_path / name),
        )
        for name in ("", "s")
    ]
    runs[0] = replace(runs[0], output=str(tmp_path / "plain"))
    for run in runs:
        train(run, show_progress=False)
    said = [sorted(lines(run.output, "skipped")) for run in runs]
    assert said[0] == said[1]
    assert len(said[0]) == 2
    assert lines(runs[0].output, "loss") == pytest.approx(lines(runs[1].output, "loss"), rel=1e-5)


def test_a_picture_that_was_mended_is_no_longer_skipped(kept: Build, pictures: Path) -> None:
    bad = pictures.parent / "scene-000004.png"
    good = bad.read_bytes()
    bad.unlink()
    run = kept(data_train=str(pictures))
    assert "scene-000004.png" in embedded(run)[(0, 4)]
    bad.write_bytes(good)
    assert not isinstance(embedded(run)[(0, 4)], str)


def test_a_full_disk_is_seen_before_the_work(kept: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6 - 5000, 5000)
    )
    read = count_made(monkeypatch)
    with pytest.raises(
        cutline.CutlineError,
        match=r"store: 20 embeddings take 0.0 GB, and 0.0 GB are free: make room, or name another",
    ):
        embedded(kept())
    assert read == []


def test_a_disk_that_fills_up_keeps_what_is_there(
    kept: Build, monkeypatch: pytest.MonkeyPatch, limit_file_size: Callable[[int | None], None]
) -> None:
    limit_file_size(4 * 5 * 32 * 4)  # bytes of four records
    with pytest.raises(
        cutline.CutlineError,
        match=r"store: cannot be written \(File too large\); what is there is good",
    ):
        embedded(kept(eval_batch_size=3))
    limit_file_size(None)
    read = count_made(monkeypatch)
    embedded(kept())
    assert len(read) == 17


def test_a_store_that_goes_away_is_named(kept: Build, tmp_path: Path) -> None:
    rows = embedded(kept())
    [records] = (tmp_path / "store").glob("*.records")
    with records.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(cutline.DataError, match=r"records: has become shorter; start again"):
        rows.read((0, 3))
    assert not isinstance(embedded(kept())[(0, 3)], str)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(cutline.DataError, match=r"records: cannot be read .*start again"):
        rows.read((0, 3))


def test_a_stopped_run_may_go_on_with_and_without(kept: Build, tmp_path: Path) -> None:
    whole, parts = (kept(output=str(tmp_path / name)) for name in ("whole", "parts"))
    train(whole, show_progress=False)
    assert len(lines(whole.output, "loss")) == 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "check_finite", stop_at(3))
        with pytest.raises(cutline.CutlineError, match="enough"):
            train(
                replace(parts, data=replace(parts.data, cache_embeddings="")), show_progress=False
            )
    train(parts, resume=True, show_progress=False)
    assert lines(parts.output, "loss") == pytest.approx(lines(whole.output, "loss"), rel=1e-5)


@pytest.mark.slow
def test_several_processes_share_the_work(kept: Build, tmp_path: Path) -> None:
    """Copied or sharded, also where the last process has no row: as one process without a store."""
    settings = {"optim_epochs": 1, "text_dropout": 0.0, "text_attn_dropout": 0.0}
    layouts = {"ddp": {}, "fsdp": {"distributed_fsdp": True}}
    sizes = {"": {"optim_batch_size": 5}, "-empty": {"optim_batch_size": 20}}
    runs = {
        layout + size: kept(
            output=str(tmp_path / (layout + size)),
            data_cache_embeddings=str(tmp_path / "shared"),
            **settings,
            **layouts[layout],
            **sizes[size],
        )
        for layout in layouts
        for size in sizes
    }
    launch([(run, False, 0) for run in runs.values()], tmp_path)
    assert len(list((tmp_path / "shared").glob("*.keys"))) == 2  # a part each
    for size, batch in (("", 10), ("-empty", 40)):
        alone = kept(
            output=str(tmp_path / f"alone{size}"),
            data_cache_embeddings="",
            **settings,
            optim_batch_size=batch,
        )
        train(alone, show_progress=False)
        for layout in layouts:
            assert lines(runs[layout + size].output, "loss") == pytest.approx(
                lines(alone.output, "loss"), rel=1e-5
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_augment": True}, "data.augment"),
        ({"optim_freeze": ()}, "`optim.freeze` to 'vision.*'"),
        ({"optim_freeze": ("vision.blocks.*",)}, "`optim.freeze` to 'vision.*'"),
        ({"optim_freeze": ("text.*",)}, "`optim.freeze` to 'vision.*'"),
        ({"optim_freeze": (), "lora": LoraConfig(rank=2)}, "`lora.targets` with 'text.'"),
        (
            {
                "optim_freeze": (),
                "lora": LoraConfig(rank=2, targets=("text.*.kv", "vision.*.qkv")),
            },
            "`lora.targets` with 'text.'",
        ),
    ],
)
def test_a_vision_side_that_learns_is_refused(kept: Build, changes: dict, message: str) -> None:
    with pytest.raises(cutline.ConfigError) as error:
        kept(**changes)
    assert message in str(error.value)


def test_without_augmentation_pictures_are_as_in_evaluation(recipe: Build) -> None:
    rows = prepare_run(recipe(data_augment=False, data_rot90=True)).rows
    expected = to_pixels(open_image(rows.samples[0].image), 32)
    assert all(torch.equal(rows[(epoch, 0)].pixels, expected) for epoch in range(4))


def test_keys_tell_pictures_apart(tmp_path: Path) -> None:
    """Odd names are names, and an image is not its neighbour."""
    names = [str(tmp_path / "a"), str(tmp_path / "b"), "\ud800", "a\0b", "a\nb"]
    keys = {picture_key(name) for name in names}
    assert len(keys) == len(names)
    assert picture_key(os.path.relpath(names[0])) == picture_key(names[0])
    Path(names[0]).write_bytes(b"1")
    assert picture_key(names[0]) not in keys
