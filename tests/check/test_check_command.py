"""`cutline check`."""

import json
from pathlib import Path

import pytest
from checked import copies, encoded, photo

from cutline.check import KINDS, check
from cutline.cli.main import run_command
from cutline.config import CaptionConfig
from cutline.data import Sample
from cutline.tokenizer import Tokenizer


@pytest.fixture
def folder(clean: list[Sample], tmp_path: Path) -> Path:
    """The clean set as a file, with four faults: a missing image, a leak, a copy, an image twice."""
    (tmp_path / "8.jpg").write_bytes(copies(photo(1))["quality 60"])
    (tmp_path / "9.png").write_bytes(encoded(photo(2), "PNG", compress_level=1))
    names = [f"{number}.png" for number in range(8)] + ["8.jpg", "9.png", "10.png"]
    rows = [{"file_name": name, "captions": [f"image {name[:-4]}"]} for name in names]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "val.jsonl").write_text(json.dumps({"file_name": "7.png", "caption": "one"}))
    return tmp_path


def test_the_command_says_it_writes_it_and_ends_with_three(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", f"{folder}/train.jsonl", "--against", f"{folder}/val.jsonl"]
    assert (
        run_command([*words, "-o", f"{folder}/found.jsonl", "--report", f"{folder}/sheet.html"])
        == 3
    )
    out, err = capsys.readouterr()
    assert err == ""
    for kind, name in (
        ("missing", "10.png"),
        ("leak", "7.png"),
        ("duplicate", "9.png"),
        ("near_duplicate", "8.jpg"),
    ):
        assert f"  1 {KINDS[kind][0]}\n" in out
        assert f"/{name}: " in out
    assert (
        out.index("To be mended")
        < out.index("7.png")
        < out.index("Worth a look")
        < out.index("8.jpg")
    )
    rows = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    assert [(row["kind"], Path(row["image"]).name) for row in rows] == [
        ("missing", "10.png"),
        ("leak", "7.png"),
        ("duplicate", "9.png"),
        ("near_duplicate", "8.jpg"),
    ]
    page = (folder / "sheet.html").read_text()
    assert page.count("data:image") == 10 + 2 + 2 + 2  # the sample, the leak, the pair, the copy
    assert "<rect" in page


def test_warnings_alone_end_with_zero(
    clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("a thing\nA thing.\n")
    assert run_command(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "8 captions are said twice of one image" in out
    assert "and 5 more" in out
    assert "To be mended" not in out


def test_the_vocabulary_of_a_model_is_read_without_its_weights(
    clean: list[Sample], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = folder / "run" / "best"
    best.mkdir(parents=True)
    Tokenizer.train(["an image of"], 60).save(best / "tokenizer.json")
    (best / "config.json").write_text("{}")
    (folder / "model.pth").write_bytes(b"weights")
    Tokenizer.train(["an image of"], 60).save(folder / "model.tokenizer.json")
    said = set()
    for flags in (
        ["-m", best],
        ["-m", best.parent],
        ["-m", folder / "model.pth"],
        ["--tokenizer", best / "tokenizer.json"],
    ):
        run_command(["check", f"{folder}/train.jsonl", *map(str, flags)])
        said.add(capsys.readouterr().out)
    assert len(said) == 1
    assert "[UNK]" in said.pop()


def test_errors_of_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{folder}/train.jsonl"
    for words, code, sentence in (
        (["check", f"{folder}/no.jsonl"], 1, "no such file or folder"),
        (["check", data, "--against", f"{folder}/no.jsonl"], 1, "no such file or folder"),
        (["check", data, "-o", "found.csv"], 2, "check writes its findings to a .jsonl file"),
        (["check", data, "--against-split", "val"], 2, "give both"),
        (["check", data, "-m", f"{folder}/no-model"], 1, "no-model"),
        (["check", data, "--max-tokens", "2"], 2, "max_tokens 2"),
    ):
        assert run_command(words) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert sentence in err


def test_defaults_are_those_of_training() -> None:
    from inspect import signature

    from cutline.cli.check import check as command
    from cutline.config import DataConfig

    for function in (check, command):
        defaults = {
            name: parameter.default for name, parameter in signature(function).parameters.items()
        }
        assert defaults["prompt"] == CaptionConfig().prompt
        assert (defaults["clean"], defaults["max_words"], defaults["max_tokens"]) == (
            DataConfig().clean,
            DataConfig().max_words,
            DataConfig().max_tokens,
        )
