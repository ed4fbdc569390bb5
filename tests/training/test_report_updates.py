"""When the report of a run is written, and from which logs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cutline.config import Recipe
from cutline.training import read_log, train
from cutline.training.loop import validation
from cutline.training.run.report import write_run_report

Build = Callable[..., Recipe]


@pytest.fixture(scope="module")
def run_lines() -> dict[str, dict]:
    """Return a line of each kind that a log may have."""
    values = {"val_loss": 3.5, "cider": 0.1, "bleu4": 0.0}
    step = {"step": 1, "epoch": 0.1, "loss": 4.0, "lr": 1e-3, "grad_norm": 1.0}
    return {
        "before": {"step": 0, "epoch": 0, **values, "best": False},
        "skipped": {"step": 0, "skipped": "a.png: no such image"},
        "training": step | {"memory_gb": 0.1, "tokens_per_second": 9.0},
        "after": {"step": 1, "epoch": 1, "train_loss": 4.0, **values, "best": True},
    }


@pytest.mark.parametrize(
    "names",
    [(), ("before",), ("skipped",), ("training",), ("before", "training"), ("before", "after")],
    ids="-".join,
)
def test_any_beginning_of_a_log_has_a_report(
    tmp_path: Path, run_lines: dict[str, dict], names: tuple[str, ...]
) -> None:
    lines = [json.dumps(run_lines[name]) + "\n" for name in names]
    (tmp_path / "log.jsonl").write_text("".join(lines))
    write_run_report(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert ("CIDEr" in page) == ("before" in names)
    assert ("Learning rate" in page) == ("training" in names)


def test_every_evaluation_writes_the_report(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the lines up to that evaluation."""
    run, reports = recipe(eval_before_training=True), []
    directory = Path(run.output)

    def write_and_read(folder: Path) -> None:
        write_run_report(folder)
        lines = (folder / "log.jsonl").read_text().splitlines()
        reports.append((json.loads(lines[-1])["step"], (folder / "report.html").read_text()))

    monkeypatch.setattr(validation, "write_run_report", write_and_read)
    train(run, show_progress=False)
    assert [step for step, _ in reports] == [0, 4, 8]
    assert reports[-1][1] == (directory / "report.html").read_text()


def test_a_report_that_cannot_be_written_ends_no_training(recipe: Build) -> None:
    """The end of the run tells it, when all else is saved."""
    report = Path(recipe().output) / "report.html"
    (report / "folder").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        train(recipe(eval_before_training=True), show_progress=False)
    steps = [line["step"] for line in read_log(report.with_name("log.jsonl")) if "best" in line]
    assert steps == [0, 4, 8]
    shutil.rmtree(report)
    train(recipe(eval_before_training=True), resume=True, show_progress=False)
    assert report.exists()


def test_damaged_files_end_no_training(recipe: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the end of the run tells that there can be no report."""
    run, write = recipe(), validation.write_run_report

    def damage_and_write(folder: Path) -> None:
        start = json.loads((folder / "run.json").read_text())["starts"][0]
        (folder / "run.json").write_text(json.dumps({"starts": [start | {"started": 0}]}))
        write(folder)

    monkeypatch.setattr(validation, "write_run_report", damage_and_write)
    with pytest.raises(TypeError):
        train(run, show_progress=False)
    lines = read_log(Path(run.output) / "log.jsonl")
    assert [line["step"] for line in lines if "best" in line] == [4, 8]
