"""Engines: faster ways to run a model for inference on one device."""

from cutline.engine.cuda_graph import CudaGraphStep
from cutline.engine.prepare import prepare_model, resolve_engine
from cutline.engine.threads import choose_num_threads, choose_text_threads, limit_threads

__all__ = [
    "CudaGraphStep",
    "choose_num_threads",
    "choose_text_threads",
    "limit_threads",
    "prepare_model",
    "resolve_engine",
]
