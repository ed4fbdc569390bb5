"""The image encoder in OpenVINO's runtime, its compiled form kept on disk."""

import sys
from copy import deepcopy
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cutline.engine.compiled import (
    CompiledVision,
    Run,
    export_vision,
    fingerprint_vision,
    graph_file,
    graph_parts,
    kept,
    quiet_torch,
)
from cutline.errors import ConfigError
from cutline.model.vision import VisionTransformer

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def openvino_vision(vision: VisionTransformer, precision: str) -> nn.Module:
    """`vision` for the CPU; it keeps weights of its own, so that those of `vision` can be dropped.

    precision: fp32 or bf16, of the products; a processor without units for bf16 computes in fp32 all the same.

    Raises:
        ConfigError: OpenVINO is missing, or there is no folder to keep the compiled form in.
    """
    openvino = import_openvino()
    parts = (
        openvino.__version__,
        precision,
        torch.get_num_threads(),
        fingerprint_vision(vision),
        *graph_parts(vision),
    )
    path = graph_file("openvino", ".blob", *parts)
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return CompiledVision(
        vision.config,
        kept(
            path,
            lambda file: load_graph(file, settings),
            lambda file: convert_to_openvino(vision, settings, file),
        ),
    )


def import_openvino() -> Any:
    """The package. Raises ConfigError where it is missing."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # else it reports every use over the network, unasked
    try:
        return import_module("openvino")
    except ImportError:
        raise ConfigError(
            "the engine \"openvino\" needs a package that is not here: pip install 'cutline[openvino]'"
        ) from None


def convert_to_openvino(vision: VisionTransformer, settings: dict[str, Any], file: Path) -> None:
    """Write the compiled form of `vision`, weights included, to `file`."""
    openvino = import_openvino()
    exported = export_vision(
        deepcopy(vision).float()
    )  # OpenVINO takes the precision from its settings
    with quiet_torch():
        model = openvino.convert_model(exported)
    compiled = BytesIO()
    openvino.Core().compile_model(model, "CPU", settings).export_model(compiled)
    file.write_bytes(compiled.getbuffer())


def load_graph(file: Path, settings: dict[str, Any]) -> Run:
    """The compiled form in `file`, (B, 3, S, S) -> (B, N, D)."""
    graph = import_openvino().Core().import_model(file.read_bytes(), "CPU", settings)

    def run(pixel_values: Tensor) -> Tensor:
        return torch.from_numpy(graph([pixel_values.float().numpy()])[0]).to(pixel_values.dtype)

    return run
