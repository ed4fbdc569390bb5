"""New processes that need not import torch, because they are forked from one that has."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


def start(target: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseProcess:
    """Call `target` in a new process, forked from one that has imported torch where possible."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["cutline.training", "cutline.bulk.collection", "cutline.cli"])
    process: BaseProcess = context.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    return process


def start_command(words: list[str]) -> BaseProcess:
    """Run `cutline WORDS…` in a new process, which stop signals reach as in a terminal."""
    return start(_main, words)


def _main(words: list[str]) -> None:
    import signal

    import torch

    from cutline.cli import main
    from cutline.interrupt import STOP_SIGNALS

    torch.set_num_threads(1)
    for number in STOP_SIGNALS:  # which the caller of the tests may ignore, as nohup does
        signal.signal(number, signal.SIG_DFL)
    os.setpgrp()
    main(words)


def run_command(
    words: list[str], cwd: Path | None, stdin: bytes, env: dict[str, str]
) -> subprocess.CompletedProcess[bytes]:
    """Run `cutline WORDS…` in a new process and return its output and exit code."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("stdin", "stdout", "stderr")]
        Path(paths[0]).write_bytes(stdin)
        process = start(_command, words, cwd, env, paths)
        process.join(120)
        process.kill()
        process.join()
        return subprocess.CompletedProcess(
            words, process.exitcode or 0, Path(paths[1]).read_bytes(), Path(paths[2]).read_bytes()
        )


def _command(words: list[str], cwd: Path | None, env: dict[str, str], paths: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    for number, path in enumerate(paths):
        os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT), number)
    # The streams stay open as long as the process lives.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd or os.curdir)
    sys.argv = ["cutline", *words]
    from cutline.cli import main

    main(words)
