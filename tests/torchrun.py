"""Run a command in several processes, as `torchrun` does."""

import os
import socket
import subprocess
import sys


def launch_command(
    arguments: list[str], num_processes: int
) -> list[subprocess.CompletedProcess[str]]:
    """Run `cutline ARGUMENTS…` in a group of processes, as `torchrun` does.

    Returns:
        the processes, in the order of their ranks.
    """
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    variables = {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(num_processes),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "cutline", *arguments],
            env={**os.environ, **variables, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_processes)
    ]
    outputs = [process.communicate(timeout=200) for process in processes]
    return [
        subprocess.CompletedProcess(arguments, process.returncode, *output)
        for process, output in zip(processes, outputs, strict=True)
    ]
