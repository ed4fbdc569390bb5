"""Train recipes, one after another, in a group of processes that `launch` starts."""

import os
import socket
import sys
from pathlib import Path

import pytest
import torch
import yaml
from forked import start
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
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(find_free_port()),
        "WORLD_SIZE": str(num_processes),
    }
    outputs = [folder / f"stderr-{number}" for number in range(num_processes)]
    group = [
        start(run_jobs, arguments, environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, path)
        for rank, path in enumerate(outputs)
    ]
    for process in group:
        process.join(200)
        process.kill()
        process.join()
    for process, path in zip(group, outputs, strict=True):
        if process.exitcode:
            raise RuntimeError(path.read_text())
    return "".join(path.read_text() for path in outputs)


def find_free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run_jobs(jobs: list[tuple[str, bool, int]], environment: dict[str, str], path: Path) -> None:
    """Run `jobs`, whose recipes are files, in one process of the group.

    Args:
        jobs: The jobs.
        environment: What tells the process its place in the group.
        path: File for stderr.
    """
    os.environ.update(environment)
    torch.set_num_threads(1)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
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
