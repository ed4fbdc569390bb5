"""Prepare a run from its recipe: data, vocabulary and model."""

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
from cutline.config import CaptionConfig, Columns, DataConfig, Recipe
from cutline.config.size import count_parameters
from cutline.data import (
    Sample,
    is_shards,
    no_captions_error,
    open_data,
    reject_commands,
    split_samples,
)
from cutline.device import available_memory
from cutline.errors import ConfigError
from cutline.generation.batch import check_prompt_length
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer, clean_caption
from cutline.training.data.dataset import CaptionDataset, check_caption_room, encode_captions
from cutline.training.data.stream import ShardDataset, TrainDataset

logger = logging.getLogger(__name__)

_CAPTION_HINT = "add captions, or name their column in `data.caption_column`"


@dataclass(frozen=True)
class RunSetup:
    """The parts of a run before its first step."""

    model: CaptionModel
    """with its initial weights, on the CPU"""
    tokenizer: Tokenizer
    dataset: TrainDataset
    """training examples"""
    train_samples: list[Sample]
    """training samples; empty if they are streamed"""
    val_samples: list[Sample]
    """validation samples"""


def prepare_run(recipe: Recipe, allow_pipe: bool = False) -> RunSetup:
    """Read the data, load or train the vocabulary, and build the model with its initial weights.

    Args:
        recipe: Settings of the run.
        allow_pipe: Whether shards may be `pipe:` commands, which are run. A recipe cannot allow
            it, because recipes are passed on.

    Raises:
        CutlineError: The data, the checkpoint and the settings do not fit together.
    """
    check_commands(recipe, allow_pipe)
    if not recipe.init.captioner:
        require_memory(recipe.model.to_config())
    train, val = read_samples(recipe)
    torch.manual_seed(recipe.seed)
    model, tokenizer = init_model(recipe, train)
    _check_generation(recipe, model.config, tokenizer, val)
    if recipe.data.stream:
        dataset: TrainDataset = make_shard_dataset(recipe, tokenizer, model.config, allow_pipe)
    else:
        dataset = make_dataset(recipe, train, tokenizer, model.config, recipe.data.augment)
    return RunSetup(model, tokenizer, dataset, train, val)


def _check_generation(
    recipe: Recipe, config: CaptionConfig, tokenizer: Tokenizer, val: Sequence[Sample]
) -> None:
    """Raise ConfigError if captions do not fit the model, or cannot be generated in validation.

    Otherwise, the first evaluation would raise it, after an epoch of training.
    """
    max_positions = config.text.max_positions
    for name, length in (
        ("data.max_tokens", recipe.data.max_tokens),
        ("generation.max_length", recipe.generation.max_length),
    ):
        if length > max_positions:
            raise ConfigError(
                f"{name} {length} is above the model's {max_positions} positions: lower it"
            )
    if val and recipe.eval.select_by == "captions":
        prompts = {sample.prompt_or(config.prompt) for sample in val}
        shortest = min(len(tokenizer.encode_prompt(prompt)) for prompt in prompts)
        check_prompt_length(shortest, recipe.generation)
        tokenizer.encode_bad_words(recipe.generation.bad_words)


def require_memory(config: CaptionConfig) -> None:
    """Raise ConfigError if the weights of a new model do not fit into memory, in fp32."""
    needed = 4 * count_parameters(config)
    available = available_memory(torch.device("cpu"))
    if available is not None and needed > available:
        raise ConfigError(
            f"the weights of the model need {needed / 1e9:,.1f} GB and {available / 1e9:,.1f} GB "
            "of memory are available: lower the sizes in `model`"
        )


def make_dataset(
    recipe: Recipe,
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    config: CaptionConfig,
    augmented: bool,
) -> CaptionDataset:
    """Return the examples of `samples`, with or without augmentation."""
    captions = encode_captions(samples, tokenizer, recipe.data, config.prompt)
    return CaptionDataset(
        samples, captions, config.vision.image_size, recipe.data, recipe.seed, augmented
    )


def make_shard_dataset(
    recipe: Recipe, tokenizer: Tokenizer, config: CaptionConfig, allow_pipe: bool
) -> ShardDataset:
    """Return the examples streamed from the recipe's shards.

    Raises:
        ConfigError: The prompt leaves no room for captions within `data.max_tokens`.
    """
    max_tokens = recipe.data.max_tokens
    check_caption_room([tokenizer.encode("a", config.prompt, max_tokens)], max_tokens)
    return ShardDataset(
        recipe.data, tokenizer, config.prompt, config.vision.image_size, recipe.seed, allow_pipe
    )


def check_commands(recipe: Recipe, allow_pipe: bool) -> None:
    """Raise ConfigError if the recipe has `pipe:` commands that are not allowed.

    Only streams run commands.
    """
    if recipe.data.stream and not allow_pipe:
        reject_commands(recipe.data.train)


def read_samples(recipe: Recipe) -> tuple[list[Sample], list[Sample]]:
    """Read the training and validation samples, or split the training data.

    Returns:
        The training samples, which are empty if they are streamed, and the validation samples.

    Raises:
        ConfigError: The recipe has no training data, or settings that do not fit it.
        DataError: A dataset cannot be read or has no captions.
    """
    data = recipe.data
    _check_train_settings(data)
    train = [] if data.stream else open_data(data.train_source)
    if not data.stream and not any(sample.captions for sample in train):
        raise no_captions_error(data.train, f"no image has a caption: {_CAPTION_HINT}")
    val: list[Sample] = []
    if data.val or data.val_split:
        val = open_data(data.val_source)
    elif data.val_fraction:
        train, val = split_samples(train, data, recipe.seed)
    val = [sample for sample in val if sample.captions]
    if not val and (data.val or data.val_split):
        raise no_captions_error(
            data.val_source.path, f"no validation image has a caption: {_CAPTION_HINT}"
        )
    return train, val[: recipe.eval.max_images or None]


def _check_train_settings(data: DataConfig) -> None:
    if not data.train:
        raise ConfigError(
            "the recipe has no training data: set `data.train`, or pass --data.train PATH"
        )
    if data.stream and not is_shards(data.train):
        raise ConfigError(f"{data.train}: `data.stream` is for tar shards only; turn it off")
    if data.stream and (data.columns != Columns() or data.train_split or data.image_root):
        raise ConfigError(
            f"{data.train}: with `data.stream`, columns, splits and image_root have no effect; "
            "remove these settings"
        )


def init_model(recipe: Recipe, train: Sequence[Sample]) -> tuple[CaptionModel, Tokenizer]:
    """Build the model with its initial weights, and its tokenizer.

    Args:
        recipe: What to start from: a captioner, pretrained encoders or random weights.
        train: Training samples, for a vocabulary that is trained on their captions.

    Raises:
        CheckpointError: Weights or a vocabulary cannot be read.
        ConfigError: The settings are invalid.
    """
    init = recipe.init
    if init.captioner:
        return load_captioner(recipe)
    tokenizer = Tokenizer.load(init.tokenizer) if init.tokenizer else train_tokenizer(recipe, train)
    config = recipe.model.to_config()
    config = replace(config, text=replace(config.text, vocab_size=tokenizer.vocab_size))
    model = CaptionModel(config)
    for path, load in ((init.vision, load_pretrained_vision), (init.text, load_pretrained_text)):
        if path:
            report = load(model, path)
            logger.info("%s: %d weights loaded", path, report.loaded)
            logger.info("  randomly initialized: %s", ", ".join(report.initialized) or "none")
            logger.info("  unused: %s", ", ".join(report.unused) or "none")
    return model, tokenizer


def load_captioner(recipe: Recipe) -> tuple[CaptionModel, Tokenizer]:
    """Load the captioner to fine-tune, with the recipe's prompt and regularization."""
    init = recipe.init
    checkpoint = load_checkpoint(init.captioner, **init.arguments, partial=True)
    if checkpoint.extra_weights:
        logger.info("%s: unused: %s", init.captioner, ", ".join(checkpoint.extra_weights))
    checkpoint = replace(checkpoint, config=recipe.model.override(checkpoint.config))
    return build_model(checkpoint), checkpoint.tokenizer


def train_tokenizer(recipe: Recipe, train: Sequence[Sample]) -> Tokenizer:
    """Train a vocabulary on the training captions, each after its prompt, as the model reads it."""
    data, prompt = recipe.data, recipe.model.to_config().prompt
    texts = (
        f"{sample.prompt_or(prompt)} {clean_caption(caption, data.clean, data.max_words)}"
        for sample in train
        for caption in sample.captions
    )
    return Tokenizer.train(texts, recipe.init.vocab_size)
