"""Runs recipes, one after another, in the processes that `launch` starts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from interruption import interrupt_at

from cutline.config import Recipe, to_dict
from cutline.distributed import process_group, rank
from cutline.errors import CutlineError
from cutline.training import Interrupted, train


def launch(jobs: list[tuple[Recipe, bool, int]], folder: Path, processes: int = 2) -> str:
    """Run `jobs` in one group of `processes`, and return what they say on stderr. Raises RuntimeError where one fails.

    A job is a recipe, whether to resume, and in which step the second process gets a Ctrl-C (0: in none).
    """
    written = []
    for number, (recipe, resume, stop_in) in enumerate(jobs):
        path = folder / f"recipe-{number}.yaml"
        path.write_text(yaml.safe_dump(to_dict(recipe)))
        written.append((str(path), resume, stop_in))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    alone = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, __file__, json.dumps(written)]
    group = [
        subprocess.Popen(
            command,
            env={**os.environ, **alone, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    said = [process.communicate(timeout=200)[1] for process in group]
    for process, text in zip(group, said, strict=True):
        if process.returncode:
            raise RuntimeError(text)
    return "".join(said)


def run(jobs: list[tuple[str, bool, int]]) -> None:
    """What each process does."""
    with process_group():
        for recipe, resume, stop_in in jobs:
            with pytest.MonkeyPatch.context() as patch:
                if stop_in and rank() == 1:
                    interrupt_at(patch, stop_in)
                try:
                    train(recipe, resume=resume, show_progress=False)
                except (Interrupted, CutlineError) as stopped:
                    sys.stderr.write(f"{stopped}\n")


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))
