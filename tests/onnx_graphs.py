"""ONNX graphs of golden captioners, made once for all processes of a test run."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from golden_folder import GoldenFolder

from cutline.checkpoint import Checkpoint, GraphPrecision, load_checkpoint
from cutline.config import CaptionConfig

MICRO = GoldenFolder(Path(__file__).parent / "golden" / "salesforce-micro")


def load_golden(folder: GoldenFolder) -> Checkpoint[CaptionConfig]:
    """Load the captioner of a golden folder."""
    return load_checkpoint(folder.checkpoint, folder.config, folder.vocabulary)


def make_graphs(
    factory: pytest.TempPathFactory, golden: GoldenFolder, precision: GraphPrecision = "fp32"
) -> Path:
    """Return a folder of ONNX graphs, which no test may change, beside that of its source."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    from cutline.onnx_export import save_onnx

    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    root = factory.getbasetemp().parent if is_worker else factory.getbasetemp()
    folder = root / f"graphs-{golden.path.name}-{precision}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            save_onnx(folder, load_golden(golden), precision)
    return folder
