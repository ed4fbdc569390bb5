"""The networks: plain PyTorch modules that know tensors and nothing else."""

from cutline.model.caption import CaptionLoss, CaptionModel, lm_labels
from cutline.model.vision import interpolate_positions

__all__ = ["CaptionLoss", "CaptionModel", "interpolate_positions", "lm_labels"]
