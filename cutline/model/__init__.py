"""The networks: PyTorch modules that map tensors to tensors, without tokenizer or files."""

from cutline.model.cache import KeysValues
from cutline.model.caption import CaptionLoss, CaptionModel, make_lm_labels
from cutline.model.match import MatchModel, match_probability
from cutline.model.match_training import MatchLoss, MatchTrainingModel
from cutline.model.pretraining import (
    PretrainLoss,
    PretrainModel,
    join_pretrained,
    split_pretrained,
)
from cutline.model.vision import interpolate_pos_embed
from cutline.model.vision_text import VisionTextModel

__all__ = [
    "CaptionLoss",
    "CaptionModel",
    "KeysValues",
    "MatchLoss",
    "MatchModel",
    "MatchTrainingModel",
    "PretrainLoss",
    "PretrainModel",
    "VisionTextModel",
    "interpolate_pos_embed",
    "join_pretrained",
    "make_lm_labels",
    "match_probability",
    "split_pretrained",
]
