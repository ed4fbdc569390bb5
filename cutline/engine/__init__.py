"""Engines: ways to run a model fast on one device, with the same results."""

from cutline.engine.cuda_graph import CudaGraphStep
from cutline.engine.prepare import prepare_model

__all__ = ["CudaGraphStep", "prepare_model"]
