"""Training networks of matchers that are small enough for tests, with large random weights."""

from typing import TypeVar

import torch
from tiny_model import make_config

from cutline.config import MatchConfig
from cutline.model import MatchTrainingModel, PretrainModel

ENC, DEC = 30, 29


def make_network(negative_all_rank: bool = False) -> MatchTrainingModel:
    """Return the network of a matcher, without dropout."""
    config = MatchConfig.from_caption_config(make_config(), projection_dim=8)
    torch.manual_seed(3)
    return enlarge_weights(MatchTrainingModel(config, ENC, negative_all_rank))


def make_pretrain_network() -> PretrainModel:
    """Return the network of a captioner and a matcher, without dropout."""
    config = MatchConfig.from_caption_config(make_config(), projection_dim=8)
    torch.manual_seed(3)
    return enlarge_weights(PretrainModel(config, ENC, DEC))


N = TypeVar("N", bound=torch.nn.Module)


def enlarge_weights(network: N) -> N:
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    return network
