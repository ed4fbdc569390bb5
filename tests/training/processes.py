"""Train recipes, one after another, in a group of processes that `launch` starts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from interruption import block_log_at, interrupt_at

from cutline.config import Recipe, to_dict
from cutline.distributed import process_group, rank
from cutline.errors import CutlineError
from cutline.training import Interrupted, train

Job = tuple[Recipe, bool, int]
"""a recipe, whether to resume, and the step in which the second process gets a Ctrl-C (0: none), or
if it is negative, in which the first process cannot write its log"""


def launch(jobs: list[Job], folder: Path, num_processes: int = 2) -> str:
    """Run `jobs` in one group of processes.

    Returns:
        What all processes write to stderr.

    Raises:
        RuntimeError: A process failed.
    """
    arguments = []
    for number, (recipe, resume, interrupted_step) in enumerate(jobs):
        path = folder / f"recipe-{number}.yaml"
        path.write_text(yaml.safe_dump(to_dict(recipe)))
        arguments.append((str(path), resume, interrupted_step))
    environment = {
        **os.environ,
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(find_free_port()),
        "WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": "1",
    }
    group = [
        subprocess.Popen(
            [sys.executable, __file__, json.dumps(arguments)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_processes)
    ]
    outputs = [process.communicate(timeout=200)[1] for process in group]
    for process, output in zip(group, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(output)
    return "".join(outputs)


def find_free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run_jobs(jobs: list[tuple[str, bool, int]]) -> None:
    """Run `jobs`, whose recipes are files, in one process of the group."""
    with process_group():
        for recipe, resume, interrupted_step in jobs:
            with pytest.MonkeyPatch.context() as patch:
                if interrupted_step > 0 and rank() == 1:
                    interrupt_at(patch, interrupted_step)
                elif interrupted_step < 0 and rank() == 0:
                    block_log_at(patch, -interrupted_step)
                try:
                    train(recipe, resume=resume, show_progress=False)
                except (Interrupted, CutlineError) as error:
                    sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    run_jobs(json.loads(sys.argv[1]))
