"""ONNX graphs of a golden captioner."""

from pathlib import Path

import pytest
from onnx_graphs import MICRO, make_graphs


@pytest.fixture(scope="package")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graphs(tmp_path_factory, MICRO)
