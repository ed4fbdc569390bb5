"""Measure what needs a new process: time to the first caption, and memory of a batch.

Run as a script, it is such a process: it captions the images that its only argument names, and
prints one line of JSON.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from runners import Runner, Search, load_runner


def measure_starts(runner: Runner, folder: Path, images: Path) -> dict[str, Any]:
    """Return the seconds from process start to first caption, with empty and with filled caches."""
    with tempfile.TemporaryDirectory() as caches:
        first, second = (_run(runner, folder, images, 1, Path(caches)) for _ in range(2))
    missing = first.get("not_available") or second.get("not_available")
    return (
        {"not_available": missing}
        if missing
        else {"cold": first["seconds"], "warm": second["seconds"]}
    )


def measure_memory(
    runner: Runner, folder: Path, images: Path, batch: int, caches: Path
) -> dict[str, Any]:
    """Return resident MiB after loading, and the peaks of loading and of captioning a batch."""
    answer = _run(runner, folder, images, batch, caches)
    return {name: value for name, value in answer.items() if name != "seconds"}


def _run(runner: Runner, folder: Path, images: Path, batch: int, caches: Path) -> dict[str, Any]:
    """Return the answer of a new process, and its seconds."""
    task = {
        "runner": asdict(runner),
        "folder": str(folder),
        "images": str(images),
        "batch": batch,
        "length": 20 if batch == 1 else 8,
    }  # memory peaks early
    # TMPDIR too: by default, PyTorch's compiler has its cache there
    environment = {
        name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"
    }
    environment |= {"CUTLINE_CACHE": str(caches), "TMPDIR": str(caches)}
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, json.dumps(task)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start
    if not line:
        return {"not_available": f"its process ended with code {process.returncode}"}
    return {**json.loads(line), "seconds": seconds}


def caption_once(task: dict[str, Any]) -> dict[str, Any]:
    """Load a captioner, caption one batch, and return the memory."""
    images = list(np.load(task["images"], mmap_mode="r")[: task["batch"]])
    runner = load_runner(Runner(**task["runner"]), Path(task["folder"]))
    loaded_mib, loading_peak_mib = memory_mib("VmRSS"), memory_mib("VmHWM")
    runner.caption(runner.prepare(images), task["batch"], Search(length=task["length"]))
    return {
        "loaded_mib": loaded_mib,
        "loading_peak_mib": loading_peak_mib,
        "peak_mib": memory_mib("VmHWM"),
    }


def memory_mib(field: str) -> float:
    """Return VmRSS (resident now) or VmHWM (peak) in MiB; without /proc, `ru_maxrss` for both.

    On Linux a process inherits the `ru_maxrss` of its parent, so it cannot be used there.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields[field].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def main() -> None:
    """Print the answer as one line of JSON."""
    from cutline.errors import CutlineError

    try:
        answer = caption_once(json.loads(sys.argv[1]))
    except (CutlineError, ImportError) as error:
        answer = {"not_available": " ".join(str(error).split())}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
