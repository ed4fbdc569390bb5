"""The networks: PyTorch modules that map tensors to tensors, without tokenizer or files."""

from cutline.model.caption import CaptionLoss, CaptionModel, make_lm_labels
from cutline.model.match import MatchModel, match_probability
from cutline.model.match_training import MatchLoss, MatchTrainingModel
from cutline.model.vision import interpolate_pos_embed
from cutline.model.vision_text import VisionTextModel

__all__ = [
    "CaptionLoss",
    "CaptionModel",
    "MatchLoss",
    "MatchModel",
    "MatchTrainingModel",
    "VisionTextModel",
    "interpolate_pos_embed",
    "make_lm_labels",
    "match_probability",
]
