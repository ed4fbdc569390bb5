"""What two runs have in common if they are equal."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from cutline.config import Recipe
from cutline.training import read_log


def read_numbers(run: Recipe) -> list[dict[str, object]]:
    """Return the lines of the log without speed and memory."""
    return [
        {name: value for name, value in line.items() if "_per_" not in name and name != "memory_gb"}
        for line in read_log(Path(run.output) / "log.jsonl")
    ]


def assert_equal_files(first: Recipe, second: Recipe, *names: str) -> None:
    """Compare the tensors in files of two runs, bit for bit."""
    for name in names:
        expected, actual = (load_file(Path(run.output) / name) for run in (first, second))
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[key], actual[key]) for key in expected)
