"""Training networks of matchers that are small enough for tests, with large random weights."""

import torch
from random_captioner import enlarge_weights
from tiny_model import make_config

from cutline.config import MatchConfig
from cutline.model import MatchTrainingModel, PretrainModel

ENC, DEC = 30, 29


def make_network(negative_all_rank: bool = False) -> MatchTrainingModel:
    """Return the network of a matcher, without dropout."""
    config = MatchConfig.from_caption_config(make_config(), projection_dim=8)
    torch.manual_seed(3)
    return enlarge_weights(MatchTrainingModel(config, ENC, negative_all_rank), std=0.3)


def make_pretrain_network() -> PretrainModel:
    """Return the network of a captioner and a matcher, without dropout."""
    config = MatchConfig.from_caption_config(make_config(), projection_dim=8)
    torch.manual_seed(3)
    return enlarge_weights(PretrainModel(config, ENC, DEC), std=0.3)
