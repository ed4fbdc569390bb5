"""Engines: faster ways to run a model for inference on one device."""

from cutline.engine.cuda_graph import CudaGraphStep
from cutline.engine.prepare import prepare_model

__all__ = ["CudaGraphStep", "prepare_model"]
