"""Scores by group, in Python and on the command line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from caption_rows import Rows, Write
from fake_captioner import CAPTIONS, REFERENCES, fake_captioner, make_samples

from cutline.cli.main import run_command
from cutline.config import Columns, DataSource
from cutline.data import Sample
from cutline.evaluation import evaluate, evaluate_captions

Evaluate = Callable[..., int]


def add_groups(samples: list[Sample], groups: tuple[str, ...]) -> list[Sample]:
    return [replace(each, group=group) for each, group in zip(samples, groups, strict=True)]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory, references: Path) -> Path:
    """Return the data of drawn scenes, of which each row but the first has a region."""
    path = tmp_path_factory.mktemp("regions") / "data.jsonl"
    rows = [json.loads(line) for line in references.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["file_name"] = str(references.parent / row["file_name"])
        row |= {"region": f"region {number % 3}" if number else None, "empty": ""}
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def evaluate_file(scenes: Path, rows: Rows, write: Write) -> Evaluate:
    """Return a function that runs `cutline evaluate` on a caption file, by group."""
    captions = str(write("captions.jsonl", rows))

    def run(*arguments: Any, column: str = "region") -> int:
        words = ["evaluate", scenes, "--captions", captions, "--group-column", column, *arguments]
        return run_command([*map(str, words)])

    return run


def test_cider_of_a_group_is_the_mean_of_its_images() -> None:
    samples = add_groups(make_samples(*REFERENCES), ("north", "", "south", "north"))
    result = evaluate(fake_captioner(*CAPTIONS), samples)
    assert {name: scores.num_images for name, scores in result.groups.items()} == {
        "north": 2,
        "south": 1,
    }
    assert result.groups["south"] == result.images[2].scores
    for name in ("cider", "rouge_l"):
        first, last = (getattr(result.images[image].scores, name) for image in (0, 3))
        assert getattr(result.groups["north"], name) == pytest.approx((first + last) / 2)
    assert result.to_dict()["groups"]["south"] == result.groups["south"].to_dict()
    assert result.domains == {}


def test_groups_of_a_column_are_in_the_json(
    evaluate_file: Evaluate,
    scenes: Path,
    rows: Rows,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert evaluate_file("--json", tmp_path / "scores.json") == 0
    assert "region" not in capsys.readouterr().out
    values = json.loads((tmp_path / "scores.json").read_text())
    source = DataSource(str(scenes), columns=Columns(group_column="region"))
    expected = evaluate_captions(rows, source)
    assert values["groups"] == expected.to_dict()["groups"]
    counts = {name: scores["num_pictures"] for name, scores in values["groups"].items()}
    assert counts == {"region 0": 3, "region 1": 4, "region 2": 4}


def test_groups_without_an_output_or_a_value_are_refused(
    evaluate_file: Evaluate, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ["--json", tmp_path / "scores.json"]
    for code, arguments, column, message in (
        (2, [], "region", "--group-column is for --json in cutline's format and for --report"),
        (2, [*values, "--json-format", "coco"], "region", "--group-column is for --json"),
        (1, values, "place", "has no column `place`"),
        (1, values, "empty", "data.jsonl: the column `empty` is empty; fill it in"),
    ):
        assert evaluate_file(*arguments, column=column) == code
        stdout, stderr = capsys.readouterr()
        assert (stdout, stderr.count("\n")) == ("", 1)
        assert message in stderr
    words = ["evaluate", str(scenes), "--matcher", "gone", "--group-column", "region"]
    assert run_command(words) == 2
    assert "--group-column cannot be combined with --matcher" in capsys.readouterr().err
