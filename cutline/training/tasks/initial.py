"""Initial weights and vocabularies that all tasks share."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from cutline.checkpoint import load_pretrained_text, load_pretrained_vision
from cutline.config import CaptionConfig, Recipe
from cutline.data import Sample
from cutline.errors import blame_setting
from cutline.model import VisionTextModel
from cutline.tokenizer import Tokenizer, clean_caption

logger = logging.getLogger(__name__)


def init_config(
    recipe: Recipe, train: Sequence[Sample], has_prompts: bool = False
) -> tuple[CaptionConfig, Tokenizer]:
    """Return the settings of a new model, and its vocabulary.

    Args:
        recipe: Settings, and the vocabulary or its maximum size.
        train: Training samples, for a vocabulary that is trained on their captions.
        has_prompts: Whether captions have prompts.
    """
    config, path = recipe.model.to_config(), recipe.init.tokenizer
    prompt = config.prompt if has_prompts else None
    with blame_setting("tokenizer" if path else "train", recipe.setting_names):
        tokenizer = Tokenizer.load(path) if path else train_tokenizer(recipe, train, prompt)
    return replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size)), tokenizer


def train_tokenizer(recipe: Recipe, train: Sequence[Sample], prompt: str | None) -> Tokenizer:
    """Train a vocabulary on the training captions, each after its prompt, as the model reads it.

    Args:
        recipe: Maximum size, and how captions are cleaned.
        train: Training samples.
        prompt: Prompt of the samples without one of their own; None if no text has a prompt.
    """
    data = recipe.data
    texts = (
        f"{'' if prompt is None else sample.prompt_or(prompt)} "
        f"{clean_caption(caption, data.clean, data.max_words)}"
        for sample in train
        for caption in sample.captions
    )
    return Tokenizer.train(texts, recipe.init.vocab_size)


def load_pretrained_encoders(recipe: Recipe, model: VisionTextModel) -> None:
    """Load the recipe's pretrained vision encoder and BERT into `model`, and log what they gave."""
    for name, load in (("vision", load_pretrained_vision), ("text", load_pretrained_text)):
        if path := getattr(recipe.init, name):
            with blame_setting(name, recipe.setting_names):
                report = load(model, path)
            log_loaded(path, report.loaded, report.initialized)
            logger.info("  unused: %s", ", ".join(report.unused) or "none")


def log_loaded(path: str, count: int, initialized: Sequence[str]) -> None:
    """Log how many weights a pretrained model provided, and which are random."""
    logger.info("%s: %d weights loaded", path, count)
    logger.info("  randomly initialized: %s", ", ".join(initialized) or "none")


def log_extra_weights(path: str, names: Sequence[str]) -> None:
    """Log the weights of a checkpoint that the model does not have."""
    if names:
        logger.info("%s: unused: %s", path, ", ".join(names))
