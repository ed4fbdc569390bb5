"""Every command and snippet in README.md and docs/ runs, as it stands, in a folder like the one it speaks of."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutline.cli.main import run_command
from cutline.demo.pipeline import run_demo
from cutline.demo.scenes import make_scenes, write_scenes

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# what a command gets on top, so that it ends within seconds; the aerial run stands in the README with its real numbers
SHORTER = {
    "--overfit 1": "--optim.batch-size 2 --optim.lr 3e-3",
    "--lr-range": "--optim.batch-size 1 --optim.grad-accum-steps 1 --data.num-workers 0",
    "train recipes/aerial.yaml": "--optim.max-steps 2 --data.num-workers 0 --eval.max-images 2 --optim.batch-size 2",
    "train recipes/own-photos.yaml": "--optim.epochs 1 --optim.batch-size 4 --data.num-workers 0 --tensorboard off",
}
ELSEWHERE = {
    "make demo": "tests/test_demo.py runs it",
    "make bench": "tests/test_benchmarks.py runs it",
    "python benchmarks/train.py --output docs/benchmarks/train.json": "ten minutes; the same",
    "python benchmarks/caption.py --output docs/benchmarks/caption.json --chart docs/benchmarks/caption.svg": "an hour; the same",
    "make test": "this is it",
    "source .venv/bin/activate": "of the shell",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str


def blocks(*languages: str) -> list[Block]:
    """The fenced blocks of these languages in all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page.name, line, match[1], match[2]))
    return [block for block in found if block.language in languages]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder: the demonstration's results (of a much shorter one), photographs with captions, the recipes."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(REPOSITORY / "recipes", folder / "recipes")
    shutil.copytree(REPOSITORY / "docs", folder / "docs")
    run_demo(folder / "cutline-demo", scenes=96, epochs=1, tests=12)
    write_scenes(folder / "photos", make_scenes(40, seed=8))
    for name, number in (("a.png", 0), ("b.png", 1)):
        shutil.copy(folder / "photos" / f"scene-{number:06d}.png", folder / "photos" / name)
    write_scenes(folder / "ucm-captions", make_scenes(6, seed=4))
    for split in ("train", "val"):
        shutil.copy(
            folder / "ucm-captions" / "captions.jsonl", folder / "ucm-captions" / f"{split}.jsonl"
        )
    return folder


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
    }


def test_the_pages_name_commands_and_snippets() -> None:
    assert sum(block.text.count("\n$ ") + 1 for block in blocks("console")) > 20
    assert len(blocks("python")) > 2


@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_a_page(
    reader: Path, page: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its commands and snippets one after another, as somebody would type them."""
    monkeypatch.chdir(reader)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    shutil.rmtree("runs", ignore_errors=True)  # each page begins where the demonstration ends
    for block in blocks("console", "python"):
        if block.page == page and block.language == "python":
            run_apart("-c", block.text)
        elif block.page == page:
            for line in block.text.splitlines():
                if line.startswith("$ ") and line[2:] not in ELSEWHERE:
                    run(line[2:])
                    capfd.readouterr()


def run(command: str) -> None:
    """What somebody types; what torchrun starts, in processes of its own."""
    more = next((flags for start, flags in SHORTER.items() if start in command), "")
    program, *words = shlex.split(f"{command} {more}")
    if program == "torchrun":
        run_apart("-m", "torch.distributed.run", *words)
        return
    assert program == "cutline", command
    assert run_command(words) == 0, command


def run_apart(*words: str) -> None:
    """In a Python of its own."""
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr


def test_links_and_the_map_of_the_files_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    tree = next(block.text for block in blocks("text") if block.text.startswith("cutline/\n"))
    named = set(re.findall(r"(\w+)\.py", tree))
    modules = {path.stem for path in (REPOSITORY / "cutline").rglob("*.py")} - {
        "__init__",
        "__main__",
    }
    folders = {"tokenizer", "image", "config"}  # described as a whole
    inside = {
        path.stem for folder in folders for path in (REPOSITORY / "cutline" / folder).glob("*.py")
    }
    assert named - modules == set()
    assert modules - named - inside == set()
    assert "@@" not in readme
