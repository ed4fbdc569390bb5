"""`Task`: what a run trains. The loop, the trainer and the diagnostics know nothing else of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from cutline.checkpoint import Checkpoint
from cutline.checkpoint.kinds import AnyConfig
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError
from cutline.evaluation import EvaluatedImage
from cutline.image import normalize
from cutline.model import VisionTextModel
from cutline.progress import Progress
from cutline.tokenizer import EncodedText, Tokenizer
from cutline.training.data.batch import Batch
from cutline.training.data.dataset import ExampleOrError


class BatchLoss(NamedTuple):
    """The loss of a batch, summed over its tokens, pairs or captions."""

    loss: Tensor
    """()"""
    values: Mapping[str, Tensor] = {}
    """other values for the log by name, summed as the loss is"""
    num_targets: int | None = None
    """number of targets that the loss sums over (default: the batch's own number)"""


@dataclass(frozen=True)
class TaskEvaluation:
    """The result of evaluating a model on the validation images."""

    metrics: dict[str, float]
    """by name in the log"""
    score: float
    """by which the best checkpoint is selected; higher is better"""
    skipped: Sequence[str]
    """a message for each image that cannot be read"""
    images: Sequence[EvaluatedImage] = ()
    """the images with captions, if the model generates any"""


class Task(Protocol):
    """What a run trains: the initial model, the loss, the validation and the checkpoint.

    Attributes:
        unit: What the loss is averaged over, "token", "pair" or "caption".
        answers: What the model gives for an image after overfitting: "generated" or "found".
        overfit_factor: How many times as many steps as a captioner it may take to overfit.
        validation_captions: Captions of an image in the validation loss; 0 for all.
    """

    unit: str
    answers: str
    overfit_factor: int
    validation_captions: int

    @property
    def compared_loss(self) -> str:
        """Return the name of what validation, chance and the threshold of overfitting concern.

        It is a value of the loss, or "loss" for all of it.
        """

    def init_model(self, train: Sequence[Sample]) -> tuple[VisionTextModel, Tokenizer]:
        """Build the network to train with its initial weights, and its tokenizer.

        Args:
            train: Training samples, for a vocabulary that is trained on their captions.

        Raises:
            CheckpointError: Weights or a vocabulary cannot be read.
            ConfigError: The settings are invalid.
        """

    def check(self, config: AnyConfig, tokenizer: Tokenizer, val: Sequence[Sample]) -> None:
        """Raise ConfigError if the data does not fit the model, or cannot be evaluated."""

    def default_prompt(self, config: AnyConfig) -> str | None:
        """Return the prompt of samples without one of their own; None if no text has a prompt."""

    def collate(self, results: Sequence[ExampleOrError], tokenizer: Tokenizer) -> Batch:
        """Make a batch; see `Collate`."""

    def list_fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of models that only the loss needs, by setting."""

    def make_dummy(self, config: AnyConfig, has_embeddings: bool, scored: bool) -> Batch:
        """Return a batch of one gray image; see `gray_image`. Unless `scored`, its loss is 0."""

    def prepare_step(self, model: VisionTextModel, epochs: float) -> None:
        """Prepare the weights for an optimizer step, after so many epochs of training."""

    def compute_loss(self, model: nn.Module, config: AnyConfig, batch: Batch) -> BatchLoss:
        """Compute the loss of a batch with `model`, which may be wrapped."""

    def evaluate(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        progress: Progress,
    ) -> TaskEvaluation:
        """Evaluate a model on the validation samples; every process must call this.

        Raises:
            DataError: None of the images can be read.
        """

    def build_model(self, trained: Checkpoint[AnyConfig]) -> VisionTextModel:
        """Build a network as `init_model` does, in evaluation mode, that shares the weights."""

    def make_checkpoints(self, trained: Checkpoint[AnyConfig]) -> dict[str, Checkpoint[AnyConfig]]:
        """Return what is saved of a trained network, by subfolder; "" for none."""

    def chance_loss(self, vocab_size: int) -> tuple[str, float]:
        """Return the loss of a model that guesses: a formula, and its value."""

    def describe_batch(self, model: VisionTextModel, batch: Batch, tokenizer: Tokenizer) -> str:
        """Return a text that shows the batch, and its loss in evaluation mode."""

    def answer(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        references: Sequence[EncodedText],
    ) -> Sequence[str | CutlineError]:
        """Return the text that an overfitted model gives for each image.

        Args:
            model: The model.
            tokenizer: Its tokenizer.
            samples: The images.
            references: The text of each image that the model was trained on.
        """


def check_length(name: str, length: int, config: AnyConfig) -> None:
    """Raise ConfigError if a setting allows texts that are longer than the model reads."""
    if length > config.text.max_positions:
        raise ConfigError(
            f"{name} {length} is above the model's {config.text.max_positions} positions: lower it"
        )


def run_model(model: nn.Module, config: AnyConfig, batch: Batch, *others: Tensor) -> Any:
    """Run a network on a batch; `others` is what its loss needs beside images and texts."""
    embeds = batch.image_embeds
    pixel_values = normalize(batch.pixels, config.image) if embeds is None else None
    return model(pixel_values, batch.input_ids, batch.attention_mask, *others, image_embeds=embeds)


def device_of(model: nn.Module) -> str:
    """Return the device of a model, as `Predictor` takes it."""
    device: torch.device = next(model.parameters()).device
    return str(device)
