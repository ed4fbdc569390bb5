"""calibration.json: written, read, refused, and found beside a model."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_captioner import draw_images, make_captioner, save_captioner

import cutline
from cutline.checkpoint import load_checkpoint, save_checkpoint
from cutline.confidence import Calibration, read_calibration
from cutline.errors import CheckpointError, CutlineError
from cutline.metrics import PlattScaling

WORD, CAPTION = PlattScaling(0.5, 1.25), PlattScaling(2.0, -0.5)


def make_calibration(fingerprint: str = "0123456789abcdef") -> Calibration:
    return Calibration(WORD, CAPTION, fingerprint, 10, 80, 3, {"words": {"auroc": 0.9}})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_captioner(tmp_path / "model")
    return tmp_path / "model"


def test_a_calibration_survives_a_file(tmp_path: Path) -> None:
    calibration = make_calibration()
    calibration.save(tmp_path / "c.json")
    assert read_calibration(tmp_path / "c.json") == calibration


@pytest.mark.parametrize("layout", ["cutline", "huggingface", "run", "file in the folder"])
def test_it_is_found_in_the_folder_of_a_model(tmp_path: Path, layout: str) -> None:
    folder = path = tmp_path / "model"
    made = save_captioner(folder)
    if layout == "huggingface":
        folder = path = tmp_path / "huggingface"
        save_checkpoint(folder, load_checkpoint(tmp_path / "model"), "huggingface")
    elif layout == "run":
        path = tmp_path / "run"
        folder = path / "best"
        save_captioner(folder)
    elif layout == "file in the folder":
        path = folder / "model.safetensors"
    calibration = make_calibration(cutline.load(path).fingerprint)
    calibration.save(folder / "calibration.json")
    for precision in ("fp32", "bf16", "int8"):
        loaded = cutline.load(path, "cpu", precision)  # type: ignore[arg-type]
        assert loaded.calibration == calibration
    [plain] = made.caption(draw_images(1))
    [scaled] = cutline.load(path, "cpu", "fp32").caption(draw_images(1))
    assert scaled.confidence == pytest.approx(CAPTION.apply(plain.confidence), abs=1e-4)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (make_calibration().to_json(), "the calibration of another model, other weights, an"),
        ("{}", "not a calibration that this version of cutline reads"),
        ("[", "not JSON"),
    ],
)
def test_one_in_the_folder_that_does_not_fit_is_not_used(
    model: Path, content: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    (model / "calibration.json").write_text(content)
    with caplog.at_level(logging.WARNING):
        assert cutline.load(model).calibration is None
    file = model / "calibration.json"
    assert f"confidence is not calibrated: {file}: {problem}" in caplog.text


def test_none_is_used_on_request(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_calibration(cutline.load(model).fingerprint).save(model / "calibration.json")
    assert cutline.load(model, calibration=False).calibration is None
    assert not caplog.text


def test_one_that_is_named_must_be_of_the_model(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    make_calibration().save(file)
    with pytest.raises(CheckpointError, match=r"other\.json: the calibration of another model"):
        cutline.load(model, calibration=file)
    right = make_calibration(cutline.load(model).fingerprint)
    right.save(file)
    make_calibration().save(model / "calibration.json")  # is not read
    assert cutline.load(model, calibration=str(file)).calibration == right
    with pytest.raises(CheckpointError, match="the calibration of another model"):
        cutline.load(model, image_size=48, calibration=file)
    with pytest.raises(CheckpointError, match=r"none\.json: cannot be read"):
        cutline.load(model, calibration=tmp_path / "none.json")


def test_a_captioner_that_was_not_loaded_has_none() -> None:
    captioner = make_captioner()
    assert (captioner.calibration, captioner.fingerprint) == (None, "")


HOSTILE: list[Any] = [
    None,
    [],
    {"format": "other"},
    {"version": 2},
    {"word": {"slope": float("nan"), "intercept": 0}},
    {"word": {"slope": float("inf"), "intercept": 0}},
    {"word": {"slope": 10**400, "intercept": 0}},
    {"word": {"slope": True, "intercept": 0}},
    {"word": {"slope": "1", "intercept": 0}},
    {"word": {"slope": 1}},
    {"word": 3},
    {"caption": None},
    {"num_images": 1.5},
    {"seed": True},
    {"fingerprint": 7},
    {"test": []},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_what_is_no_calibration_is_refused(tmp_path: Path, change: Any) -> None:
    file = tmp_path / "c.json"
    values = json.loads(make_calibration().to_json())
    file.write_text(json.dumps({**values, **change} if isinstance(change, dict) else change))
    with pytest.raises(CheckpointError, match=r"c\.json: .*; .*(again|cutline calibrate)"):
        read_calibration(file)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file, text = tmp_path / "c.json", make_calibration().to_json()
    for damaged in (text[:-20], text.replace('"seed"', '"word"'), "{" * 100_000, "\0", text * 2):
        file.write_text(damaged)
        with pytest.raises(CheckpointError, match=r"c\.json: "):
            read_calibration(file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_calibration(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from([*json.loads(make_calibration().to_json())]), JSON)
def test_any_value_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.json"
    values = json.loads(make_calibration().to_json())
    file.write_text(json.dumps({**values, name: value}))
    try:
        calibration = read_calibration(file)
    except CutlineError:
        return
    assert 0 <= calibration.word.apply(0.5) <= 1


def test_an_unwritable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((CutlineError, OSError)):
        make_calibration().save(tmp_path)
