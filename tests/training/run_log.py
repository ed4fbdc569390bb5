"""What two runs have in common if they are equal."""

from pathlib import Path

from cutline.config import Recipe
from cutline.training import read_log


def read_numbers(run: Recipe) -> list[dict[str, object]]:
    """Return the lines of the log without speed and memory."""
    return [
        {name: value for name, value in line.items() if "_per_" not in name and name != "memory_gb"}
        for line in read_log(Path(run.output) / "log.jsonl")
    ]
