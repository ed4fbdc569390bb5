"""The script beside ONNX graphs, which captions without torch and cutline."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_graphs import MICRO
from PIL import Image

import cutline
from cutline.cli.main import run_command
from cutline.image import open_image
from cutline.onnx_export.folder import ASSETS, read_asset
from cutline.tokenizer import Tokenizer

pytest.importorskip("onnxruntime")
# Runs a script where neither package can be imported.
WITHOUT_CUTLINE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("torch", "cutline")))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "F", "I", "I;16")
SUFFIXES = {"CMYK": "jpg", "YCbCr": "jpg", "HSV": "tiff", "F": "tiff", "PA": "tiff", "I": "tiff"}


def run_script(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_CUTLINE, folder / "caption.py", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120)


def write_odd_images(folder: Path) -> list[Path]:
    """Write the same image in many modes, and with each orientation."""
    random = np.random.default_rng(0)
    colors = random.integers(0, 256, (9, 7, 4), dtype=np.uint8)
    image = Image.fromarray(colors).resize((70, 50), Image.Resampling.BICUBIC)
    files = []
    for mode in MODES:
        file = folder / f"{mode.replace(';', '-')}.{SUFFIXES.get(mode, 'png')}"
        if mode in ("F", "I", "I;16"):
            gray = np.asarray(image.convert("L"))
            scaled = gray / np.float32(300) if mode == "F" else gray.astype(np.uint16) * 200
            Image.fromarray(scaled.astype(np.int32) if mode == "I" else scaled).save(file)
        else:
            opaque = image if mode in ("RGBA", "LA") else image.convert("RGB")
            try:
                opaque.convert("P" if mode == "PA" else mode).save(file)
            except (OSError, ValueError):  # this version of Pillow cannot write it
                continue
        files.append(file)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(folder / f"orientation-{orientation}.jpg")
        image.convert("RGB").save(files[-1], exif=exif)
    files.append(folder / "transparent.gif")
    image.convert("RGB").convert("P").save(files[-1], transparency=3)
    return files


def test_it_reads_images_as_cutline_does(tmp_path: Path) -> None:
    script = tmp_path / "caption.py"
    script.write_text(read_asset("caption.py"), encoding="utf-8")
    read_image = runpy.run_path(str(script))["read_image"]
    files = write_odd_images(tmp_path)
    assert len(files) > 18
    for file in files:
        assert np.array_equal(np.asarray(read_image(str(file))), np.asarray(open_image(file))), file


def test_it_prints_the_captions_of_a_greedy_search(
    graphs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = [*MICRO.images, *write_odd_images(tmp_path)]
    result = run_script(graphs, *images)
    assert (result.returncode, result.stderr) == (0, "")
    captions = cutline.load(graphs).caption(images, num_beams=1)
    lines = [f"{image}\t{each.text}" for image, each in zip(images, captions, strict=True)]
    assert result.stdout.splitlines() == lines
    source = ["--model", str(MICRO.checkpoint), "--config", str(MICRO.path / "config.json")]
    source += ["--tokenizer", str(MICRO.vocabulary), "--precision", "fp32"]
    greedy = ["caption", *map(str, images[:6]), "--num-beams", "1"]
    for model in (["--model", str(graphs)], source):
        assert run_command([*greedy, *model]) == 0
        assert capfd.readouterr().out.splitlines() == lines[:6]


def test_it_reports_images_that_cannot_be_read_in_one_sentence(
    graphs: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no image")
    result = run_script(graphs, tmp_path / "no.png", MICRO.images[0], tmp_path / "text.png")
    assert result.returncode == 3
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.splitlines() == [
        f"{tmp_path / 'no.png'}: No such file or directory; check the file",
        f"{tmp_path / 'text.png'}: not an image that can be read; check the file",
    ]


def test_it_reports_wrong_usage_and_damaged_graphs(graphs: Path, tmp_path: Path) -> None:
    assert run_script(graphs).returncode == 2
    for flag in ("-h", "--help"):
        result = run_script(graphs, flag)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("usage: python caption.py IMAGE...\n\nCaption images")
    folder = shutil.copytree(graphs, tmp_path / "graphs")
    (folder / "encoder.onnx").write_bytes(b"nothing")
    result = run_script(folder, MICRO.images[0])
    assert result.returncode == 1
    assert result.stderr.startswith(f"{folder}: cannot be read (")
    assert len(result.stderr.splitlines()) == 1


def test_it_joins_tokens_as_cutline_does(graphs: Path) -> None:
    script = runpy.run_path(str(graphs / "caption.py"))
    captioner = script["OnnxCaptioner"](graphs)
    tokenizer = Tokenizer.load(graphs)
    random = np.random.default_rng(1)
    for ids in random.integers(0, tokenizer.vocab_size, (200, 12)).tolist():
        assert captioner.decode(ids) == tokenizer.decode(ids)


def test_both_files_are_short() -> None:
    lengths = {name: len(read_asset(name).splitlines()) for name in ASSETS}
    assert lengths["caption.py"] < 150
    assert lengths["index.html"] < 200
