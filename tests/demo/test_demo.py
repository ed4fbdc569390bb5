"""The demonstration."""

import json
from pathlib import Path

import pytest

import cutline
from cutline.demo.pipeline import run_demo
from cutline.demo.scenes import is_true_of, make_scenes


def test_a_short_one_writes_all_it_promises(tmp_path: Path) -> None:
    said: list[str] = []
    truth = run_demo(tmp_path, 1, said.append, scenes=96, epochs=1, tests=10)
    assert len(said) == 3
    rows = [json.loads(line) for line in (tmp_path / "captions.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == truth.captions
    scenes = make_scenes(10, 1, "heldout")
    assert [row["verdict"].startswith("true") for row in rows] == [
        is_true_of(row["caption"], scene) for row, scene in zip(rows, scenes, strict=True)
    ]
    assert (
        truth.share
        == sum(is_true_of(row["caption"], scene) for row, scene in zip(rows, scenes, strict=True))
        / 10
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image") >= 20
    assert "<svg" in page
    again = cutline.load(tmp_path / "model").caption(
        sorted((tmp_path / "scenes" / "heldout").glob("*.png")), max_length=24, min_length=1
    )
    assert [caption.text for caption in again] == truth.captions
    run_demo(
        tmp_path, 1, scenes=96, epochs=1, tests=10
    )  # a second one takes the place of the first


@pytest.mark.slow
def test_the_real_one_tells_the_truth(tmp_path: Path) -> None:
    assert run_demo(tmp_path).share >= 0.85
