"""Large collections: memory does not grow, and a million captions of earlier runs cost seconds.

The command runs in a process of its own, which is watched from here.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bulk_outputs import FAST
from PIL import Image

from cutline.bulk.manifest import Manifest
from cutline.bulk.parts import MAX_PART_RECORDS
from cutline.bulk.record import Record
from cutline.data.sample import stamp_image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process in /proc"),
]
MAX_LINKS = 50_000
"""links of one file; ext4 allows 65,000"""
FOLDER_SIZE = 10_000
INTERVAL = 0.05
"""seconds between two measurements"""


@dataclass
class Watched:
    """What was seen of a process."""

    code: int = 0
    seconds: float = 0
    first_caption: float = 0
    """seconds until a new caption was recorded"""
    memory: list[tuple[int, float]] = field(default_factory=list)
    """captions recorded so far, and memory in MB, over time"""
    peak: float = 0
    """in MB"""

    def growth(self, after: int) -> float:
        """Return by how many MB the memory grew after so many captions."""
        later = [size for count, size in self.memory if count >= after]
        return max(later) - later[0]


def watch(words: list[str], state: Path) -> Watched:
    """Run `cutline WORDS…` in a process of its own, and watch it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "cutline", *words], env=environment)
    watched, recorded = Watched(), list_parts(state)
    new: dict[str, int] = {}
    while process.poll() is None:
        for path in state.glob("part-*.jsonl") if state.exists() else ():
            if path.name not in recorded and path.name not in new:
                new[path.name] = path.read_bytes().count(b"\n")
                watched.first_caption = watched.first_caption or time.monotonic() - start
        with suppress(OSError, KeyError):  # it has ended
            status = Path(f"/proc/{process.pid}/status").read_text()
            sizes = dict(line.split(":", 1) for line in status.splitlines())
            watched.memory.append((sum(new.values()), int(sizes["VmRSS"].split()[0]) / 1024))
            watched.peak = int(sizes["VmHWM"].split()[0]) / 1024
        time.sleep(INTERVAL)
    watched.code, watched.seconds = process.returncode, time.monotonic() - start
    return watched


def list_parts(state: Path) -> set[str]:
    """Return the names of the parts of a manifest."""
    return {path.name for path in state.glob("part-*.jsonl")}


def link_images(folder: Path, count: int, folder_size: int = FOLDER_SIZE) -> Iterator[str]:
    """Link a few images so often that there are `count`, and yield their paths in the folder."""
    files = folder.parent / "files"
    files.mkdir(exist_ok=True)
    for index in range(count):
        file = files / f"{index // MAX_LINKS}.png"
        if index % MAX_LINKS == 0:
            Image.new("RGB", (32, 32), (index // MAX_LINKS * 9 % 256, 99, 40)).save(file)
        name = f"{index // folder_size:03}/{index:07}.png"
        if index % folder_size == 0:
            (folder / name).parent.mkdir(parents=True)
        os.link(file, f"{folder}/{name}")
        yield name


def record_images(state: Path, folder: Path, names: Iterable[str]) -> None:
    """Record captions of images, as runs do that have captioned them."""
    settings = json.loads((state / "manifest.json").read_text())
    with Manifest(state, settings) as manifest:
        for number, name in enumerate(names):
            path = f"{folder}/{name}"
            row = {"image": path, "id": name, "caption": f"a dog and {number} cats", "score": -1.25}
            manifest.add(Record(name, stamp_image(path), row))
            if number % MAX_PART_RECORDS == 0:
                manifest.commit()
        manifest.commit()


def show(figures: str) -> None:
    """Show what was measured; pytest -s prints it."""
    sys.stderr.write(f"{figures}\n")


def count_lines(path: Path) -> int:
    """Count the lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


def test_memory_does_not_grow_while_20_000_images_are_captioned(
    scenes: list[Path], model: str, tmp_path: Path
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "captions.jsonl"
    folder.mkdir()
    for index in range(20_000):
        os.link(scenes[index % len(scenes)], folder / f"{index:05}.png")
    words = ["caption", str(folder), "-m", model, "-o", str(out), "--max-length", "8"]
    run = watch([*words, "--num-beams", "1"], Path(f"{out}.state"))
    show(f"20,000 captions: {run.seconds:.0f} s, {run.growth(2000):.0f} of {run.peak:.0f} MB")
    assert run.code == 0
    assert count_lines(out) == 20_000
    assert run.growth(after=2000) < 50


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory, model: str) -> Iterator[Path]:
    """Return a folder with a million images, all but 100 of them captioned, and a list of them."""
    base = tmp_path_factory.mktemp("scale")
    names = list(link_images(base / "photos", 1_000_000))
    (base / "list.txt").write_text("".join(f"{name}\n" for name in names))
    for words in SOURCES.values():
        start(base, words, model)
    folder, listed = (base / f"{name}.jsonl.state" for name in SOURCES)
    record_images(folder, base / "photos", names[:-100])
    for path in folder.glob("part-*.jsonl"):
        os.link(path, listed / path.name)
    yield base
    shutil.rmtree(base)


SOURCES = {
    "folder": ["{base}/photos"],
    "list": ["--from-list", "{base}/list.txt", "--image-root", "{base}/photos"],
}


def make_words(base: Path, words: list[str], model: str) -> list[str]:
    """Return the command that captions a million images."""
    name = next(name for name, value in SOURCES.items() if value is words)
    source = [word.format(base=base) for word in words]
    return ["caption", *source, "-m", model, *FAST, "-o", str(base / f"{name}.jsonl")]


def start(base: Path, words: list[str], model: str) -> None:
    """Leave the state of a run that was stopped before it had captioned anything."""
    command = make_words(base, words, model)
    state = Path(f"{command[-1]}.state")
    assert watch([*command, "--limit", "1"], state).code == 0
    for path in [*state.glob("part-*.jsonl"), Path(command[-1])]:
        path.unlink()


@pytest.mark.parametrize("name", SOURCES)
def test_a_million_captions_of_earlier_runs_cost_seconds(
    name: str, million: Path, model: str
) -> None:
    out = million / f"{name}.jsonl"
    run = watch(make_words(million, SOURCES[name], model), Path(f"{out}.state"))
    show(f"{name}: {run.first_caption:.0f} s, {run.seconds:.0f} s in all, {run.peak:.0f} MB")
    assert run.code == 0
    assert count_lines(out) == 1_000_000
    assert run.first_caption < 60
    assert run.peak < 400


@pytest.mark.parametrize("kind", ["folder", "pattern", "list", "csv"])
def test_100_000_paths_take_little_memory(kind: str, model: str, tmp_path: Path) -> None:
    peaks = []
    for count in (1000, 100_000):
        base = tmp_path / str(count)
        base.mkdir()
        names = list(link_images(base / "photos", count, folder_size=count))
        words = write_source(kind, base, names)
        out = base / "captions.jsonl"
        command = ["caption", *words, "-m", model, *FAST, "-o", str(out)]
        assert watch([*command, "--limit", "1"], base).code == 0
        state = Path(f"{out}.state")
        (record,) = map(json.loads, next(state.glob("part-*")).read_text().splitlines())
        prefix = record["id"].removesuffix(names[0])
        record_images(state, base / "photos", [prefix + name for name in names[:-1]])
        run = watch(command, state)
        assert run.code == 0
        assert count_lines(out) == count
        peaks.append(run.peak)
    show(f"{kind}: {peaks[0]:.0f} and {peaks[1]:.0f} MB")
    assert peaks[1] - peaks[0] < 100


def write_source(kind: str, base: Path, names: list[str]) -> list[str]:
    """Write a list of images, if it is one, and return the words that name the source."""
    match kind:
        case "folder":
            return [str(base / "photos")]
        case "pattern":
            return [str(base / "photos" / "*" / "*.png")]
    path = base / f"list.{'csv' if kind == 'csv' else 'txt'}"
    lines = itertools.chain(["file_name"] if kind == "csv" else [], names)
    path.write_text("".join(f"{line}\n" for line in lines))
    source = [str(path)] if kind == "csv" else ["--from-list", str(path)]
    return [*source, "--image-root", str(base / "photos")]
