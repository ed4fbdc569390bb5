"""The task of captioning: BLIP's LM loss, and caption metrics in validation."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

from torch import nn

from cutline.captioner import Captioner
from cutline.checkpoint import Checkpoint, build_model, load_checkpoint
from cutline.checkpoint.kinds import AnyConfig
from cutline.config import CaptionConfig, GenerationKwargs, Recipe
from cutline.data import Sample
from cutline.errors import CutlineError, blame_setting
from cutline.evaluation import evaluate
from cutline.generation.batch import check_prompt_length
from cutline.model import CaptionModel, VisionTextModel
from cutline.model.caption import CaptionLoss
from cutline.model.caption_training import (
    BAG_OF_WORDS_HEAD,
    CaptionTrainingLoss,
    add_bag_of_words_head,
)
from cutline.progress import Progress
from cutline.tokenizer import EncodedText, Tokenizer
from cutline.training.data.batch import Batch
from cutline.training.data.caption_batch import (
    CaptionBatch,
    collate_captions,
    make_dummy_captions,
)
from cutline.training.data.dataset import ExampleOrError
from cutline.training.tasks.initial import init_config, load_pretrained_encoders, log_extra_weights
from cutline.training.tasks.task import (
    BatchLoss,
    TaskEvaluation,
    check_length,
    device_of,
    run_model,
)
from cutline.training.tasks.token_table import format_token_losses


@dataclass(frozen=True)
class CaptionTask:
    """Trains a captioner; for the methods see `Task`."""

    recipe: Recipe
    unit = "token"
    answers = "generated"
    overfit_factor = 1
    validation_captions = 0

    @property
    def compared_loss(self) -> str:
        """Return the LM loss, where the bag-of-words loss is added to it."""
        return "lm" if self.recipe.caption.bag_of_words_weight else "loss"

    def init_model(self, train: Sequence[Sample]) -> tuple[CaptionModel, Tokenizer]:
        """Start from a captioner, pretrained encoders or random weights."""
        if self.recipe.init.captioner:
            checkpoint = load_captioner(self.recipe)
            model, tokenizer = build_model(checkpoint), checkpoint.tokenizer
        else:
            config, tokenizer = init_config(self.recipe, train, has_prompts=True)
            model = CaptionModel(config)
            load_pretrained_encoders(self.recipe, model)
        if self.recipe.caption.bag_of_words_weight:
            model = add_bag_of_words_head(model)
        return model, tokenizer

    def check(self, config: AnyConfig, tokenizer: Tokenizer, val: Sequence[Sample]) -> None:
        """Raise ConfigError if captions do not fit the model, or cannot be generated.

        Otherwise, the first evaluation would raise it, after an epoch of training.
        """
        recipe = self.recipe
        check_length("data.max_tokens", recipe.data.max_tokens, config)
        check_length("generation.max_length", recipe.generation.max_length, config)
        if val and recipe.eval.select_by == "captions":
            prompts = {sample.prompt_or(self.default_prompt(config)) for sample in val}
            shortest = min(len(tokenizer.encode_prompt(prompt)) for prompt in prompts)
            check_prompt_length(shortest, recipe.generation)
            tokenizer.encode_bad_words(recipe.generation.bad_words)

    def default_prompt(self, config: AnyConfig) -> str:
        """Return the captioner's prompt."""
        return cast(CaptionConfig, config).prompt

    def collate(self, results: Sequence[ExampleOrError], tokenizer: Tokenizer) -> CaptionBatch:
        """Make a batch."""
        return collate_captions(results, tokenizer.pad_id)

    def list_fingerprints(self) -> dict[str, str]:
        """Return no fingerprint: the loss needs no other model."""
        return {}

    def make_dummy(self, config: AnyConfig, has_embeddings: bool, scored: bool) -> CaptionBatch:
        """Return a batch of one gray image."""
        return make_dummy_captions(config.vision, has_embeddings, scored)

    def prepare_step(self, model: VisionTextModel, epochs: float) -> None:
        """Do nothing."""

    def compute_loss(self, model: nn.Module, config: AnyConfig, batch: Batch) -> BatchLoss:
        """Compute the LM loss, and the bag-of-words loss if the model has a head for it."""
        assert isinstance(batch, CaptionBatch)
        loss: CaptionLoss | CaptionTrainingLoss = run_model(model, config, batch, batch.labels)
        if isinstance(loss, CaptionLoss):
            return BatchLoss(loss.loss)
        total = loss.lm + self.recipe.caption.bag_of_words_weight * loss.bag_of_words
        values = {"lm": loss.lm.detach(), "bag_of_words": loss.bag_of_words.detach()}
        return BatchLoss(total, values)

    def evaluate(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        progress: Progress,
    ) -> TaskEvaluation:
        """Caption the validation images, and measure the captions."""
        recipe = self.recipe
        evaluation = evaluate(
            _make_captioner(model, tokenizer),
            samples,
            batch_size=recipe.eval.batch_size,
            metric_tokenizer=recipe.eval.metric_tokenizer,
            progress=progress,
            **cast(GenerationKwargs, asdict(recipe.generation)),
        )
        scores = evaluation.scores
        metrics = {name: x for name, x in asdict(scores).items() if isinstance(x, float)}
        score = scores.cider + scores.bleu4
        return TaskEvaluation(metrics, score, evaluation.skipped, evaluation.images)

    def build_model(self, trained: Checkpoint[AnyConfig]) -> CaptionModel:
        """Build the captioner's network."""
        return build_model(cast(Checkpoint[CaptionConfig], drop_bag_of_words_head(trained)))

    def make_checkpoints(self, trained: Checkpoint[AnyConfig]) -> dict[str, Checkpoint[AnyConfig]]:
        """Return the captioner."""
        return {"": drop_bag_of_words_head(trained)}

    def chance_loss(self, vocab_size: int) -> tuple[str, float]:
        """Return the loss per token if all tokens of the vocabulary are equally likely."""
        return f"ln({vocab_size:,})", math.log(vocab_size)

    def describe_batch(self, model: VisionTextModel, batch: Batch, tokenizer: Tokenizer) -> str:
        """Return every token, with its label and its loss."""
        assert isinstance(model, CaptionModel)
        assert isinstance(batch, CaptionBatch)
        return format_token_losses(model, batch, tokenizer)

    def answer(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        references: Sequence[EncodedText],
    ) -> Sequence[str | CutlineError]:
        """Caption the images by greedy search, no longer than the longest reference."""
        captioner = _make_captioner(model, tokenizer)
        captions = captioner.stream(
            [sample.image for sample in samples],
            [sample.prompt_or(captioner.config.prompt) for sample in samples],
            num_beams=1,
            max_length=max(len(reference.token_ids) for reference in references),
            min_length=0,
        )
        return [
            caption if isinstance(caption, CutlineError) else caption.text for caption in captions
        ]


def drop_bag_of_words_head(trained: Checkpoint[AnyConfig]) -> Checkpoint[AnyConfig]:
    """Return a checkpoint without what only training needs."""
    weights = {
        name: w for name, w in trained.weights.items() if not name.startswith(BAG_OF_WORDS_HEAD)
    }
    return replace(trained, weights=weights)


def load_captioner(recipe: Recipe) -> Checkpoint[CaptionConfig]:
    """Load the captioner to fine-tune, with the recipe's prompt and regularization."""
    init = recipe.init
    with blame_setting("model", recipe.setting_names):
        checkpoint = load_checkpoint(init.captioner, **init.arguments, partial=True)
    log_extra_weights(init.captioner, checkpoint.extra_weights)
    return replace(checkpoint, config=recipe.model.override(checkpoint.config))


def _make_captioner(model: VisionTextModel, tokenizer: Tokenizer) -> Captioner:
    """Return a captioner with the network, on its device."""
    return Captioner(cast(CaptionModel, model), tokenizer, device_of(model), "fp32")
