"""Captioning a data set and measuring the captions."""

import json
from pathlib import Path

import pytest
from test_captioner import captioner  # noqa: F401  # a fixture

import cutline
from cutline.captioner import Captioner
from cutline.data import Sample
from cutline.data.scenes import make_scenes, write_scenes
from cutline.evaluation import evaluate, write_sheet
from cutline.metrics import measure


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(6, seed=5))


def test_it_measures_the_captions_it_writes(captioner: Captioner, data: Path) -> None:  # noqa: F811
    found = evaluate(captioner, data, num_beams=2)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    captions = captioner.caption([data.parent / row["file_name"] for row in rows], num_beams=2)
    assert [one.caption.token_ids for one in found.pictures] == [caption.token_ids for caption in captions]
    assert [one.caption.score for one in found.pictures] == pytest.approx([caption.score for caption in captions], rel=1e-5)
    assert found.scores == measure([c.text for c in captions], [row["captions"] for row in rows])[0]
    assert found.skipped == []


def test_bad_pictures_are_listed_and_not_measured(captioner: Captioner, data: Path) -> None:  # noqa: F811
    samples = [Sample(str(data.parent / "scene-000000.png"), ("a star",), "0"), Sample("/gone.png", ("a star",), "1")]
    found = evaluate(captioner, samples)
    assert len(found.pictures) == 1
    assert "/gone.png" in found.skipped[0]
    with pytest.raises(cutline.DataError, match="none of the 1 pictures can be read"):
        evaluate(captioner, samples[1:])
    with pytest.raises(cutline.DataError, match="no picture has a caption to compare with"):
        evaluate(captioner, [Sample("/gone.png", (), "1")])


def test_a_picture_s_own_prompt_comes_before_the_model_s_and_after_the_caller_s(captioner: Captioner, data: Path) -> None:  # noqa: F811
    image = str(data.parent / "scene-000001.png")
    sample = [Sample(image, ("a star",), "0", prompt="the left ")]
    assert evaluate(captioner, sample).pictures[0].caption.token_ids == captioner.caption(image, "the left ")[0].token_ids
    assert evaluate(captioner, sample, "").pictures[0].caption.token_ids == captioner.caption(image, "")[0].token_ids


def test_the_sheet_shows_best_and_worst(captioner: Captioner, data: Path, tmp_path: Path) -> None:  # noqa: F811
    found = evaluate(captioner, data)
    write_sheet(tmp_path / "sheet.html", found)
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image") == 6
    assert page.index("Best captions") < page.index("Worst captions")
    assert "cider" in page
