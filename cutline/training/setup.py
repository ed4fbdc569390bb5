"""From a recipe to what a run needs: data, vocabulary, model."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cutline.checkpoint import (
    build_model,
    load_checkpoint,
    load_pretrained_text,
    load_pretrained_vision,
)
from cutline.config import CaptionConfig, Columns, Recipe
from cutline.data import Sample, is_shards, open_data, split_by_image
from cutline.errors import ConfigError, DataError
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer, clean_caption
from cutline.training.data.dataset import CaptionDataset, encode_captions
from cutline.training.data.stream import ShardDataset

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSetup:
    """A run about to begin."""

    model: CaptionModel
    tokenizer: Tokenizer
    rows: CaptionDataset | ShardDataset
    train: list[Sample]
    val: list[Sample]


def prepare_run(recipe: Recipe) -> RunSetup:
    """Read the data, find or make the vocabulary, build the model with its starting weights.

    Raises CutlineError, naming the file or setting, for whatever does not fit.
    """
    train, val = read_samples(recipe)
    torch.manual_seed(recipe.seed)
    model, tokenizer = init_model(recipe, train)
    if recipe.data.max_tokens > model.config.text.max_positions:
        raise ConfigError(
            f"max_tokens {recipe.data.max_tokens} is above the {model.config.text.max_positions} positions of the model: lower it"
        )
    if recipe.generation.max_length > model.config.text.max_positions:
        raise ConfigError(
            f"generation.max_length {recipe.generation.max_length} is above the {model.config.text.max_positions} positions "
            "of the model: lower it"
        )
    rows = (
        make_dataset(recipe, train, tokenizer, model.config, recipe.data.augment)
        if train
        else make_stream(recipe, tokenizer, model.config)
    )
    return RunSetup(model, tokenizer, rows, train, val)


def make_dataset(
    recipe: Recipe,
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    config: CaptionConfig,
    augmented: bool,
) -> CaptionDataset:
    """The rows of `samples` as `recipe` wants them."""
    captions = encode_captions(samples, tokenizer, recipe.data, config.prompt)
    return CaptionDataset(
        samples, captions, config.vision.image_size, recipe.data, recipe.seed, augmented
    )


def make_stream(recipe: Recipe, tokenizer: Tokenizer, config: CaptionConfig) -> ShardDataset:
    """The rows that flow from the recipe's shards."""
    return ShardDataset(
        recipe.data, tokenizer, config.prompt, config.vision.image_size, recipe.seed
    )


def read_samples(recipe: Recipe) -> tuple[list[Sample], list[Sample]]:
    """Training and validation samples; without validation data a share of the training images is set apart.

    Training samples that are streamed are not among them.
    """
    data = recipe.data
    if not data.train:
        raise ConfigError(
            "the recipe names no training data: set `data.train`, or pass --data.train PATH"
        )
    if data.stream and not is_shards(data.train):
        raise ConfigError(
            f"{data.train}: `data.stream` is for tar shards; leave it off for other data"
        )
    if data.stream and (data.columns != Columns() or data.train_split or data.image_root):
        raise ConfigError(
            f"{data.train}: a stream of shards has no columns, splits or image_root; leave these settings out"
        )
    train = (
        []
        if data.stream
        else open_data(data.train_source)
    )
    if not data.stream and not any(sample.captions for sample in train):
        raise DataError(f"{data.train}: no image has a caption to learn from")
    if data.val or data.val_split:
        val = open_data(data.val_source)
        val = [sample for sample in val if sample.captions]
        if not val:
            raise DataError(
                f"{data.val or data.train}: no validation image has a caption to compare with"
            )
    elif data.val_fraction:
        train, val = split_by_image(train, data.val_fraction, recipe.seed)
    else:
        val = []
    val = [sample for sample in val if sample.captions]
    return train, val[: recipe.eval.max_images or None]


def init_model(recipe: Recipe, train: Sequence[Sample]) -> tuple[CaptionModel, Tokenizer]:
    """Build the model that training starts from, and its tokenizer."""
    init = recipe.init
    if init.captioner:
        return load_captioner(recipe)
    tokenizer = Tokenizer.load(init.tokenizer) if init.tokenizer else train_tokenizer(recipe, train)
    config = recipe.model.to_config()
    config = replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size))
    model = CaptionModel(config)
    encoders = ((init.vision, load_pretrained_vision), (init.text, load_pretrained_text))
    for path, load in encoders:
        if path:
            report = load(model, path)
            logger.info("%s: %d weights taken", path, report.loaded)
            logger.info("  initialised: %s", ", ".join(report.initialized) or "nothing")
            logger.info("  left over: %s", ", ".join(report.unused) or "nothing")
    return model, tokenizer


def load_captioner(recipe: Recipe) -> tuple[CaptionModel, Tokenizer]:
    """Load the captioner to fine-tune, with the recipe's prompt and regularization."""
    init = recipe.init
    checkpoint = load_checkpoint(
        init.captioner,
        init.config or None,
        init.tokenizer or None,
        init.image_size or None,
        partial=True,
    )
    if checkpoint.extra_weights:
        logger.info("%s: left over: %s", init.captioner, ", ".join(checkpoint.extra_weights))
    checkpoint = replace(checkpoint, config=recipe.model.override(checkpoint.config))
    return build_model(checkpoint), checkpoint.tokenizer


def train_tokenizer(recipe: Recipe, train: Sequence[Sample]) -> Tokenizer:
    """Learn a vocabulary from the training captions with their prompts, as the model reads them."""
    data, prompt = recipe.data, recipe.model.to_config().prompt
    texts = (
        f"{prompt if sample.prompt is None else sample.prompt} {clean_caption(caption, data.clean, data.max_words)}"
        for sample in train
        for caption in sample.captions
    )
    return Tokenizer.train(texts, recipe.init.vocab_size)
