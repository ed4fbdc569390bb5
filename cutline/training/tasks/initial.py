"""Initial weights and vocabularies that all tasks share."""

import logging
from collections.abc import Sequence

from cutline.checkpoint import LoadReport, load_pretrained_text, load_pretrained_vision
from cutline.config import Recipe
from cutline.data import Sample
from cutline.model import VisionTextModel
from cutline.tokenizer import Tokenizer, clean_caption

logger = logging.getLogger(__name__)


def load_vocabulary(recipe: Recipe, train: Sequence[Sample], prompt: str | None) -> Tokenizer:
    """Load the recipe's vocabulary, or train one on the training captions.

    Args:
        recipe: Vocabulary, or its maximum size.
        train: Training samples.
        prompt: Prompt of the samples without one of their own; None if no text has a prompt.
    """
    path = recipe.init.tokenizer
    return Tokenizer.load(path) if path else train_tokenizer(recipe, train, prompt)


def train_tokenizer(recipe: Recipe, train: Sequence[Sample], prompt: str | None) -> Tokenizer:
    """Train a vocabulary on the training captions, each after its prompt, as the model reads it."""
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
    init = recipe.init
    for path, load in ((init.vision, load_pretrained_vision), (init.text, load_pretrained_text)):
        if path:
            log_report(path, load(model, path))


def log_report(path: str, report: LoadReport) -> None:
    """Log which weights a pretrained model provided."""
    logger.info("%s: %d weights loaded", path, report.loaded)
    logger.info("  randomly initialized: %s", ", ".join(report.initialized) or "none")
    logger.info("  unused: %s", ", ".join(report.unused) or "none")


def log_extra_weights(path: str, names: Sequence[str]) -> None:
    """Log the weights of a checkpoint that the model does not have."""
    if names:
        logger.info("%s: unused: %s", path, ", ".join(names))
