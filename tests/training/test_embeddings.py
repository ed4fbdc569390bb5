"""Cached embeddings give the same results as no cache."""

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
from cutline.training.data.dataset import CaptionDataset, Example
from cutline.training.data.embedding_store import EmbeddingStore
from cutline.training.data.embeddings import (
    cache_embeddings,
    compute_image_key,
    fingerprint_encoder,
)
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
def cached(recipe: Build, tmp_path: Path) -> Build:
    """Return a function that builds a recipe whose embeddings are cached in one folder."""
    return lambda **changes: recipe(
        **{**FROZEN, "data_cache_embeddings": str(tmp_path / "store"), **changes}
    )


@pytest.fixture
def copied(scenes: Path, tmp_path: Path) -> Path:
    """Return the data file of a copy of the scenes that a test may change."""
    return Path(shutil.copytree(scenes.parent, tmp_path / "images")) / scenes.name


def read_values(folder: str | Path, key: str) -> list:
    return [line[key] for line in read_log(Path(folder) / "log.jsonl") if key in line]


def load_tensors(folder: str | Path) -> dict[str, torch.Tensor]:
    return load_file(Path(folder) / "state.safetensors")


def stop_at(step: int) -> Callable[..., None]:
    """Return a replacement of `Trainer.check_finite` that ends a run at `step`."""

    def check_finite(self: Trainer, loss: float, norm: float) -> None:
        if self.state.step + 1 == step:
            raise cutline.CutlineError("stopped by the test")

    return check_finite


def load_dataset(recipe: Recipe) -> CaptionDataset:
    """Return the training examples of a run, with their embeddings."""
    setup = prepare_run(recipe)
    dataset = setup.dataset
    assert isinstance(dataset, CaptionDataset)
    dataset.embeddings = cache_embeddings(recipe, setup.model, dataset.used_samples())
    return dataset


def record_read_images(monkeypatch: pytest.MonkeyPatch) -> list[str | bytes]:
    """Return a list that grows by each image that is read from now on.

    Images may be read for their embeddings only; reading them as pixels fails.
    """
    read: list[str | bytes] = []
    original = embeddings.prefetch_images

    def prefetch_images(pairs: list, *settings: int) -> object:
        pairs = list(pairs)
        read.extend(image for image, _ in pairs)
        return original(iter(pairs), *settings)

    monkeypatch.setattr(embeddings, "prefetch_images", prefetch_images)
    monkeypatch.setattr(
        CaptionDataset, "_open", lambda self, index: pytest.fail("an image was read as pixels")
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
        ("fp32", {"model_merge_tokens": 1}),
    ],
    ids=["fp32", "bf16", "workers", "lora", "merged"],
)
def test_run_with_cache_equals_run_without(
    cached: Build, tmp_path: Path, precision: str, changes: dict
) -> None:
    """Losses, evaluations and weights agree, with dropout and stochastic depth."""
    with_cache = cached(output=str(tmp_path / "with"), precision=precision, **changes)
    without = cached(
        output=str(tmp_path / "without"),
        precision=precision,
        **{**changes, "data_cache_embeddings": ""},
    )
    for run in (with_cache, without):
        train(run, show_progress=False)
    tolerance = {"fp32": 1e-5, "bf16": 1e-2}[precision]
    for key in ("loss", "grad_norm", "val_loss"):
        expected = pytest.approx(read_values(without.output, key), rel=10 * tolerance)
        assert read_values(with_cache.output, key) == expected
    actual_state, expected_state = load_tensors(with_cache.output), load_tensors(without.output)
    assert actual_state.keys() == expected_state.keys()
    for name, tensor in actual_state.items():
        torch.testing.assert_close(
            tensor,
            expected_state[name],
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def test_cached_embeddings_are_the_output_of_the_encoder(cached: Build) -> None:
    run = cached()
    model = prepare_run(run).model.eval()
    dataset = load_dataset(run)
    for index in (0, 7, 19):
        pixels = to_pixels(open_image(dataset.samples[index].image), 32)
        with torch.no_grad():
            [expected] = model.vision(normalize(pixels[None], model.config.image))
        example = dataset[(3, index)]
        assert isinstance(example, Example)
        torch.testing.assert_close(example.image_embeds, expected, rtol=1e-5, atol=1e-5)


def test_later_runs_read_no_image(
    cached: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later runs may differ in all settings but those of the vision encoder."""
    read = record_read_images(monkeypatch)
    train(cached(optim_epochs=1), show_progress=False)
    assert len(read) == 20
    changes = {
        "optim_lr": 1e-2,
        "vision_drop_path": 0.3,
        "optim_batch_size": 3,
        "eval_batch_size": 7,
    }
    train(cached(output=str(tmp_path / "again"), **changes), show_progress=False)
    assert len(read) == 20


def test_changed_and_new_images_are_read(
    cached: Build, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = copied.read_text().splitlines()
    copied.write_text("\n".join(rows[:-1]))
    run = cached(data_train=str(copied))
    before = load_dataset(run)
    read = record_read_images(monkeypatch)
    changed = copied.parent / "scene-000002.png"
    changed.write_bytes((copied.parent / "scene-000003.png").read_bytes() + b"\0")
    copied.write_text("\n".join(rows))
    after = load_dataset(run)
    assert {Path(str(image)).name for image in read} == {"scene-000002.png", "scene-000019.png"}
    assert [
        torch.equal(before[(0, index)].image_embeds, after[(0, index)].image_embeds)
        for index in range(4)
    ] == [True, True, False, True]
    torch.testing.assert_close(after[(0, 2)].image_embeds, after[(0, 3)].image_embeds)


def test_images_given_as_bytes_are_identified_by_content(
    cached: Build, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cached()
    model = prepare_run(run).model
    read = record_read_images(monkeypatch)
    content = [(scenes.parent / f"scene-{number:06d}.png").read_bytes() for number in (0, 1, 0)]
    samples = {4 * i: Sample(image, ("a",), str(i)) for i, image in enumerate(content)}
    cache = cache_embeddings(run, model, samples)
    assert cache[0] == cache[8] != cache[4]
    assert read == content[:2]


def embed_until_killed(run: Recipe, partial_file: str) -> None:
    """Write two batches, and be killed while writing `partial_file` of the third."""
    append, written = EmbeddingStore.append, []

    def append_or_be_killed(
        self: EmbeddingStore, keys: list[bytes], image_embeds: torch.Tensor
    ) -> None:
        written.append(keys)
        if len(written) < 3:
            return append(self, keys, image_embeds)
        records = image_embeds.numpy().tobytes()
        parts = {
            "records": (records[: len(records) // 2], b""),
            "keys": (records, keys[0] + keys[1][:5]),
        }[partial_file]
        for kind, content in zip((".records", ".keys"), parts, strict=True):
            with self.part.with_suffix(kind).open("ab") as file:
                file.write(content)
        os.kill(os.getpid(), signal.SIGKILL)

    EmbeddingStore.append = append_or_be_killed
    load_dataset(run)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(("partial_file", "num_complete"), [("records", 6), ("keys", 7)])
def test_embeddings_of_a_killed_process_are_kept(
    cached: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    partial_file: str,
    num_complete: int,
) -> None:
    """Complete embeddings are used, incomplete ones ignored, and the missing ones computed."""
    run = cached(eval_batch_size=3)
    process = multiprocessing.get_context("forkserver").Process(
        target=embed_until_killed, args=(run, partial_file)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    read = record_read_images(monkeypatch)
    resumed = load_dataset(run)
    fresh = load_dataset(cached(data_cache_embeddings=str(tmp_path / "fresh")))
    assert len(read) == 20 - num_complete + 20
    for index in range(20):
        torch.testing.assert_close(
            resumed[(0, index)].image_embeds, fresh[(0, index)].image_embeds, rtol=1e-5, atol=1e-5
        )


def test_simultaneous_runs_share_a_folder(cached: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run starts and ends while the first computes its embeddings."""
    append = EmbeddingStore.append
    run, inner = cached(eval_batch_size=6), []

    def append_during_second_run(
        self: EmbeddingStore, keys: list[bytes], image_embeds: torch.Tensor
    ) -> None:
        append(self, keys, image_embeds)
        if not inner:
            inner.append(None)
            inner[0] = load_dataset(run)

    monkeypatch.setattr(EmbeddingStore, "append", append_during_second_run)
    outer = load_dataset(run)
    for index in range(20):
        torch.testing.assert_close(
            outer[(0, index)].image_embeds, inner[0][(0, index)].image_embeds, rtol=1e-5, atol=1e-5
        )


def test_embeddings_of_another_encoder_are_refused(cached: Build) -> None:
    """Weights, image size, precision and normalization matter; the text decoder does not."""
    load_dataset(cached())
    load_dataset(cached(text_depth=1))
    variants = [
        {"seed": 1},
        {"precision": "bf16"},
        {"vision_image_size": 16},
        {"model_image": ImageConfig(mean=(0.5, 0.5, 0.5))},
    ]
    for changes in variants:
        with pytest.raises(
            cutline.ConfigError,
            match=r"store holds embeddings of another vision encoder .*delete the folder",
        ):
            load_dataset(cached(**changes))


def test_fingerprint_depends_on_every_weight(cached: Build) -> None:
    model = prepare_run(cached()).model
    before = fingerprint_encoder(model, torch.float32)
    for weight in model.vision.parameters():
        value = weight.flatten()[-1].item()
        weight.data.view(-1)[-1] = value + 1e-3
        assert fingerprint_encoder(model, torch.float32) != before
        weight.data.view(-1)[-1] = value
    assert fingerprint_encoder(model, torch.float32) == before


def test_unreadable_images_are_reported_and_skipped_as_without_cache(
    cached: Build, copied: Path, tmp_path: Path
) -> None:
    (copied.parent / "scene-000004.png").unlink()
    (copied.parent / "scene-000011.png").write_bytes(b"no image")
    runs = [
        cached(
            output=str(tmp_path / name),
            data_train=str(copied),
            data_cache_embeddings=cache and str(tmp_path / cache),
        )
        for name, cache in (("plain", ""), ("cached", "cache"))
    ]
    for run in runs:
        train(run, show_progress=False)
    skipped = [sorted(read_values(run.output, "skipped")) for run in runs]
    assert skipped[0] == skipped[1]
    assert len(skipped[0]) == 2
    assert read_values(runs[0].output, "loss") == pytest.approx(
        read_values(runs[1].output, "loss"), rel=1e-5
    )


def test_repaired_image_is_no_longer_skipped(cached: Build, copied: Path) -> None:
    bad = copied.parent / "scene-000004.png"
    good = bad.read_bytes()
    bad.unlink()
    run = cached(data_train=str(copied))
    assert "scene-000004.png" in load_dataset(run)[(0, 4)]
    bad.write_bytes(good)
    assert not isinstance(load_dataset(run)[(0, 4)], str)


def test_lack_of_disk_space_is_detected_beforehand(
    cached: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6 - 5000, 5000)
    )
    read = record_read_images(monkeypatch)
    with pytest.raises(
        cutline.CutlineError,
        match=r"store: 20 embeddings need 0.0 GB, and 0.0 GB are free: free disk space, or choose",
    ):
        load_dataset(cached())
    assert read == []


def test_full_disk_keeps_the_complete_embeddings(
    cached: Build, monkeypatch: pytest.MonkeyPatch, limit_file_size: Callable[[int | None], None]
) -> None:
    limit_file_size(4 * 5 * 32 * 4)  # bytes of four records
    with pytest.raises(
        cutline.CutlineError,
        match=r"store: cannot be written \(File too large\); .*already in it are kept",
    ):
        load_dataset(cached(eval_batch_size=3))
    limit_file_size(None)
    read = record_read_images(monkeypatch)
    load_dataset(cached())
    assert len(read) == 17


def test_deleted_or_truncated_embeddings_are_reported(cached: Build, tmp_path: Path) -> None:
    dataset = load_dataset(cached())
    [records] = (tmp_path / "store").glob("*.records")
    with records.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(cutline.DataError, match=r"records: was truncated; resume the run"):
        dataset.read((0, 3))
    assert not isinstance(load_dataset(cached())[(0, 3)], str)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(cutline.DataError, match=r"records: cannot be read .*resume the run"):
        dataset.read((0, 3))


def test_run_may_be_resumed_with_another_cache(cached: Build, tmp_path: Path) -> None:
    full, resumed = (cached(output=str(tmp_path / name)) for name in ("full", "resumed"))
    train(full, show_progress=False)
    assert len(read_values(full.output, "loss")) == 8
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "check_finite", stop_at(3))
        with pytest.raises(cutline.CutlineError, match="stopped by the test"):
            train(
                replace(resumed, data=replace(resumed.data, cache_embeddings="")),
                show_progress=False,
            )
    train(resumed, resume=True, show_progress=False)
    assert read_values(resumed.output, "loss") == pytest.approx(
        read_values(full.output, "loss"), rel=1e-5
    )


@pytest.mark.slow
def test_processes_share_the_work(cached: Build, tmp_path: Path) -> None:
    """With DDP and FSDP, losses are those of one process without a cache.

    In two of the runs the second process has no example.
    """
    settings = {"optim_epochs": 1, "text_dropout": 0.0, "text_attn_dropout": 0.0}
    strategies = {"ddp": {}, "fsdp": {"distributed_fsdp": True}}
    sizes = {"": {"optim_batch_size": 5}, "-empty": {"optim_batch_size": 20}}
    runs = {
        strategy + size: cached(
            output=str(tmp_path / (strategy + size)),
            data_cache_embeddings=str(tmp_path / "shared"),
            **settings,
            **strategies[strategy],
            **sizes[size],
        )
        for strategy in strategies
        for size in sizes
    }
    launch([(run, False, 0) for run in runs.values()], tmp_path)
    assert len(list((tmp_path / "shared").glob("*.keys"))) == 2  # one part per process
    for size, batch in (("", 10), ("-empty", 40)):
        single = cached(
            output=str(tmp_path / f"single{size}"),
            data_cache_embeddings="",
            **settings,
            optim_batch_size=batch,
        )
        train(single, show_progress=False)
        for strategy in strategies:
            assert read_values(runs[strategy + size].output, "loss") == pytest.approx(
                read_values(single.output, "loss"), rel=1e-5
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
def test_encoder_that_is_trained_is_refused(cached: Build, changes: dict, message: str) -> None:
    with pytest.raises(cutline.ConfigError) as error:
        cached(**changes)
    assert message in str(error.value)


def test_images_without_augmentation_are_as_in_evaluation(recipe: Build) -> None:
    dataset = prepare_run(recipe(data_augment=False, data_rot90=True)).dataset
    expected = to_pixels(open_image(dataset.samples[0].image), 32)
    assert all(torch.equal(dataset[(epoch, 0)].pixels, expected) for epoch in range(4))


def test_image_keys_differ(tmp_path: Path) -> None:
    """Paths with odd characters have keys, and a key changes with its file."""
    names = [str(tmp_path / "a"), str(tmp_path / "b"), "\ud800", "a\0b", "a\nb"]
    keys = {compute_image_key(name) for name in names}
    assert len(keys) == len(names)
    assert compute_image_key(os.path.relpath(names[0])) == compute_image_key(names[0])
    Path(names[0]).write_bytes(b"1")
    assert compute_image_key(names[0]) not in keys
