"""Runs that are killed at random moments, stopped, and started again: real processes, real model.

In the end every image has exactly one caption, that of a run which was never killed.
"""

import csv
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bulk_outputs import FAST
from PIL import Image
from stopped_runs import MOST_IMAGES, start_and_wait, stop, stop_at_random

from cutline.cli.main import run_command
from cutline.demo.scenes import make_scenes, write_scenes

NUM_IMAGES = 90
KILLS = [signal.SIGKILL] * 20
Captions = dict[str, str]  # by the name of the image's file


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images in two subfolders; one of them cannot be read."""
    folder = tmp_path_factory.mktemp("kill") / "images"
    write_scenes(folder, make_scenes(NUM_IMAGES, seed=5), size=64)
    (folder / "captions.jsonl").unlink()
    (folder / "sub").mkdir()
    for path in sorted(folder.glob("*.png"))[::2]:
        path.rename(folder / "sub" / path.name)
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def expected(images: Path, model: str, tmp_path_factory: pytest.TempPathFactory) -> Captions:
    """Return the captions of a run that was never killed."""
    out = tmp_path_factory.mktemp("kill") / "out.jsonl"
    assert run_command(["caption", str(images), "-m", model, *FAST, "-o", str(out)]) == 3
    captions = read_rows(out)
    assert len(captions) == NUM_IMAGES
    return captions


def read_rows(path: Path) -> Captions:
    """Return the captions of an output file; no image occurs twice."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    captions = {Path(row["image"]).name: row["caption"] for row in rows}
    assert len(captions) == len(rows)
    return captions


def finish(words: Sequence[str]) -> None:
    """Let a command end; it lists the image that cannot be read."""
    assert run_command([*words]) == 3


def state_of(out: Path) -> Path:
    """Return the folder of the manifest of a run that writes a table."""
    return Path(f"{out}.state")


@pytest.mark.parametrize(
    ("suffix", "num_kills"),
    [
        (".jsonl", 7),
        pytest.param(".jsonl", 20, marks=pytest.mark.slow),
        pytest.param(".parquet", 20, marks=pytest.mark.slow),
        pytest.param(".csv", 20, marks=pytest.mark.slow),
    ],
)
def test_a_file(
    images: Path, model: str, expected: Captions, tmp_path: Path, suffix: str, num_kills: int
) -> None:
    out = tmp_path / f"out{suffix}"
    words = ["caption", str(images), "-m", model, *FAST, "-o", str(out)]
    stop_at_random(words, state_of(out), KILLS[:num_kills], 1)
    finish(words)
    assert read_rows(out) == expected
    failed = [json.loads(line) for line in Path(f"{out}.failed.jsonl").read_text().splitlines()]
    assert [(each["id"], each["kind"]) for each in failed] == [("broken.png", "image")]
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.slow
def test_captions_that_a_matcher_ranks(
    images: Path, model: str, matcher: str, tmp_path: Path
) -> None:
    more = ["--precision", "fp32", "--sample", "--num-captions", "4"]  # bf16 rounds by batch
    more += ["--rerank", "itm", "--matcher", matcher]
    rows = []
    for name in ("killed", "whole"):
        out = tmp_path / f"{name}.jsonl"
        words = ["caption", str(images), "-m", model, "-o", str(out), *more]
        if name == "killed":
            stop_at_random(words, state_of(out), KILLS[:10], 3)
        finish(words)
        rows.append([json.loads(line) for line in out.read_text().splitlines()])
    for killed, whole in zip(*rows, strict=True):
        texts = [[each["caption"] for each in row["alternatives"]] for row in (killed, whole)]
        assert texts[0] == texts[1]
        assert killed["match"] == pytest.approx(whole["match"], abs=1e-5)


def test_ctrl_c_and_sigterm_write_what_is_done(
    images: Path, model: str, expected: Captions, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    words = ["caption", str(images), "-m", model, *FAST, "-o", str(out)]
    counts = [0]
    for number in [signal.SIGINT, signal.SIGTERM] * 2:
        assert stop(start_and_wait(words, state_of(out)), number) == 128 + number
        rows = read_rows(out)
        assert rows.items() <= expected.items()
        counts.append(len(rows))
    # Nothing is lost; the image that cannot be read may be all that one of them has done.
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= MOST_IMAGES * 4
    finish(words)
    assert read_rows(out) == expected


@pytest.mark.parametrize("existing", [pytest.param("skip", marks=pytest.mark.slow), "append"])
def test_text_files(
    images: Path, model: str, expected: Captions, tmp_path: Path, existing: str
) -> None:
    folder = tmp_path / "images"
    for path in images.rglob("*.png"):
        target = folder / path.relative_to(images)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
        if path.stem.endswith("5"):
            target.with_suffix(".txt").write_text("by hand\n")
    words = ["caption", str(folder), "-m", model, *FAST, "-o", ".txt", "--existing", existing]
    state = folder / ".cutline" / "txt"
    stop_at_random(words, state, KILLS[: 20 if existing == "skip" else 7], 2)
    finish(words)
    for name, caption in expected.items():
        (text,) = folder.rglob(f"{Path(name).stem}.txt")
        lines = text.read_text().splitlines()
        by_hand = ["by hand"] if Path(name).stem.endswith("5") else []
        mine = [] if by_hand and existing == "skip" else [" ".join(caption.split())]
        assert lines == [*by_hand, *mine]


def test_images_that_come_change_and_go_meanwhile(images: Path, model: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out.jsonl"
    folder.mkdir()
    paths = sorted(path for path in images.rglob("scene*.png"))
    for path in paths[:60]:
        os.link(path, folder / path.name)
    words = ["caption", str(folder), "-m", model, *FAST, "-o", str(out)]
    for step in range(5):
        stop_at_random(words, state_of(out), [signal.SIGKILL, signal.SIGTERM], step)
        os.link(paths[60 + step], folder / paths[60 + step].name)
        (folder / paths[step].name).unlink()
        changed = folder / paths[10 + step].name
        changed.unlink()
        Image.open(paths[80 + step]).save(changed)
    assert run_command(words) == 0
    captions = read_rows(out)
    again = tmp_path / "again.jsonl"
    assert run_command(["caption", str(folder), "-m", model, *FAST, "-o", str(again)]) == 0
    assert captions == read_rows(again)
    assert sorted(captions) == sorted(path.name for path in folder.iterdir())


def test_nothing_is_captioned_twice(
    images: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a killed run has committed is not captioned again."""
    out = tmp_path / "out.jsonl"
    words = ["caption", str(images), "-m", model, *FAST, "-o", str(out)]
    stop_at_random(words, state_of(out), KILLS[:3], 7)
    records: list[dict[str, Any]] = []
    for part in sorted(Path(f"{out}.state").glob("part-*.jsonl")):
        records += [json.loads(line) for line in part.read_text().splitlines()]
    ids = [record["id"] for record in records]
    assert len(set(ids)) == len(ids)
    finish(words)
    num_done = sum("row" in record for record in records)
    assert f"captioned by an earlier run: {num_done:,}" in capsys.readouterr().err
