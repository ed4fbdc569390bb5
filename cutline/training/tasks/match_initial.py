"""Where the weights of a matcher come from when its training starts."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from cutline.checkpoint import load_checkpoint, load_matcher_checkpoint
from cutline.config import MatchConfig, Recipe
from cutline.data import Sample
from cutline.errors import blame_setting
from cutline.model import MatchTrainingModel
from cutline.tokenizer import Tokenizer
from cutline.training.tasks.initial import (
    init_config,
    load_pretrained_encoders,
    log_extra_weights,
    log_loaded,
)

TEMPERATURE = "temperature"
"""weight of the training network that is a setting of the matcher"""


def init_match_config(
    recipe: Recipe, train: Sequence[Sample]
) -> tuple[MatchConfig, Tokenizer, dict[str, Tensor]]:
    """Return the settings of the new matcher, its vocabulary, and weights to start from.

    Args:
        recipe: What to start from: a matcher, a captioner, pretrained encoders or random weights.
        train: Training samples, for a vocabulary that is trained on their captions.
    """
    with blame_setting("model", recipe.setting_names):
        return _load_start(recipe, train)


def _load_start(
    recipe: Recipe, train: Sequence[Sample]
) -> tuple[MatchConfig, Tokenizer, dict[str, Tensor]]:
    init = recipe.init
    if init.matcher:
        matcher = load_matcher_checkpoint(init.matcher, **init.arguments, partial=True)
        log_extra_weights(init.matcher, matcher.extra_weights)
        return override_match_config(recipe, matcher.config), matcher.tokenizer, matcher.weights
    if init.captioner:
        captioner = load_checkpoint(init.captioner, **init.arguments, partial=True)
        log_extra_weights(init.captioner, captioner.extra_weights)
        config = MatchConfig.from_caption_config(captioner.config)
        return override_match_config(recipe, config), captioner.tokenizer, captioner.weights
    sizes, tokenizer = init_config(recipe, train)
    return MatchConfig.from_caption_config(sizes), tokenizer, {}


def override_match_config(recipe: Recipe, config: MatchConfig) -> MatchConfig:
    """Return `config` with the dropout and drop path of the recipe."""
    return replace(
        config,
        vision=recipe.model.override_vision(config.vision),
        text=recipe.model.override_text(config.text),
    )


def load_match_weights(
    recipe: Recipe, model: MatchTrainingModel, weights: dict[str, Tensor]
) -> None:
    """Load `weights` into `model`, of a captioner those that a matcher has, or encoders."""
    if not weights:
        load_pretrained_encoders(recipe, model)
        return
    names = [name for name in model.state_dict() if name != TEMPERATURE]
    used = {name: weights[name] for name in names if name in weights}
    model.load_state_dict(used, strict=False)
    if recipe.init.captioner:
        new = [name for name in names if name not in used]
        log_loaded(recipe.init.captioner, len(used), new)
