"""Running a model as fast as the processor allows; the numbers stay the same."""

from cutline.engine.cuda_graph import CudaGraphStep
from cutline.engine.prepare import prepare_model

__all__ = ["CudaGraphStep", "prepare_model"]
