"""The package as users install it: the wheel, its version, and systems without POSIX modules."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from golden_folder import GoldenFolder

import cutline

ROOT = Path(__file__).parents[1]
GOLDEN = GoldenFolder(Path(__file__).parent / "golden" / "salesforce-micro")


def run(*arguments: str | Path, cwd: Path, **env: str) -> str:
    """Run a command and return its stdout; if it fails, the test fails with its stderr."""
    result = subprocess.run(
        arguments, cwd=cwd, env=os.environ | env, capture_output=True, encoding="utf-8"
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def caption_arguments() -> list[str | Path]:
    """Return arguments of cutline that caption the golden images with the golden captioner."""
    images = [GOLDEN.path / "images" / name for name in GOLDEN.expected["images"]]
    model = ["--model", GOLDEN.checkpoint, "--tokenizer", GOLDEN.vocabulary]
    config = ["--config", GOLDEN.path / "config.json"]
    return ["caption", *images, *model, *config, "--device", "cpu", "--precision", "fp32"]


def assert_golden_captions(stdout: str) -> None:
    """Check lines of `path<TAB>caption` against the captions of BLIP's code."""
    settings = {"num_beams": 3, "max_length": 20, "min_length": 5}
    (entry,) = [entry for entry in GOLDEN.expected["generate"] if entry["settings"] == settings]
    assert [line.split("\t")[1] for line in stdout.splitlines()] == entry["captions"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel $CUTLINE_WHEEL, or one built from a copy of the sources."""
    if "CUTLINE_WHEEL" in os.environ:
        return ROOT / os.environ["CUTLINE_WHEEL"]
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "cutline", source / "cutline")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--wheel", "--no-isolation", "--outdir", output]
    run(sys.executable, "-m", "build", *options, source, cwd=output)
    (path,) = output.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cutline").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert "cutline/py.typed" in names
    assert names == files


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    folder = f"cutline-{cutline.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        assert f"{folder}/licenses/LICENSE" in archive.namelist()
    assert metadata["Version"] == cutline.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "cutline contributors"
    assert "Programming Language :: Python :: 3.14" in metadata.get_all("Classifier")


def test_the_installed_wheel_captions_as_the_reference_does(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, "--disable-pip-version-check", "--target", target, wheel, cwd=tmp_path)
    path = str(target)
    origin = "import cutline; print(cutline.__file__)"
    module = run(sys.executable, "-c", origin, cwd=tmp_path, PYTHONPATH=path).strip()
    assert Path(module) == target / "cutline" / "__init__.py"
    command = [sys.executable, "-m", "cutline", *caption_arguments()]
    assert_golden_captions(run(*command, cwd=tmp_path, PYTHONPATH=path))


@pytest.mark.network
def test_the_wheel_in_an_empty_environment(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv.create(tmp_path / "env", with_pip=True)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    pip = [scripts / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    probe = ["download", "--no-deps", "--retries", "0", "--timeout", "15", "--dest", tmp_path]
    if subprocess.run([*pip, *probe, "tyro"], capture_output=True).returncode:
        pytest.skip("no package index can be reached: the wheel was not tried")
    run(*pip, "install", "--constraint", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    version = run(scripts / "cutline", "--version", cwd=tmp_path)
    assert version == f"cutline {cutline.__version__}\n"
    assert_golden_captions(run(scripts / "cutline", *caption_arguments(), cwd=tmp_path))


def test_every_module_is_imported_and_an_image_captioned_without_posix(tmp_path: Path) -> None:
    script = Path(__file__).parent / "without_posix.py"
    command = [sys.executable, script, *caption_arguments()]
    assert_golden_captions(run(*command, cwd=tmp_path, PYTHONPATH=str(ROOT)))
