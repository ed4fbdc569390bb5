"""Where the weights of a captioner and a matcher come from when their pre-training starts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from cutline.checkpoint import find_kinds, load_checkpoint, load_matcher_checkpoint
from cutline.config import MatchConfig, Recipe
from cutline.data import Sample
from cutline.errors import blame_setting
from cutline.model import CaptionModel, PretrainModel, join_pretrained
from cutline.tokenizer import Tokenizer
from cutline.training.tasks.initial import init_config, load_pretrained_encoders, log_loaded
from cutline.training.tasks.match_initial import TEMPERATURE, override_match_config


@dataclass(frozen=True)
class PretrainStart:
    """What pre-training starts from."""

    config: MatchConfig
    tokenizer: Tokenizer
    captioner: Mapping[str, Tensor] = field(default_factory=dict)
    """weights of a captioner, if there are any"""
    matcher: Mapping[str, Tensor] = field(default_factory=dict)
    """weights of a matcher, if there are any"""


def init_pretraining(recipe: Recipe, train: Sequence[Sample]) -> PretrainStart:
    """Load a captioner, a matcher, or both if a path has both; else encoders, or nothing.

    Args:
        recipe: What to start from.
        train: Training samples, for a vocabulary that is trained on their captions.
    """
    if not recipe.init.model:
        return _init_encoders(recipe, train)
    with blame_setting("model", recipe.setting_names):
        return _load_models(recipe)


def _load_models(recipe: Recipe) -> PretrainStart:
    path, arguments = recipe.init.model, recipe.init.arguments
    kinds = [kind.name for kind in find_kinds(path)]
    start = None
    if "captioner" in kinds:
        captioner = load_checkpoint(path, **arguments, partial=True)
        config = MatchConfig.from_caption_config(captioner.config)
        start = PretrainStart(config, captioner.tokenizer, captioner=captioner.weights)
    if "matcher" in kinds or start is None:
        matcher = load_matcher_checkpoint(path, **arguments, partial=True)
        weights = start.captioner if start else {}
        start = PretrainStart(matcher.config, matcher.tokenizer, weights, matcher.weights)
    return replace(start, config=override_match_config(recipe, start.config))


def _init_encoders(recipe: Recipe, train: Sequence[Sample]) -> PretrainStart:
    """Load a vision encoder and a BERT, which both text encoder and decoder start from."""
    config, tokenizer = init_config(recipe, train)
    start = PretrainStart(MatchConfig.from_caption_config(config), tokenizer)
    if not (recipe.init.vision or recipe.init.text):
        return start
    model = CaptionModel(config)
    load_pretrained_encoders(recipe, model)
    return replace(start, captioner=model.state_dict())


def load_start(recipe: Recipe, model: PretrainModel, start: PretrainStart) -> None:
    """Load what pre-training starts from into the new network, and log what is random."""
    weights = join_pretrained(model, start.captioner, start.matcher)
    model.load_state_dict(weights, strict=False)
    if recipe.init.model:
        new = [name for name in model.state_dict() if name not in weights and name != TEMPERATURE]
        log_loaded(recipe.init.model, len(weights), new)
