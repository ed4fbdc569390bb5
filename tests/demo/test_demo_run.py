"""The demo, and `cutline demo`."""

import json
from pathlib import Path

import pytest
from filelock import FileLock
from html_reader import read_galleries, read_page

import cutline
from cutline.cli.main import run_command
from cutline.data import open_data
from cutline.demo.grammar import describe_scene, is_correct
from cutline.demo.run import run_demo
from cutline.demo.scenes import make_scenes
from cutline.errors import ConfigError


def test_a_short_demo_writes_model_captions_and_report(tmp_path: Path) -> None:
    messages: list[str] = []
    result = run_demo(tmp_path, 1, messages.append, num_train=48, num_test=10, epochs=1)
    assert messages[0] == "Drawing 48 training scenes and 20 test scenes …"
    assert len(messages) == 3
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == result.captions
    scenes = make_scenes(10, 1, "heldout")
    correct = [is_correct(row["caption"], scene) for row, scene in zip(rows, scenes, strict=True)]
    assert [row["verdict"].startswith("correct") for row in rows] == correct
    assert result.accuracy == sum(correct) / 10
    page = read_page(tmp_path / "report.html")
    [wall] = read_galleries(page)
    assert len(wall["cards"]) == 20
    assert "48 scenes, drawn at random" in page.texts
    images = sorted((tmp_path / "scenes" / "heldout").glob("*.png"))
    captioner = cutline.load(tmp_path / "model", precision="fp32")
    captions = captioner.caption(images, batch_size=50, max_length=24, min_length=1)
    assert [caption.text for caption in captions] == result.captions
    run_demo(tmp_path, 1, num_train=16, num_test=4, epochs=1)  # replaces the first
    assert len(list((tmp_path / "scenes" / "heldout").glob("*.png"))) == 4


@pytest.mark.slow
def test_the_demo_reaches_its_accuracy(tmp_path: Path) -> None:
    assert run_demo(tmp_path).accuracy >= 0.85


def test_photos_are_a_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    for _ in range(2):  # the second call replaces the first images
        assert run_command(["demo", "--photos", str(folder)]) == 0
        assert "40 images" in capsys.readouterr().out
    captions = [sample.captions for sample in open_data(folder)]
    assert captions == [(describe_scene(scene),) for scene in make_scenes(40, 0, "heldout")]


def test_photos_do_not_overwrite_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.jsonl").write_text("mine")
    assert run_command(["demo", "--photos", str(tmp_path)]) == 2
    assert "contains other files" in capsys.readouterr().err
    assert (tmp_path / "captions.jsonl").read_text() == "mine"


def test_a_second_demo_in_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(ConfigError, match="another demo runs in this folder"),
    ):
        run_demo(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ConfigError, match="contains other files"):
        run_demo(tmp_path)
