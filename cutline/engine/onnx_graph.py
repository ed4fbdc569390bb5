"""`OnnxGraph`: an ONNX graph, run by ONNX Runtime on the CPU."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutline.errors import CheckpointError, ConfigError
from cutline.messages import first_line

_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc")
"""parts of messages of ONNX Runtime"""


class OnnxGraph:
    """An ONNX graph; any number of threads may run it at the same time."""

    def __init__(self, file: Path, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Load a graph.

        Args:
            file: Its file.
            inputs: Names of its inputs, in order.
            outputs: Names of its outputs, in order.

        Raises:
            ConfigError: ONNX Runtime is not installed.
            CheckpointError: The file cannot be read, or has other inputs or outputs.
        """
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised
        try:
            if not file.is_file():
                raise OSError("there is no such file")
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
            found = [[each.name for each in tensors] for tensors in self._list_tensors()]
            if found != [list(inputs), list(outputs)]:
                raise ValueError("it has other inputs and outputs than config.json says")
        except Exception as error:  # ONNX Runtime raises errors of many types
            raise CheckpointError(
                f"{file}: not a readable graph ({first_line(error)}); copy it again, or convert "
                "the model again"
            ) from None
        self._inputs = inputs

    def _list_tensors(self) -> tuple[Any, Any]:
        return self._session.get_inputs(), self._session.get_outputs()

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Return the outputs, given the inputs.

        Raises:
            MemoryError: There is not enough memory.
        """
        arrays = (tensor.contiguous().numpy() for tensor in inputs)
        feeds = dict(zip(self._inputs, arrays, strict=True))
        try:
            return [torch.from_numpy(array) for array in self._session.run(None, feeds)]
        except Exception as error:
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise MemoryError(first_line(error)) from None
            raise


def import_onnxruntime() -> Any:
    """Import the package without its telemetry.

    Raises:
        ConfigError: ONNX Runtime is not installed.
    """
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError:
        raise ConfigError(
            "ONNX graphs need ONNX Runtime, which is not installed: pip install 'cutline[onnx]'"
        ) from None
    onnxruntime.disable_telemetry_events()  # of its Windows builds
    return onnxruntime
