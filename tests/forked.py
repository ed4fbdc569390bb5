"""New processes that need not import torch, because they are forked from one that has."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

FOLDER = str(Path(__file__).parent)
"""where the new processes find the modules of tests that they are to run"""


def start(target: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseProcess:
    """Call `target` in a new process, forked from one that has imported torch where possible."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        start_fork_server()
    process: BaseProcess = context.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    return process


def start_fork_server() -> None:
    """Start the process that others are forked from, with `preloaded`, if none runs."""
    from multiprocessing import forkserver  # which Windows lacks

    forkserver.set_forkserver_preload(["preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FOLDER, prepend=os.pathsep)
        forkserver.ensure_running()


def start_command(words: list[str], log: Path | None = None) -> BaseProcess:
    """Run `cutline WORDS…` in a new process, which stop signals reach as in a terminal.

    Args:
        words: The words.
        log: Gets what it writes to stdout and stderr; by default, these are those of this process.
    """
    return start(_run_in_terminal, words, log)


def _run_in_terminal(words: list[str], log: Path | None) -> None:
    become_foreground()
    if log:
        redirect_output(log)
    run_main(words)


def redirect_output(log: Path) -> None:
    """Let a file get what this process writes to stdout and stderr."""
    with log.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # multiprocessing has replaced stdin, and what is buffered would be lost.
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)


def become_foreground() -> None:
    """Let stop signals reach this process as in a terminal."""
    from cutline.interrupt import STOP_SIGNALS

    for number in STOP_SIGNALS:  # which the caller of the tests may ignore, as nohup does
        signal.signal(number, signal.SIG_DFL)
    os.setpgrp()


def run_main(words: list[str]) -> None:
    """Run `cutline WORDS…` in this process, with one thread, and exit."""
    import torch

    from cutline.cli import main

    torch.set_num_threads(1)
    main(words)


def run_command(
    words: list[str],
    cwd: Path | None,
    stdin: bytes | Path,
    env: dict[str, str],
    stdout: Path | None = None,
    stderr: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `cutline WORDS…` in a new process and return its output and exit code.

    Args:
        words: The words.
        cwd: Its current folder; by default, that of this process.
        stdin: What it reads from stdin, or the file that is its stdin.
        env: Its environment.
        stdout: The file that is its stdout; by default, what it writes there is returned.
        stderr: The same for stderr.
    """
    return _run(
        partial(run_main, words),
        ["cutline", *words],
        cwd,
        env,
        [stdin, stdout or b"", stderr or b""],
    )


def run_script(path: Path, *words: str) -> str:
    """Run `python PATH WORDS…` in a new process and return its output.

    Raises:
        RuntimeError: It failed; the message is what it wrote to stderr.
    """
    target = partial(_run_path, str(path))
    result = _run(target, [str(path), *words], None, {**os.environ}, timeout=600)
    if result.returncode:
        raise RuntimeError(result.stderr.decode())
    return result.stdout.decode()


def run_code(text: str) -> subprocess.CompletedProcess[bytes]:
    """Run `python -c TEXT` in a new process, in the current folder."""
    return _run(partial(_run_text, text), ["-c"], Path.cwd(), {**os.environ})


def find_errors_in_fork(uses: Iterable[Callable[[], object]]) -> list[str]:
    """Call functions in a fork of this process; return the messages of their ConfigErrors.

    The test skips where there is no fork.
    """
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork on this system")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, "\n".join(_find_errors(uses)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        messages = pipe.read().splitlines()
    os.waitpid(child, 0)
    return messages


def _find_errors(uses: Iterable[Callable[[], object]]) -> Iterator[str]:
    from cutline.errors import ConfigError

    for use in uses:
        try:
            use()
        except ConfigError as error:
            yield str(error)


def _run(
    target: Callable[[], None],
    argv: list[str],
    cwd: Path | None,
    env: dict[str, str],
    streams: Sequence[bytes | Path] = (b"", b"", b""),
    timeout: float = 120,
) -> subprocess.CompletedProcess[bytes]:
    """Call `target` in a new process whose streams are files, or have content at first."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            paths.append(stream if isinstance(stream, Path) else Path(folder) / name)
            if not isinstance(stream, Path):
                paths[-1].write_bytes(stream)
        process = start(_redirect, target, argv, cwd, env, paths)
        process.join(timeout)
        process.kill()
        process.join()
        written = [
            b"" if isinstance(stream, Path) else path.read_bytes()
            for stream, path in zip(streams, paths, strict=True)
        ]
        return subprocess.CompletedProcess(argv, process.exitcode or 0, *written[1:])


def _redirect(
    target: Callable[[], None],
    argv: list[str],
    cwd: Path | None,
    env: dict[str, str],
    paths: list[Path],
) -> None:
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
    sys.argv = argv
    target()


def _run_path(path: str) -> None:
    sys.path.insert(0, str(Path(path).parent))
    runpy.run_path(path, run_name="__main__")


def _run_text(text: str) -> None:
    # The text imports what it needs of cutline: another part may only seem to be there.
    for name in [name for name in sys.modules if name.partition(".")[0] == "cutline"]:
        del sys.modules[name]
    exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
