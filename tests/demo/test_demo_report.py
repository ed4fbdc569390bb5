"""The report of the demo: sets are named where their figures stand, and mistakes are marked."""

import json
from collections import Counter
from pathlib import Path

import pytest

from cutline.demo.drawing import Scene
from cutline.demo.grammar import describe_scene, is_correct
from cutline.demo.mistakes import FALSE_WORDS, list_false_captions
from cutline.demo.report import (
    HELDOUT,
    RIGHT,
    UNSEEN,
    WRONG,
    Sets,
    make_demo_report,
    mark_false_words,
)
from cutline.demo.result import DemoResult
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.evaluation import evaluate_captions
from cutline.report import (
    About,
    Figures,
    Gallery,
    LineChart,
    Report,
    SideBySide,
    Table,
    write_report,
)

COUNT = 12


def make_false(scene: Scene) -> str:
    """Return a caption with one false word, or one that is not understood."""
    caption = describe_scene(scene)
    wrong = (list_false_captions(caption, scene, mistake) for mistake in FALSE_WORDS)
    return next(filter(None, wrong), ["a dog"])[0]


def make_sets(folder: Path) -> Sets:
    """Return captions of scenes of both sets: of the first set, one in four is wrong."""
    sets = {}
    for name, split, step in ((HELDOUT, "heldout", 4), (UNSEEN, "unseen_combination", 2)):
        scenes = make_scenes(COUNT, 0, split)
        data = write_scenes(folder / split, scenes)
        captions = [
            make_false(scene) if number % step == 0 else describe_scene(scene)
            for number, scene in enumerate(scenes)
        ]
        captions[1] = "a " + captions[1].rpartition(" ")[2].removesuffix("s")
        rows = [
            {"image": f"scene-{number:06d}.png", "caption": caption}
            for number, caption in enumerate(captions)
        ]
        sets[name] = DemoResult(scenes, evaluate_captions(rows, data))
    return sets


def make_example(folder: Path) -> Report:
    lines = [{"step": n, "loss": 4 / n, "lr": 1e-4 * min(n, 10)} for n in range(1, 40)]
    log = folder / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"step": 39, "epoch": 7}]))
    about = About(str(folder), "cutline-demo/model", {"Trained on": "8,000 scenes"})
    return make_demo_report(make_sets(folder), log, about)


def write_example_report(path: Path) -> None:
    """Write the report of a demo that was not run, beside its images."""
    write_report(path, make_example(path.parent))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    return make_sets(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return make_example(tmp_path_factory.mktemp("demo"))


def find_wall(report: Report) -> Gallery:
    [wall] = report.sections[-1].blocks
    assert isinstance(wall, Gallery)
    return wall


def test_sets_are_named_where_their_figures_stand(report: Report, sets: Sets) -> None:
    figures, _, tables = report.sections[0].blocks
    assert isinstance(tables, SideBySide)
    scores, mistakes = tables.blocks
    assert isinstance(figures, Figures)
    names = [f"{HELDOUT} (12 images)", f"{UNSEEN} (12 images)"]
    for (number, label), name, result in zip(figures.figures, names, sets.values(), strict=True):
        assert number == f"{100 * result.accuracy:.1f} %"
        assert name in label
    assert isinstance(scores, Table)
    assert scores.header == ["metric", *names]
    values = {str(row[0]): row[1:] for row in scores.rows}
    assert values["BLEU-1"] == [each.evaluation.scores.bleu1 for each in sets.values()]
    assert isinstance(mistakes, Table)
    assert mistakes.header == ["mistake", *names]
    assert [sum(column) for column in zip(*(row[1:] for row in mistakes.rows), strict=True)] == [
        round(COUNT * (1 - result.accuracy)) for result in sets.values()
    ]


def test_the_learning_rate_is_beside_the_loss(report: Report) -> None:
    loss, rate = report.sections[1].blocks
    assert isinstance(loss, LineChart)
    assert isinstance(rate, LineChart)
    assert [point[0] for point in rate.series[0].points] == list(range(1, 40))
    assert [tick.label for tick in rate.plot().y_ticks] == [
        "0",
        "2e-4",
        "4e-4",
        "6e-4",
        "8e-4",
        "1e-3",
    ]


def test_the_wall_has_all_captions_with_set_and_verdict(report: Report, sets: Sets) -> None:
    wall = find_wall(report)
    scenes = [scene for result in sets.values() for scene in result.scenes]
    assert len(wall.cards) == len(scenes)
    assert [list(group) for group in wall.tag_groups] == [[WRONG, RIGHT], [HELDOUT, UNSEEN]]
    for card, scene in zip(wall.cards, scenes, strict=True):
        [line] = card.lines
        is_right = is_correct(line.text, scene)
        assert card.tags[0] == (RIGHT if is_right else WRONG)
        assert bool(line.marks) != is_right
        assert card.note.startswith("correct, but omits" if is_right and card.note else "")
        assert list(card.references) == [describe_scene(scene)]
    assert Counter(card.tags[1] for card in wall.cards) == {HELDOUT: COUNT, UNSEEN: COUNT}


def test_the_word_that_is_false_is_marked() -> None:
    [scene] = make_scenes(1, 3)
    caption = describe_scene(scene)
    color = scene.objects[0].color
    wrong = caption.replace(color, "black" if color != "black" else "red")
    [(start, end, kind)] = mark_false_words(wrong, scene)
    assert (wrong[start:end], kind) == ("black" if color != "black" else "red", "wrong")
    assert mark_false_words("a dog on the beach", scene) == []


def test_a_small_wall_has_both_sets(sets: Sets, tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    wall = find_wall(make_demo_report(sets, tmp_path / "log.jsonl", About(), 6))
    assert Counter(card.tags[1] for card in wall.cards) == {HELDOUT: 3, UNSEEN: 3}
