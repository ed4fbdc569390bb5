"""`cutline explain`: output, messages and exit codes."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from random_captioner import write_images

import cutline
from cutline.cli.main import run_command
from cutline.explanation import explainer


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "photos", 3)
    return tmp_path / "photos"


def run(folder: Path, *words: object) -> int:
    flags = ("--model", str(folder), "--device", "cpu", *map(str, words))
    return run_command(["explain", *flags])


@pytest.mark.parametrize("method", ["gradient", "attention", "occlusion"])
def test_captions_go_to_stdout_and_maps_to_a_page(
    folder: Path, photos: Path, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, photos, "--method", method) == 0
    out, err = capfd.readouterr()
    rows = [line.split("\t") for line in out.splitlines()]
    names = sorted(map(str, photos.glob("*.png")))
    captioner = cutline.load(folder, "cpu", "fp32")
    expected = [caption.text for caption in captioner.caption(names)]
    assert rows == [list(pair) for pair in zip(names, expected, strict=True)]
    assert err == "cutline: wrote explanation.html; images explained: 3\n"
    assert Path("explanation.html").read_text(encoding="utf-8").count("<figure") == 3


def test_a_caption_is_explained_in_any_engine(folder: Path, photos: Path) -> None:
    image = photos / "scene-000000.png"
    flags = ("--caption", "a red circle", "--prompt", "two ", "-o", "maps.npz")
    assert run(folder, image, *flags, "--precision", "int8") == 0
    with np.load("maps.npz") as arrays:
        assert arrays["captions"].tolist() == ["a red circle"]
        captioner = cutline.load(folder, "cpu", "fp32", engine="eager")
        expected = cutline.explain(captioner, image, "a red circle", prompt="two ")
        for actual, word in zip(arrays["maps"], expected.words, strict=True):
            np.testing.assert_allclose(actual, word.map, rtol=1e-4, atol=1e-6)


def test_unreadable_images_are_listed(
    folder: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    assert run(folder, photos, "missing.png", "-o", "out") == 3
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 3
    assert "bad.png: not an image" in err
    assert "missing.png" in err
    assert "2 of 5 images could not be explained" in err
    assert len(list(Path("out").iterdir())) == 3
    assert run(folder, photos / "bad.png", "-o", "none.html") == 1
    assert "no image could be explained" in capfd.readouterr().err
    assert not Path("none.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name the images to explain"),
        (["photos", "-o", "x.pdf"], "explain writes .html, .npz"),
        (["photos", "--method", "attention", "--window", "2"], "window is for occlusion"),
        (["photos", "--caption", "a dog", "--num-beams", "4"], "num_beams is for generated"),
        (["photos", "--caption", "?"], "has no words to explain"),
        (["photos", "--batch-size", "0"], "batch_size"),
        (["photos", "-o", "photos/maps"], "photos/maps: in photos, whose images are to be"),
        (["photos", "-o", "photos"], "photos: is not empty"),
    ],
)
def test_wrong_usage(
    folder: Path, photos: Path, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(folder, *words) == 2
    assert message in capfd.readouterr().err


@pytest.mark.parametrize("output", ["page.html", "maps.npz"])
def test_ctrl_c_keeps_what_is_done(
    folder: Path,
    photos: Path,
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    compute, calls = explainer.map_attention, itertools.count()

    def stop(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return compute(*arguments)

    monkeypatch.setattr(explainer, "map_attention", stop)
    assert run(folder, photos, "--method", "attention", "--batch-size", "1", "-o", output) == 130
    out, err = capfd.readouterr()
    assert len(out.splitlines()) == 2
    assert f"wrote {output}; images explained: 2" in err
    assert Path(output).stat().st_size > 500


def test_an_image_is_not_needed_on_disk_twice(folder: Path, photos: Path) -> None:
    """An image of another shape, and one that is named twice."""
    Image.new("L", (300, 90), 77).save(photos / "gray.jpg")
    assert run(folder, photos / "gray.jpg", photos / "gray.jpg", "-o", "maps.npz") == 0
    with np.load("maps.npz") as arrays:
        assert arrays["sizes"].tolist()[0] == [90, 300]
