"""The report of a run: what it shows, what it finds, and that old and young runs have one."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from html_reader import read_galleries, read_page, read_thumbnails
from hypothesis import given
from hypothesis import strategies as st
from written_runs import (
    EPOCHS,
    STEPS_PER_EPOCH,
    make_evaluation,
    make_log,
    make_start,
    make_training_line,
    write_log,
    write_run,
)

from cutline.errors import ConfigError
from cutline.report import Figures, Gallery, LineChart, Report, Table, read_refresh, write_report
from cutline.training.run.findings import find_problems
from cutline.training.run.history import RunHistory, read_history
from cutline.training.run.log import read_log
from cutline.training.run.report import make_run_report, write_run_report

LAST_STEP = EPOCHS * STEPS_PER_EPOCH


def write_example_report(path: Path) -> None:
    """Write a report with findings, in a run directory beside it."""
    captions = [
        [f"a {color} square {word}" for color in ("red", "green", "blue") * 4]
        for word in ("", "on paper", "on a table", "on a table", "on paper")
    ]
    losses = [3.2, 2.5, 2.4, 2.6, 2.9]
    evaluations = [
        make_evaluation(epoch, captions[epoch], val_loss=loss, best=epoch in (1, 2))
        for epoch, loss in enumerate(losses)
    ]
    lines = [*make_log(evaluations), {"step": 40, "skipped": "gone.jpg: no such image"}]
    directory = write_run(path.parent / "run", lines)
    write_run_report(directory)
    (directory / "report.html").replace(path)


def find_blocks(report: Report, kind: type) -> list[Any]:
    return [block for section in report.sections for block in section.blocks if type(block) is kind]


def find_chart(report: Report, title: str) -> LineChart:
    [chart] = [chart for chart in find_blocks(report, LineChart) if chart.title == title]
    return chart


def read_run(directory: Path, *arguments: Any, **settings: Any) -> RunHistory:
    return read_history(write_run(directory, *arguments, **settings))


def list_titles(run: RunHistory) -> list[str]:
    return [problem.title for problem in find_problems(run)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Return the report of a finished run, whose best epoch is the third."""
    captions = [["same", f"epoch {min(epoch, 3)}", str(epoch)] for epoch in range(EPOCHS + 1)]
    evaluations = [
        make_evaluation(epoch, captions[epoch], best=epoch == 3) for epoch in range(EPOCHS + 1)
    ]
    return make_run_report(read_run(tmp_path_factory.mktemp("run") / "mine", make_log(evaluations)))


def test_a_finished_run_has_results_curves_evaluations_and_images(finished: Report) -> None:
    assert finished.title == "Training run mine"
    assert finished.intro == (
        "The run is finished. The best checkpoint is that of epoch 3, by CIDEr + BLEU-4."
    )
    assert [section.heading for section in finished.sections] == [
        *("Results", "Evaluations", "Images", "Training")
    ]
    [figures] = find_blocks(finished, Figures)
    assert list(figures.figures) == [
        ("0.800", "CIDEr, epoch 3 (0.500 before training)"),
        ("0.160", "BLEU-4, epoch 3 (0.100 before training)"),
        ("2.600", "validation loss, epoch 3 (3.200 before training)"),
        ("40 of 40", "steps"),
    ]
    assert [chart.title for chart in find_blocks(finished, LineChart)] == [
        *("Loss", "CIDEr", "BLEU-4"),
        *("Learning rate", "Gradient norm", "Memory, peak", "Speed"),
    ]


def test_training_and_validation_loss_share_a_chart(finished: Report) -> None:
    chart = find_chart(finished, "Loss")
    training, validation = chart.series
    assert (training.name, training.is_noisy) == ("training", True)
    assert [step for step, _ in training.points] == [*range(1, LAST_STEP + 1)]
    assert (validation.name, validation.has_dots) == ("validation", True)
    assert [step for step, _ in validation.points] == [0, 10, 20, 30, 40]
    [marker] = chart.markers
    assert (marker.x, marker.label) == (40, "epoch 4, lowest: 2.4")


def test_metrics_begin_before_training_and_mark_the_best(finished: Report) -> None:
    chart = find_chart(finished, "CIDEr")
    [series] = chart.series
    assert [step for step, _ in series.points] == [0, 10, 20, 30, 40]
    [marker] = chart.markers
    assert (marker.x, marker.y, marker.label) == (30, pytest.approx(0.8), "epoch 3, best: 0.8")


def test_the_table_has_names_for_people(finished: Report) -> None:
    [table] = find_blocks(finished, Table)
    assert list(table.header) == [
        *("epoch", "step", "note", "training loss", "validation loss"),
        *("CIDEr", "BLEU-4", "BLEU-1", "ROUGE-L"),
    ]
    assert [row[2] for row in table.rows] == ["before training", "", "", "best", ""]
    assert table.rows[0][3] is None  # there is no training loss before training


def test_equal_captions_are_merged(finished: Report) -> None:
    [gallery] = find_blocks(finished, Gallery)
    lines = [[(line.label, line.text) for line in card.lines] for card in gallery.cards]
    assert lines == [
        [("before training · epoch 3, best · epoch 4, last", "same")],
        [("before training", "epoch 0"), ("epoch 3, best · epoch 4, last", "epoch 3")],
        [("before training", "0"), ("epoch 3, best", "3"), ("epoch 4, last", "4")],
    ]
    assert [card.name for card in gallery.cards] == ["photo-0.jpg", "photo-1.jpg", "photo-2.jpg"]
    assert list(gallery.cards[1].references) == ["reference 1", "another reference 1"]


def test_a_run_says_what_it_is_of(tmp_path: Path) -> None:
    starts = [make_start(), make_start(world_size=2), make_start(world_size=2)]
    run = read_run(tmp_path / "run", make_log(), starts, init={"captioner": "my/captioner"})
    about = make_run_report(run).about
    assert (about.data, about.model) == ("photos/train.jsonl", "my/captioner")
    assert about.command == "cutline train recipe.yaml"
    assert about.others | {"Started": ""} == {
        "Task": "captioning",
        "Training images": "40, with 80 captions",
        "Validation images": "8, with 40 captions",
        "Parameters": "1,727,730",
        "Started": "",
        "Resumed": "2 times",
        "Device": "x86_64, 2 processes",
        "Machine": "Linux-6.1-x86_64",
        "Trained with": "cutline 0.1.0, torch 2.13.0, python 3.11.7",
        "Seed": "0",
    }
    changed = ["output", "init.captioner", "data.train", "data.val"]
    changed += ["optim.batch_size", "optim.epochs", "optim.lr"]
    assert sorted(about.changed) == sorted(changed)
    assert len(about.settings) > 100


def test_a_matcher_has_its_own_metrics_and_no_captions(tmp_path: Path) -> None:
    metrics = {"recall_mean": 0.4, "image_to_text_r1": 0.3, "itm_auroc": 0.9, "bleu4": math.nan}
    evaluations = [
        {"step": 10 * epoch, "epoch": epoch, **metrics, "val_loss": 1.0, "best": epoch == 1}
        for epoch in range(3)
    ]
    lines = make_log(evaluations)
    for line in lines:
        if "loss" in line:
            line["pairs_per_second"] = line.pop("tokens_per_second")
            line |= {"itc": 0.5, "itm": 0.25}
    report = make_run_report(read_run(tmp_path / "run", lines))
    titles = [chart.title for chart in find_blocks(report, LineChart)]
    assert titles[:4] == ["Loss", "Mean recall", "Recall@1, image to text", "AUROC of matching"]
    assert "Image-text contrastive (ITC) loss" in titles
    assert find_chart(report, "Loss").y_label == "per pair"
    assert report.intro.endswith("that of epoch 1, by mean recall.")
    assert not find_blocks(report, Gallery)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("cutline-demo/training", "cutline-demo/training"),
        ("/data/runs/mine", "mine"),
        (".", "mine"),
    ],
)
def test_the_title_names_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert make_run_report(read_history(Path(path))).title == f"Training run {name}"


@pytest.mark.parametrize(
    ("losses", "title"),
    [
        ((3.0, 2.0, 1.9, 2.1, 2.2), "epoch 2: from 1.900 to 2.200 (+15.8 %)"),
        ((3.0, 1.6, 2.1, 2.2, 2.4), "epoch 1: from 1.600 to 2.400 (+50.0 %)"),
        ((3.0, 2.0, 1.9, 1.91, 1.92), ""),  # by less than noise
        ((3.0, 2.0, 1.9, 2.2, 1.91), ""),  # and fallen again
        ((3.0, 2.0, 1.9, 1.8, 2.2), ""),  # once only
        ((1.0, 2.0, 1.9, 1.8, 1.7), ""),  # since before training, not since an epoch
        ((3.0, 2.5, 2.0, 1.8, 1.7), ""),
    ],
)
def test_overfitting_is_found(tmp_path: Path, losses: tuple[float, ...], title: str) -> None:
    evaluations = [make_evaluation(epoch, val_loss=loss) for epoch, loss in enumerate(losses)]
    titles = list_titles(read_run(tmp_path / "run", make_log(evaluations)))
    assert titles == ([f"The validation loss has risen since {title}"] if title else [])


@pytest.mark.parametrize(
    ("before", "after", "is_found"),
    [
        ({"cider": 0.9, "bleu4": 0.3}, {"cider": 0.8, "bleu4": 0.2}, True),
        ({"cider": 0.9, "bleu4": 0.3}, {"cider": 0.8, "bleu4": 0.3}, False),
        ({"cider": 0.9, "bleu4": 0.3}, {"cider": 0.89, "bleu4": 0.299}, False),
        ({"cider": 0.0, "bleu4": 0.0}, {"cider": 0.0, "bleu4": 0.0}, False),
        ({"val_loss": 1.0}, {"val_loss": 1.1}, True),
        ({"val_loss": 1.0}, {"val_loss": 0.9}, False),
    ],
)
def test_a_run_that_made_the_model_worse_is_found(
    tmp_path: Path, before: dict[str, float], after: dict[str, float], is_found: bool
) -> None:
    evaluations = [
        {"step": 0, "epoch": 0, **before, "best": False},
        {"step": 40, "epoch": 4, "train_loss": 1.0, **after, "best": True},
    ]
    run = read_run(tmp_path / "run", make_log(evaluations))
    [*titles] = list_titles(run)
    assert [title.startswith("Even the best checkpoint is worse") for title in titles] == [
        True
    ] * is_found


@given(st.lists(st.integers(0, 9), min_size=LAST_STEP, max_size=LAST_STEP))
def test_a_loss_that_has_not_fallen_is_found(losses: list[int]) -> None:
    lines = [make_training_line(step, loss=float(loss)) for step, loss in enumerate(losses, 1)]
    lines.append(make_evaluation(EPOCHS))
    settings = read_history(Path("nowhere")).settings | {"optim.epochs": EPOCHS}
    titles = list_titles(RunHistory(Path("run"), lines, [make_start()], settings))
    fifth = LAST_STEP // 5
    is_found = any(title.startswith("The training loss has not fallen") for title in titles)
    assert is_found == (sum(losses[-fifth:]) >= sum(losses[:fifth]))


@pytest.mark.parametrize(
    ("baseline", "names"),
    [("greedy", ["reward of samples", "reward of greedy search"]), ("leave_one_out", [""])],
)
def test_a_baseline_is_drawn_if_it_is_not_the_mean_reward(
    tmp_path: Path, baseline: str, names: list[str]
) -> None:
    lines = [make_training_line(step, reward=step / 9, baseline=0.1) for step in range(1, 9)]
    run = read_run(tmp_path / "run", lines, scst={"baseline": baseline})
    chart = find_chart(make_run_report(run), "Reward")
    assert [series.name for series in chart.series] == names
    assert chart.series[0].points == [(step, step / 9) for step in range(1, 9)]


def test_images_that_could_not_be_read_are_listed(tmp_path: Path) -> None:
    messages = [f"photo-{number}.jpg: no such image" for number in range(300)]
    lines = [*make_log(), *({"step": 40, "skipped": message} for message in messages)]
    [problem] = find_problems(read_run(tmp_path / "run", lines))
    assert (problem.severity, problem.title) == ("warning", "300 images could not be read")
    assert [detail for _, detail in problem.rows] == messages[: len(problem.rows)]
    assert len(problem.rows) + problem.num_omitted == 300


def test_a_run_without_validation_images_says_so(tmp_path: Path) -> None:
    data = make_start()["data"]
    start = make_start(data=data | {"val": data["val"] | {"num_images": 0}})
    evaluation = {"step": 40, "epoch": 4, "train_loss": 0.5, "best": True}
    run = read_run(tmp_path / "run", make_log([evaluation]), [start])
    assert list_titles(run) == ["There are no validation images"]
    report = make_run_report(run)
    assert report.intro.endswith("epoch 4, by training loss.")
    [figures] = find_blocks(report, Figures)
    assert figures.figures[0] == ("0.500", "training loss, epoch 4")
    assert [section.heading for section in report.sections] == [
        *("Findings", "Results", "Evaluations")  # few charts are together
    ]
    assert not find_blocks(report, Gallery)


@pytest.mark.parametrize("last_step", [0, 7, 20, 39])
def test_a_run_that_is_training_says_how_far_it_is(tmp_path: Path, last_step: int) -> None:
    run = read_run(tmp_path / "run", make_log(last_step=last_step))
    assert list_titles(run) == [f"The run is not finished: step {last_step} of 40"]
    report = make_run_report(run)
    assert report.intro.startswith(f"The run is at step {last_step} of 40. ")
    [figures] = find_blocks(report, Figures)
    assert (f"{last_step} of 40", "steps") in figures.figures
    # 80 images per second, 4 per step.
    minutes = (40 - last_step) * 4 / 80 / 60
    left = [text for text, label in figures.figures if "left" in label]
    assert left == ([f"{minutes:.2g} minutes"] if last_step else [])


def test_the_last_line_may_be_incomplete(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", make_log(last_step=25))
    whole = read_history(directory)
    with (directory / "log.jsonl").open("a") as log:
        log.write(json.dumps(make_training_line(26))[:30])
    assert read_history(directory) == whole


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"[1]\n", b'"text"\n', b"\x00" * 9])
def test_a_damaged_log_is_read_up_to_the_damage(tmp_path: Path, damage: bytes) -> None:
    directory = write_run(tmp_path / "run", make_log(last_step=25))
    whole, log = read_history(directory), directory / "log.jsonl"
    log.write_bytes(log.read_bytes() + damage)
    assert read_history(directory) == whole


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run")
    for text in ('{"starts": [', "[]", "{}", '{"starts": null}', "\x00"):
        (directory / "run.json").write_text(text)
        with pytest.raises(ConfigError, match=re.escape(str(directory / "run.json"))):
            read_history(directory)


def test_of_a_long_log_lines_about_training_are_left_out(tmp_path: Path) -> None:
    """Evaluations, skipped images and the last line are among those that are read."""
    path, limit = tmp_path / "log.jsonl", 100
    skipped = {"step": 7, "skipped": "a.png: no such image"}
    lines = make_log()
    training = [line for line in lines if "loss" in line]
    others = [skipped, *(line for line in lines if "loss" not in line)]
    training += [make_training_line(step) for step in range(len(training) + 1, 12 * limit)]
    write_log(tmp_path, [*others, *training])
    read = read_log(path, limit)
    assert [line for line in read if "loss" not in line] == others
    kept = [line["step"] for line in read if "loss" in line]
    assert kept[-1] == training[-1]["step"]
    assert limit / 2 < len(kept) <= limit
    assert len({after - before for before, after in pairwise(kept)}) == 1
    assert read_log(path, len(lines) + len(training)) == read_log(path)


def test_unusual_values_are_shown_as_far_as_they_are_known(tmp_path: Path) -> None:
    """A speed may be rounded to 0, a loss be NaN, an evaluation be logged twice."""
    nan = float("nan")
    first = make_evaluation(1, val_loss=nan, train_loss=nan)
    first = {key: first[key] for key in ("step", "epoch", "train_loss", "val_loss", "best")}
    lines = [make_training_line(step, pictures_per_second=0.0) for step in range(1, 10)]
    lines += [first, make_training_line(11, pictures_per_second=0.01)]
    assert make_run_report(read_history(write_run(tmp_path / "nan", lines))).sections
    lines = make_log(last_step=20)
    assert make_run_report(
        read_history(write_run(tmp_path / "twice", [*lines, lines[-1]]))
    ).sections


def test_an_evaluation_is_part_of_the_last_step(tmp_path: Path) -> None:
    """Before it, the run is not finished."""
    lines = make_log()
    assert read_run(tmp_path / "run", lines).is_finished
    assert not read_run(tmp_path / "run", lines[:-1]).is_finished


@pytest.mark.parametrize(
    ("optim", "total"),
    [({"epochs": 4}, 40), ({"epochs": 4, "max_steps": 33}, 33), ({"epochs": 5}, 50)],
)
def test_the_number_of_all_steps_is_known_as_soon_as_possible(
    tmp_path: Path, optim: dict[str, int], total: int
) -> None:
    """Since `run.json` has the steps of an epoch, it always is."""
    old = make_start()
    del old["steps_per_epoch"]
    for last_step in (0, 5, 25):
        lines = make_log(last_step=last_step)
        assert read_run(tmp_path / "new", lines, optim=optim).total_steps == total
        known = last_step >= STEPS_PER_EPOCH or "max_steps" in optim
        assert read_run(tmp_path / "old", lines, [old], optim=optim).total_steps == (
            total if known else None
        )


def drop_keys(lines: list[dict[str, Any]], *keys: str) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if key not in keys} for line in lines]


def test_runs_of_older_versions_have_a_report(tmp_path: Path) -> None:
    """Their logs begin after the first step, and have no references or validation loss."""
    captions = ["a square"]
    evaluations = [make_evaluation(epoch, captions) for epoch in range(1, EPOCHS + 1)]
    for evaluation in evaluations:
        evaluation["samples"] = drop_keys(evaluation["samples"], "references")
    lines = drop_keys(make_log(evaluations), "val_loss", "memory_gb")
    directory = write_run(tmp_path / "run", lines)
    (directory / "run.json").unlink()
    recipe = directory / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "a_setting_of_old: 3\n")
    report = make_run_report(read_history(directory))
    assert [section.heading for section in report.sections] == [
        *("Results", "Evaluations", "Images", "Training")
    ]
    assert report.about.settings["a_setting_of_old"] == 3
    assert "Device" not in report.about.others
    [gallery] = find_blocks(report, Gallery)
    [line] = gallery.cards[0].lines
    assert line.label == "epoch 1 · epoch 4, best, last"
    recipe.unlink()
    assert make_run_report(read_history(directory)).about.settings["optim.lr"] == 1e-5


def test_a_page_that_is_watched_loads_itself_until_the_run_is_finished(tmp_path: Path) -> None:
    """Whoever writes it: the training loop does so, too."""
    directory = write_run(tmp_path / "run", make_log(last_step=15))
    page = directory / "report.html"
    write_run_report(directory)
    assert read_refresh(page) == 0
    write_report(page, make_run_report(read_history(directory), refresh=2.5))
    write_run_report(directory)
    assert read_refresh(page) == 2.5
    write_log(directory, make_log())
    write_run_report(directory)
    assert read_refresh(page) == 0


def test_the_example_has_all_parts(tmp_path: Path) -> None:
    write_example_report(tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    text = " ".join(page.texts)
    for part in ("overfitted", "gone.jpg", "Evaluations", "Gradient norm", "optim.lr"):
        assert part in text
    [gallery] = read_galleries(page)
    assert len(gallery["cards"]) == 12
    assert all(read_thumbnails(page))
