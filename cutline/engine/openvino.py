"""The vision encoder in OpenVINO, whose compiled form is cached on disk."""

import sys
from copy import deepcopy
from importlib import import_module
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from cutline.engine.compiled import (
    CompiledVision,
    RunGraph,
    export_vision,
    fingerprint_vision,
    graph_dependencies,
    graph_path,
    load_or_build,
    silence_torch,
)
from cutline.errors import ConfigError
from cutline.model.vision import VisionTransformer

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


def compile_with_openvino(vision: VisionTransformer, precision: str) -> nn.Module:
    """Compile the encoder for the CPU; the result has its own copy of the weights.

    Args:
        vision: The encoder.
        precision: "fp32" or "bf16"; a CPU without native bf16 computes in fp32 in either case.

    Raises:
        ConfigError: OpenVINO is not installed, or the cache directory cannot be created.
    """
    openvino = import_openvino()
    num_threads = torch.get_num_threads()
    path = graph_path(
        "openvino",
        ".blob",
        openvino.__version__,
        precision,
        num_threads,
        fingerprint_vision(vision),
        *graph_dependencies(vision),
    )
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads,
    }
    graph = load_or_build(
        path,
        load=lambda file: load_graph(file, settings),
        build=lambda file: convert_to_openvino(vision, settings, file),
    )
    return CompiledVision(vision.config, graph)


def import_openvino() -> Any:
    """Import the package without its telemetry.

    Raises:
        ConfigError: OpenVINO is not installed.
    """
    # Without this, OpenVINO reports its use over the network.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    except ImportError:
        raise ConfigError(
            'engine "openvino" needs OpenVINO, which is not installed: '
            "pip install 'cutline[openvino]'"
        ) from None


def convert_to_openvino(vision: VisionTransformer, settings: dict[str, Any], file: Path) -> None:
    """Write the compiled form of the encoder, weights included, to `file`."""
    openvino = import_openvino()
    exported = export_vision(deepcopy(vision).float())  # the settings decide the precision
    with silence_torch():
        model = openvino.convert_model(exported)
    compiled = BytesIO()
    openvino.Core().compile_model(model, "CPU", settings).export_model(compiled)
    file.write_bytes(compiled.getbuffer())


def load_graph(file: Path, settings: dict[str, Any]) -> RunGraph:
    """Load a compiled encoder, which any number of threads may call at the same time."""
    graph = import_openvino().Core().import_model(file.read_bytes(), "CPU", settings)
    # All calls of a graph share its buffers. They run one by one, since each uses all cores.
    lock = Lock()

    def run_graph(pixel_values: Tensor) -> Tensor:
        inputs = pixel_values.float().numpy()
        with lock:
            outputs = graph([inputs])[0]  # a copy
        return torch.from_numpy(outputs).to(pixel_values.dtype)

    return run_graph
