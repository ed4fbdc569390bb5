"""Filters that are killed at random moments and started again: real processes, real models.

In the end each text is kept or dropped once, as by a run that was never killed.
"""

import json
import signal
from pathlib import Path

import pytest
from filter_data import FAST, Texts, read_table, read_texts
from stopped_runs import MOST_IMAGES, start_and_wait, stop, stop_at_random

from cutline.cli.main import run_command
from cutline.demo.scenes import make_scenes, write_scenes

NUM_IMAGES = 80
KILLS = [signal.SIGKILL] * 20
Pairs = list[tuple[str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of images with two texts each; one image cannot be read."""
    folder = tmp_path_factory.mktemp("kill")
    scenes = make_scenes(NUM_IMAGES, seed=5)
    write_scenes(folder, scenes, size=64)
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        row["captions"] = [row["captions"][0], f"{other['captions'][0]} and more"]
    (folder / "broken.png").write_bytes(b"no image")
    rows.insert(40, {"file_name": "broken.png", "captions": ["a text"]})
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def list_words(command: str, data: Path, out: Path, dropped: Path, models: Path) -> list[str]:
    words = [command, str(data), "-o", str(out), "--matcher", str(models / "matcher"), *FAST]
    words += ["--threshold", "0.93", "--dropped", str(dropped)]
    if command == "capfilt":
        words += ["--captioner", str(models / "captioner"), "--max-length", "12"]
    return words


def read_pairs(path: Path) -> Pairs:
    """Return images and texts of a table, none of which occurs twice."""
    pairs = [(Path(row["image"]).name, row["caption"]) for row in read_table(path)]
    assert len(set(pairs)) == len(pairs)
    return pairs


@pytest.mark.parametrize(
    ("command", "suffix", "num_kills"),
    [
        ("filter", ".jsonl", 7),
        pytest.param("filter", ".jsonl", 20, marks=pytest.mark.slow),
        pytest.param("filter", ".csv", 20, marks=pytest.mark.slow),
        pytest.param("filter", ".parquet", 20, marks=pytest.mark.slow),
        pytest.param("capfilt", ".jsonl", 20, marks=pytest.mark.slow),
        pytest.param("capfilt", ".parquet", 20, marks=pytest.mark.slow),
    ],
)
def test_a_table(
    command: str, suffix: str, num_kills: int, data: Path, models: Path, tmp_path: Path
) -> None:
    expected: list[Pairs] = []
    for number in range(2):
        out, dropped = tmp_path / f"out{number}{suffix}", tmp_path / f"dropped{number}{suffix}"
        words = list_words(command, data, out, dropped, models)
        if number:
            stop_at_random(words, Path(f"{out}.state"), KILLS[:num_kills], 1)
        assert run_command(words) == 3
        expected += [read_pairs(out), read_pairs(dropped)]
    assert expected[:2] == expected[2:]
    assert sum(map(len, expected[:2])) >= 2 * NUM_IMAGES
    assert all(expected)
    (failed,) = Path(f"{out}.failed.jsonl").read_text().splitlines()
    assert json.loads(failed)["id"] == "broken.png"
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--folder-format", "shards", "--shard-size", "7"], []])
def test_a_folder(flags: list[str], data: Path, models: Path, tmp_path: Path) -> None:
    found: list[Texts] = []
    for number in range(2):
        out, dropped = tmp_path / f"out{number}", tmp_path / f"dropped{number}.jsonl"
        words = [*list_words("filter", data, out, dropped, models), *flags]
        if number:
            state = out / ".cutline" / ("shards" if flags else "text")
            stop_at_random(words, state, KILLS, 2)
        assert run_command(words) == 3
        found.append(read_texts(out))
    assert found[0] == found[1]


def test_a_stop_writes_what_is_done(data: Path, models: Path, tmp_path: Path) -> None:
    out, dropped = tmp_path / "out.jsonl", tmp_path / "dropped.jsonl"
    words = list_words("filter", data, out, dropped, models)
    process = start_and_wait(words, Path(f"{out}.state"))
    assert stop(process, signal.SIGTERM) == 128 + signal.SIGTERM
    count = len(read_pairs(out)) + len(read_pairs(dropped))
    assert 0 < count <= 2 * MOST_IMAGES
    assert run_command(words) == 3
    assert len(read_pairs(out)) + len(read_pairs(dropped)) == 2 * NUM_IMAGES
