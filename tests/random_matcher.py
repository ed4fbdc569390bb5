"""Matchers with random weights, which fit the captioner of `random_captioner`."""

from dataclasses import replace
from pathlib import Path

import torch
from random_captioner import enlarge_weights, make_captioner

from cutline.captioner import Captioner
from cutline.checkpoint import Checkpoint, save_native
from cutline.config import MatchConfig
from cutline.matcher import Matcher
from cutline.model import MatchModel


def make_matcher(image_size: int = 32, encoder_of: Captioner | None = None) -> Matcher:
    """Make a small matcher with weights so large that texts differ in probability.

    Args:
        image_size: Its image size in pixels.
        encoder_of: A captioner whose vision encoder it gets a copy of.
    """
    captioner = encoder_of or make_captioner()
    vision = replace(captioner.config.vision, image_size=image_size)
    config = MatchConfig(vision, captioner.config.text, captioner.config.image, projection_dim=16)
    torch.manual_seed(2)
    model = enlarge_weights(MatchModel(config))
    if encoder_of:
        model.vision.load_state_dict(encoder_of.model.vision.state_dict())
    return Matcher(model, captioner.tokenizer, "cpu", "fp32")


def save_matcher(
    folder: Path, image_size: int = 32, encoder_of: Captioner | None = None
) -> Matcher:
    """Save a matcher of `make_matcher` to a folder, and return it."""
    matcher = make_matcher(image_size, encoder_of)
    weights = matcher.model.state_dict()
    save_native(folder, Checkpoint(matcher.config, weights, matcher.tokenizer))
    return matcher
