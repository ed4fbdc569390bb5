"""What only a fresh process can write_outputs: how long the first caption takes, and how much memory a batch needs.

Run as a script, this is such a process: it captions what its only argument says, and writes one line of JSON.
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
from peers import Runner, Search, load_peer


def measure_starts(runner: Runner, folder: Path, pictures: Path) -> dict[str, Any]:
    """Seconds from the start of a process to its first caption: with empty caches, and once more with what that left in them."""
    with tempfile.TemporaryDirectory() as caches:
        first, second = (_run(runner, folder, pictures, 1, Path(caches)) for _ in range(2))
    missing = first.get("not_available") or second.get("not_available")
    return (
        {"not_available": missing}
        if missing
        else {"cold": first["seconds"], "warm": second["seconds"]}
    )


def measure_memory(
    runner: Runner, folder: Path, pictures: Path, batch: int, caches: Path
) -> dict[str, Any]:
    """MiB resident after loading, at most while loading, and at most when a batch was captioned."""
    found = _run(runner, folder, pictures, batch, caches)
    return {name: value for name, value in found.items() if name != "seconds"}


def _run(runner: Runner, folder: Path, pictures: Path, batch: int, caches: Path) -> dict[str, Any]:
    """What the process says, and after how many seconds."""
    task = {
        "runner": asdict(runner),
        "folder": str(folder),
        "images": str(pictures),
        "batch": batch,
        "length": 20 if batch == 1 else 8,
    }  # the most memory is taken early
    # TMPDIR, too: it is where PyTorch's compiler keeps its caches unless told otherwise
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
    """Load a captioner, caption one batch, and say what memory it took."""
    pictures = list(np.load(task["images"], mmap_mode="r")[: task["batch"]])
    peer = load_peer(Runner(**task["runner"]), Path(task["folder"]))
    loaded, loading_peak = memory_mib("VmRSS"), memory_mib("VmHWM")
    peer.caption(peer.prepare(pictures), task["batch"], Search(length=task["length"]))
    return {"loaded_mib": loaded, "loading_peak_mib": loading_peak, "peak_mib": memory_mib("VmHWM")}


def memory_mib(field: str) -> float:
    """VmRSS, resident now, or VmHWM, the most so far; where the system does not write_outputs them, `ru_maxrss` for both.

    Linux hands `ru_maxrss` of the parent down to its children, so that it would write_outputs the size of the wrong process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields[field].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def main() -> None:
    """Answer in one line of JSON, as soon as the captions are there."""
    from cutline.errors import CutlineError

    try:
        answer = caption_once(json.loads(sys.argv[1]))
    except (CutlineError, ImportError) as error:
        answer = {"not_available": " ".join(str(error).split())}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
