"""Prepare a run from its recipe: data, vocabulary and model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from cutline.config import CaptionConfig, Columns, DataConfig, DataSource, Recipe
from cutline.config.size import count_parameters
from cutline.data import (
    Sample,
    group_by_image,
    is_shards,
    no_captions_error,
    open_data,
    reject_commands,
    split_samples,
)
from cutline.device import available_memory
from cutline.errors import ConfigError, blame_setting
from cutline.model import VisionTextModel
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import LoaderConfig
from cutline.training.data.dataset import CaptionDataset, check_caption_room, encode_captions
from cutline.training.data.stream import ShardDataset, TrainDataset
from cutline.training.tasks import Task, make_task

_CAPTION_HINT = "add captions, or name their column in `data.caption_column`"


@dataclass(frozen=True)
class RunSetup:
    """The parts of a run before its first step."""

    model: VisionTextModel
    """with its initial weights, on the CPU"""
    tokenizer: Tokenizer
    dataset: TrainDataset
    """training examples"""
    train_samples: list[Sample]
    """training samples; empty if they are streamed"""
    val_samples: list[Sample]
    """validation samples"""
    task: Task

    def loader_config(self, num_workers: int = 0, pin_memory: bool = False) -> LoaderConfig:
        """Return how batches are collated and prefetched."""
        return LoaderConfig(
            partial(self.task.collate, tokenizer=self.tokenizer), num_workers, pin_memory
        )

    def make_val_dataset(self, recipe: Recipe, samples: Sequence[Sample]) -> CaptionDataset:
        """Return the examples of `samples` without augmentation; see `make_dataset`."""
        config = self.model.config
        prompt, size = self.task.default_prompt(config), config.vision.image_size
        return make_dataset(recipe, samples, self.tokenizer, prompt, size, augmented=False)


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
    if not recipe.init.model:
        require_memory(recipe.model.to_config(), copies=2 if recipe.match.momentum else 1)
    train, val = read_samples(recipe)
    torch.manual_seed(recipe.seed)
    task = make_task(recipe)
    model, tokenizer = task.init_model(train)
    task.check(model.config, tokenizer, val)
    prompt, size = task.default_prompt(model.config), model.config.vision.image_size
    if recipe.data.stream:
        dataset: TrainDataset = make_shard_dataset(recipe, tokenizer, prompt, size, allow_pipe)
    else:
        dataset = make_dataset(recipe, train, tokenizer, prompt, size, recipe.data.augment)
    return RunSetup(model, tokenizer, dataset, train, val, task)


def require_memory(config: CaptionConfig, copies: int = 1) -> None:
    """Raise ConfigError if so many copies of a new model's weights exceed the memory, in fp32."""
    needed = 4 * count_parameters(config) * copies
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
    prompt: str | None,
    image_size: int,
    augmented: bool,
) -> CaptionDataset:
    """Return the examples of `samples`, with or without augmentation; see `encode_captions`."""
    captions = encode_captions(samples, tokenizer, recipe.data, prompt)
    return CaptionDataset(samples, captions, image_size, recipe.data, recipe.seed, augmented)


def make_shard_dataset(
    recipe: Recipe, tokenizer: Tokenizer, prompt: str | None, image_size: int, allow_pipe: bool
) -> ShardDataset:
    """Return the examples streamed from the recipe's shards.

    Raises:
        ConfigError: The prompt leaves no room for captions within `data.max_tokens`.
    """
    max_tokens = recipe.data.max_tokens
    check_caption_room([tokenizer.encode("a", prompt or "", max_tokens)], max_tokens)
    return ShardDataset(recipe.data, tokenizer, prompt, image_size, recipe.seed, allow_pipe)


def check_commands(recipe: Recipe, allow_pipe: bool) -> None:
    """Raise ConfigError if the recipe has `pipe:` commands that are not allowed.

    Only streams run commands.
    """
    if recipe.data.stream and not allow_pipe:
        with blame_setting("train", recipe.setting_names):
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
    names = recipe.setting_names
    with blame_setting("train", {**names, "split": "data.train_split"}):
        train = [] if data.stream else _open_data(recipe, data.train_source)
        if not data.stream and not any(sample.captions for sample in train):
            raise no_captions_error(data.train, f"no image has a caption: {_CAPTION_HINT}")
    if data.val or data.val_split:
        with blame_setting("val" if data.val else "train", {**names, "split": "data.val_split"}):
            val = _open_val_data(recipe)
    else:
        with blame_setting("train", names):
            train, val = split_samples(train, data, recipe.seed)
        val = [sample for sample in val if sample.captions]
    return train, val[: recipe.eval.max_images or None]


def _open_val_data(recipe: Recipe) -> list[Sample]:
    """Return the validation samples that have captions, from data of their own."""
    source = recipe.data.val_source
    val = [sample for sample in _open_data(recipe, source) if sample.captions]
    if not val:
        message = f"no validation image has a caption: {_CAPTION_HINT}"
        raise no_captions_error(source.path, message)
    return val


def _open_data(recipe: Recipe, source: DataSource) -> list[Sample]:
    samples = open_data(source)
    # Rows of an image with different prompts are samples of their own; its texts belong together.
    return samples if recipe.task in ("caption", "scst") else group_by_image(samples)


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
