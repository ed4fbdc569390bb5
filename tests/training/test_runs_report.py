"""The report of several runs: a line per run, what differs, and captions side by side."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written_runs import make_evaluation, make_log, make_start, make_training_line, write_run

from cutline.report import Gallery, LineChart, Problems, Report, Table
from cutline.training.run.history import read_history
from cutline.training.run.runs_report import make_runs_report, shorten_paths

NAMES = st.sampled_from(["a", "b", "runs", "training"])


def write_example_runs_report(path: Path) -> None:
    """Write a report of two runs, one of which is still training."""
    from cutline.training.run.watch import write_page

    directories = [
        write_run(path.parent / "lr-1e-3"),
        write_run(path.parent / "lr-1e-4", make_log(last_step=25), optim={"lr": 1e-4}),
    ]
    write_page(directories, path)


def report_runs(*directories: Path) -> Report:
    return make_runs_report([read_history(directory) for directory in directories])


def find_blocks(report: Report, heading: str, kind: type) -> list[Any]:
    [section] = [section for section in report.sections if section.heading == heading]
    return [block for block in section.blocks if type(block) is kind]


def find_series(report: Report, heading: str, title: str) -> dict[str, list[Any]]:
    [chart] = [chart for chart in find_blocks(report, heading, LineChart) if chart.title == title]
    return {series.name: list(series.points) for series in chart.series}


@given(st.sets(st.lists(NAMES, min_size=1, max_size=4).map(tuple), min_size=2, max_size=5))
def test_names_of_runs_are_short_and_can_be_told_apart(parts: set[tuple[str, ...]]) -> None:
    paths = [Path("/data", *each) for each in parts]
    names = shorten_paths(paths)
    assert len(set(names)) == len(names)
    for path, name in zip(paths, names, strict=True):
        assert f"/{name}/" in f"{path}/"
    lengths = {name.count("/") for name in names}
    if lengths != {0} and len({path.name for path in paths}) > 1:
        # One folder less, and two of them would be the same.
        shorter = [Path(*path.parts[-max(lengths) :]) for path in paths]
        assert len(set(shorter)) < len(paths)


def test_folders_that_all_runs_have_are_left_out() -> None:
    paths = [Path("x/first/training"), Path("x/second/training")]
    assert shorten_paths(paths) == ["first", "second"]
    assert shorten_paths([Path("runs/a"), Path("runs/b")]) == ["a", "b"]
    assert shorten_paths([Path("x/a"), Path("y/a"), Path("y/b")]) == ["x/a", "y/a", "y/b"]


def test_each_run_is_a_line_of_each_chart(tmp_path: Path) -> None:
    """Runs whose epochs have the same steps are drawn over steps."""
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second", make_log(last_step=25))
    report = report_runs(first, second)
    assert report.title == "Training runs first and second"
    losses = find_series(report, "Results", "Training loss")
    assert [step for step, _ in losses["first"]] == [*range(1, 41)]
    assert [step for step, _ in losses["second"]] == [*range(1, 26)]
    for title in ("Validation loss", "CIDEr", "BLEU-4"):
        series = find_series(report, "Results", title)
        assert [step for step, _ in series["second"]] == [0, 10, 20]
    for title in ("Learning rate", "Gradient norm", "Memory, peak", "Speed"):
        assert set(find_series(report, "Training", title)) == {"first", "second"}


def test_runs_whose_epochs_differ_are_drawn_over_epochs(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first")
    lines = [make_training_line(step) for step in range(1, 21)]
    lines += [make_evaluation(epoch, step=5 * epoch) for epoch in range(5)]
    second = write_run(tmp_path / "second", lines, [make_start(steps_per_epoch=5)])
    report = report_runs(first, second)
    chart = find_blocks(report, "Results", LineChart)[0]
    assert chart.x_label == "epoch"
    for title in ("Training loss", "CIDEr"):
        series = find_series(report, "Results", title)
        assert [points[-1][0] for points in series.values()] == [4, 4]
    [cider] = [each for each in find_blocks(report, "Results", LineChart) if each.title == "CIDEr"]
    assert {(marker.x, marker.label) for marker in cider.markers} == {(4, "")}


def test_the_best_results_and_the_settings_that_differ_are_tables(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first")
    second = write_run(
        tmp_path / "second",
        make_log(last_step=25),
        [make_start(device="NVIDIA H200")],
        optim={"lr": 1e-4, "freeze": ["vision.*"]},
    )
    report = report_runs(first, second)
    [best] = find_blocks(report, "Results", Table)
    assert [row[:3] for row in best.rows] == [["first", 4, 40], ["second", 2, 20]]
    assert [row[-1] for row in best.rows] == ["finished", "step 25 of 40"]
    [differences] = find_blocks(report, "Settings that differ", Table)
    assert list(differences.header) == ["setting", "first", "second"]
    assert list(differences.rows) == [
        ["optim.lr", "0.001", "0.0001"],
        ["optim.freeze", "–", "vision.*"],
        ["device", "x86_64", "NVIDIA H200"],
    ]
    assert "optim.lr" not in report.about.settings  # those that all runs have
    assert report.about.settings["optim.epochs"] == 4


def test_runs_with_the_same_settings_say_so(tmp_path: Path) -> None:
    report = report_runs(write_run(tmp_path / "first"), write_run(tmp_path / "second"))
    assert not find_blocks(report, "Settings that differ", Table)


def test_a_run_that_has_logged_nothing_is_a_row(tmp_path: Path) -> None:
    report = report_runs(write_run(tmp_path / "first"), tmp_path / "second")
    [best] = find_blocks(report, "Results", Table)
    assert best.rows[1] == ["second", *[None] * (len(best.header) - 2), "step 0"]


def test_captions_of_shared_images_stand_side_by_side(tmp_path: Path) -> None:
    """Those of the best checkpoint of each run; equal ones are merged."""

    def write(name: str, *captions: str) -> Path:
        evaluations = [make_evaluation(0, ["before"] * 3), make_evaluation(4, captions)]
        return write_run(tmp_path / name, make_log(evaluations))

    first, second = write("first", "one", "two", "three"), write("second", "one", "zwei")
    [gallery] = find_blocks(report_runs(first, second), "Images", Gallery)
    lines = [[(line.label, line.text) for line in card.lines] for card in gallery.cards]
    assert lines == [[("first · second", "one")], [("first", "two"), ("second", "zwei")]]
    assert gallery.cards[0].file == str(first / "samples/0.jpg")


@pytest.mark.parametrize("has_references", [True, False])
def test_images_are_the_same_by_references_or_else_by_content(
    tmp_path: Path, has_references: bool
) -> None:
    """Images of different data may have the same id."""
    log = make_log([make_evaluation(4, ["one", "two"])])
    if not has_references:
        for sample in log[-1]["samples"]:
            del sample["references"]
    first, second = write_run(tmp_path / "first", log), write_run(tmp_path / "second", log)
    if has_references:
        log[-1]["samples"][0]["references"] = ["of another image"]
        write_run(second, log)
    else:
        shutil.copy(first / "samples/1.jpg", second / "samples/0.jpg")
    [gallery] = find_blocks(report_runs(first, second), "Images", Gallery)
    assert [card.name for card in gallery.cards] == ["photo-1.jpg"]


def test_different_validation_data_is_a_finding(tmp_path: Path) -> None:
    data = make_start()["data"]
    other = make_start(data=data | {"val": data["val"] | {"fingerprint": "ffff"}})
    first = write_run(tmp_path / "first")
    second = write_run(tmp_path / "second", starts=[other])
    [problems] = find_blocks(report_runs(first, second), "Findings", Problems)
    assert [problem.title for problem in problems.problems] == [
        "The runs have different validation data"
    ]


def test_findings_name_their_run(tmp_path: Path) -> None:
    first = write_run(tmp_path / "first")
    lines = [*make_log(last_step=25), {"step": 25, "skipped": "gone.jpg: no such image"}]
    second = write_run(tmp_path / "second", lines)
    [problems] = find_blocks(report_runs(first, second), "Findings", Problems)
    titles = [problem.title for problem in problems.problems]
    assert titles == ["second: 1 image could not be read"]
