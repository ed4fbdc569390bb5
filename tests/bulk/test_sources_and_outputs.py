"""Every source times every output: each image once, with its caption, and never again.

The usual suite has every source with one output, and some outputs with a source of each kind; the
other pairs are slow together.
"""

import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from bulk_outputs import FAST, Captions, read_captions, read_lines, read_tree
from bulk_sources import SOURCES, USUAL_SOURCES, Images, Source

from cutline.cli.main import run_command

OUTPUTS = {
    "stdout": [],
    "jsonl": ["-o", "{out}/captions.jsonl"],
    "csv": ["-o", "{out}/captions.csv"],
    "parquet": ["-o", "{out}/captions.parquet"],
    "metadata": ["-o", "{images}/metadata.jsonl"],
    "shard": ["-o", "{out}/captions.tar"],
    "texts": ["-o", "{out}/texts/", "--folder-format", "text"],
    "shards": ["-o", "{out}/shards/", "--folder-format", "shards"],
    "txt": ["-o", ".txt"],
    "caption": ["--caption-extension", "caption"],
}
BESIDE = ("metadata", "txt", "caption")
"""outputs that only local files can have"""
USUAL = {
    "jsonl": tuple(SOURCES),
    "stdout": USUAL_SOURCES,
    "shards": USUAL_SOURCES,
    "txt": USUAL_SOURCES,
}
"""sources by output in the usual suite"""


class Command:
    """`cutline caption`, which a test can run several times."""

    def __init__(self, source: Source, output: str, model: str, folder: Path) -> None:
        """Name source and output; results go to a folder."""
        values = {"out": folder / "out", "images": source.folder}
        self.output = [word.format(**values) for word in OUTPUTS[output]]
        self.words = ["caption", *source.words, "-m", model, *FAST, *self.output]
        self.stdin, self.images = source.stdin, source.folder

    def run(self, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
        """Run it, and return its exit code."""
        stdin = SimpleNamespace(buffer=io.BytesIO(os.fsencode(self.stdin)))
        monkeypatch.setattr(sys, "stdin", stdin)
        return run_command([*self.words, *more])

    def read(self) -> Captions:
        """Return what it has written."""
        if self.output[0] == "--caption-extension":
            return read_captions(self.images, ".caption")
        if self.output[1] == ".txt":
            (self.images / "list.txt").unlink(missing_ok=True)  # of the source
            return read_captions(self.images)
        return read_captions(Path(self.output[1]))


def is_possible(source: Source, output: str) -> bool:
    """Return whether an output can have the captions of a source."""
    if source.kind == "shards":
        return output not in (*BESIDE, "shard")
    return source.kind == "files" or output not in BESIDE


@pytest.mark.parametrize(
    ("name", "output"),
    [
        pytest.param(name, output, marks=() if name in USUAL.get(output, ()) else pytest.mark.slow)
        for name in SOURCES
        for output in OUTPUTS
    ],
)
def test_every_source_and_output(
    name: str,
    output: str,
    images: Images,
    model: str,
    plain_captions: Captions,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = SOURCES[name](images)
    command = Command(source, output, model, images.folder)
    before = read_tree(images.folder)
    if not is_possible(source, output):
        assert command.run(monkeypatch) == 2
        check_message(capsys)
        assert read_tree(images.folder) == before
        return
    assert command.run(monkeypatch) == 0
    printed = capsys.readouterr()
    if not command.output:
        assert read_lines(printed.out) == plain_captions
        assert printed.err == ""
        assert read_tree(images.folder) == before
        return
    assert printed.out == ""
    after = read_tree(images.folder)
    assert command.run(monkeypatch) == 0
    assert "captioned by an earlier run: 12" in capsys.readouterr().err
    assert read_tree(images.folder) == after
    assert before.items() <= after.items()
    assert command.read() == plain_captions


def check_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the command has printed one sentence."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("cutline: ")
    assert "internal error" not in line
