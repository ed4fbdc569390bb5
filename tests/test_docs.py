"""Every command and snippet of README.md and docs/ runs as printed, page by page."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from docs_commands import split_command
from forked import run_code
from forked_server import fork_command
from published_files import write_published_files
from review_server import ReviewServer

from cutline.cli.main import run_command
from cutline.demo.run import run_demo
from cutline.demo.scenes import make_scenes, write_scenes

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
PAGES = {
    path.relative_to(REPOSITORY).as_posix(): path
    for path in (REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md")))
}
SLOW_PAGES = tuple(
    f"docs/{name}.md"
    for name in (
        *("api", "captioning", "clusters", "collections", "confidence", "drop-ins", "evaluation"),
        *("explaining", "fine-tuning", "matching", "onnx", "reports", "reproduce", "review"),
        "serving",
    )
)
SERVER_ADDRESS = "http://127.0.0.1:8000"
"""where pages find the server that they start; tests start it elsewhere"""
TESTED_ELSEWHERE = {
    "make demo": "tests/demo",
    "make bench": "tests/test_benchmarks.py",
    "python benchmarks/train.py --output docs/benchmarks/train.json": "tests/test_benchmarks.py",
    "python benchmarks/caption.py --output docs/benchmarks/caption.json "
    "--chart docs/benchmarks/caption.svg": "tests/test_benchmarks.py",
    "python benchmarks/merge_tokens.py --transformers "
    "--output docs/benchmarks/merge_tokens.json": "tests/test_benchmarks.py",
    "python benchmarks/merge_tokens.py --part quality --model runs/aerial/last "
    "--data ucm-captions/block-val.jsonl --output docs/benchmarks/merge_tokens.json "
    "--chart docs/benchmarks/merge_tokens.svg": "tests/test_benchmarks.py",
    "python benchmarks/bulk.py --output docs/benchmarks/bulk.json": "tests/test_benchmarks.py",
    "python benchmarks/cost.py docs/benchmarks/bulk.json --images 1e9 --devices 1000 "
    "--cores-per-device 4 --read-gb-per-s 20": "below, in test_costs_follow_from_measurements",
    "make test": "runs this test",
    "source .venv/bin/activate": "a shell builtin",
}
# what a Slurm job finds, for scripts; its commands run on this machine
SLURM = {
    "SLURM_ARRAY_JOB_ID": "7",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_CPUS_PER_TASK": "1",
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NODELIST": "node[0-1]",
}
PROGRAMS = {
    "cutline": f'exec "{sys.executable}" -m cutline "$@"',
    "torchrun": f'exec "{sys.executable}" "{REPOSITORY}/tests/docs_commands.py" "$@"',
    "ssh": 'shift; exec sh -c "$*"',
    # a task for each node, at once; fails if one fails
    "srun": 'pids=; for node in $(seq $SLURM_NNODES); do "$@" & pids="$pids $!"; done; '
    "code=0; for pid in $pids; do wait $pid || code=$?; done; exit $code",
    # no command is stopped, so that no job is put into the queue again
    "scontrol": '[ "$1 $2" = "show hostnames" ] && printf "node0\\nnode1\\n"',
}


@dataclass(frozen=True)
class Block:
    """A fenced code block of a page."""

    page: str
    language: str
    text: str


def find_blocks(*languages: str) -> list[Block]:
    """Return the fenced blocks in these languages, in the order of the pages."""
    blocks = []
    for page, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
            blocks.append(Block(page, match[1], match[2]))
    return [block for block in blocks if block.language in languages]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a reader has: a clone after `make demo` (a shorter one), and UCM-Captions.

    Nothing else is made here: the pages make their own images, and train what they need.
    """
    folder = tmp_path_factory.mktemp("clone")
    for name in ("recipes", "docs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    run_demo(folder / "cutline-demo", num_train=96, num_test=12, epochs=1)
    write_scenes(folder / "ucm-captions", make_scenes(6, seed=4))
    for split in ("block-train", "block-val", "val"):
        captions = folder / "ucm-captions" / "captions.jsonl"
        shutil.copy(captions, folder / "ucm-captions" / f"{split}.jsonl")
    return folder


def test_pages_have_commands_and_snippets() -> None:
    assert sum(block.text.count("\n$ ") + 1 for block in find_blocks("console")) > 30
    assert len(find_blocks("python")) > 5


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow) if page in SLOW_PAGES else page for page in PAGES],
)
def test_commands_and_snippets_of_a_page(
    clone: Path,
    page: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Run them one after another, as a reader would type them."""
    monkeypatch.chdir(clone)
    environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    remove_results(clone)
    if page == "docs/reproduce.md":
        write_published_files(clone)
    if page == "docs/api.md":
        monkeypatch.delenv("HF_HUB_OFFLINE")  # its client would not even call this machine
    address = SERVER_ADDRESS
    with ExitStack() as stack:
        for block in find_blocks("console", "python", "bash"):
            if block.page != page:
                continue
            text = block.text.replace(SERVER_ADDRESS, address)
            if block.language == "python":
                result = run_code(text)
                assert result.returncode == 0, result.stderr.decode()
                continue
            if block.language == "bash":
                run_script(text)
                continue
            for line in text.splitlines():
                if line.startswith("$ cutline serve "):
                    words = shlex.split(line)[2:]
                    server = stack.enter_context(fork_command(clone, *words, "--port", "0"))
                    address = server.url
                elif line.startswith("$ ") and line[2:] not in TESTED_ELSEWHERE:
                    run_line(line[2:].replace(SERVER_ADDRESS, address))
                    capfd.readouterr()
    if page == "docs/reproduce.md":  # also the runs that scripts leave in the background
        processes = {
            path.parent.name: count_processes(path) for path in clone.glob("runs/*/run.json")
        }
        distributed = dict.fromkeys(("coco-base", "coco-large", "two-nodes", "slurm"), 2)
        assert processes == {**distributed, "one-gpu": 1}


def count_processes(info: Path) -> int:
    """Return the processes of a run that has ended, given its `run.json`."""
    assert info.with_name("report.html").exists()
    count: int = json.loads(info.read_text())["starts"][0]["world_size"]
    return count


def remove_results(clone: Path) -> None:
    """Remove what other pages have made: each starts where the demo ends."""
    for path in clone.iterdir():
        if path.name not in ("recipes", "docs", "cutline-demo", "ucm-captions"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def run_script(text: str) -> None:
    """Run a bash script in the current folder, with stand-ins for Slurm's programs."""
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("bash is not installed")
    subprocess.run([bash, "-n", "-c", text], check=True)
    folder = Path(".venv", "bin")
    folder.mkdir(parents=True, exist_ok=True)
    for name, command in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{command}\n")
        (folder / name).chmod(0o755)
    (folder / "activate").touch()
    path = f"{folder.absolute()}{os.pathsep}{os.environ['PATH']}"
    nodes = re.search(r"^#SBATCH --nodes=(\d+)$", text, re.M)
    variables = {"SLURM_NNODES": nodes[1] if nodes else "1", "RENDEZVOUS_PORT": str(find_port())}
    environment = os.environ | SLURM | variables | {"PATH": path}
    result = subprocess.run(
        [bash, "-c", text], env=environment, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr


def find_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
    return port


def run_line(line: str) -> None:
    """Run a command line; `torchrun` in its own processes."""
    if re.search(r"\bcurl\b", line):
        run_curl(line)
        return
    program, *words = split_command(line)
    if program == "torchrun":
        run_python("-m", "torch.distributed.run", *words)
        return
    if program == "python":
        run_python(*words)
        return
    assert program == "cutline", line
    if words[0] == "review":
        run_review(*words[1:])
        return
    words = [path for word in words for path in (sorted(map(str, Path().glob(word))) or [word])]
    assert run_command(words) == 0, line


def run_review(data: str, *flags: str) -> None:
    """Review captions in a process of its own: accept one, and end on the page."""
    with ReviewServer(Path(data), *flags) as server:
        view = server.ask("POST", "views", {})["view"]
        row = server.ask("GET", f"views/{view}")["rows"][0]
        server.ask("POST", f"rows/{row['row']}/accept", {"version": row["version"]})
        server.ask("POST", "finish")
        assert server.wait() == 0


def run_curl(line: str) -> None:
    """Run a command line with curl, which fails if the server answers with an error."""
    bash = shutil.which("bash")
    if not bash or not shutil.which("curl"):
        pytest.skip("curl is not installed")
    Path(".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")
    result = subprocess.run(
        [bash, "-c", line],
        env=os.environ | {"CURL_HOME": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def run_python(*words: str) -> None:
    """Run Python in its own process."""
    result = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr


def test_costs_follow_from_measurements() -> None:
    """The tables of the page are what the command beside them prints."""
    page = (DOCS / "clusters.md").read_text(encoding="utf-8")
    line = re.search(r"^\$ python (benchmarks/cost\.py .*)$", page, re.M)
    tables = re.search(r"^<!-- cost -->\n\n(.*)\n<!-- /cost -->$", page, re.M | re.S)
    assert line
    assert tables
    command = [sys.executable, *shlex.split(line[1])]
    result = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    assert tables[1] == result.stdout.decode(), "copy the output of the command to the page"


def test_links_have_targets() -> None:
    for page, path in PAGES.items():
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text):
            assert (path.parent / target).exists(), f"{page}: {target}"
        assert "@@" not in text, page


def test_pages_fit_the_width() -> None:
    """At most 100 columns, but for tables, links and commands, which cannot be wrapped."""
    for page, path in PAGES.items():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            fixed = line.lstrip().startswith(("|", "$ ", "![", "[")) or page.endswith("cli.md")
            assert len(line) <= 100 or fixed, f"{page}:{number}"


def test_the_map_names_every_module() -> None:
    tree = next(block.text for block in find_blocks("text") if block.text.startswith("cutline/\n"))
    named = set(re.findall(r"(\w+)\.py", tree))
    modules = {path.stem for path in (REPOSITORY / "cutline").rglob("*.py")}
    modules -= {"__init__", "__main__"}
    assert named - modules == set()
    assert modules - named == set()


def test_the_cli_reference_is_that_of_the_help() -> None:
    path = DOCS / "reference" / "generate_cli.py"
    spec = importlib.util.spec_from_file_location("generate_cli", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert page == module.format_page(), f"run {path.relative_to(REPOSITORY)}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
    for path in DOCS.rglob("*.md"):
        assert path.relative_to(DOCS).as_posix() in navigation
