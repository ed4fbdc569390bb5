"""The task of matching: ITC and ITM, and recall in validation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from cutline.checkpoint import Checkpoint
from cutline.checkpoint.kinds import AnyConfig
from cutline.config import MatchConfig, Recipe
from cutline.data import Sample
from cutline.errors import CutlineError
from cutline.evaluation import MatchEvaluation, evaluate_matcher
from cutline.matcher import Matcher, MatchScores
from cutline.model import MatchModel, MatchTrainingModel, VisionTextModel
from cutline.model.match_loss import find_positives
from cutline.model.match_training import MAX_TEMPERATURE, MIN_TEMPERATURE
from cutline.model.momentum import PREFIX
from cutline.progress import Progress
from cutline.tokenizer import EncodedText, Tokenizer
from cutline.training.data.batch import Batch
from cutline.training.data.dataset import ExampleOrError
from cutline.training.data.match_batch import MatchBatch, collate_pairs, make_dummy_pair
from cutline.training.tasks.match_initial import (
    TEMPERATURE,
    init_match_config,
    load_match_weights,
)
from cutline.training.tasks.task import (
    BatchLoss,
    TaskEvaluation,
    check_length,
    device_of,
    run_model,
)

MAX_QUEUED_TEXTS = 64
"""texts that are remembered of a queued image"""


@dataclass(frozen=True)
class MatchTask:
    """Trains a matcher; for the methods see `Task`."""

    recipe: Recipe
    unit = "pair"
    answers = "found"
    overfit_factor = 4  # from random weights, ITM stays at chance for hundreds of steps
    compared_loss = "loss"
    validation_captions = 1  # of each image, or most texts of a batch would belong together
    alpha_epochs: ClassVar[float] = 1.0
    """epochs in which the weight of soft targets rises to `match.alpha`"""

    def init_model(self, train: Sequence[Sample]) -> tuple[MatchTrainingModel, Tokenizer]:
        """Start from a matcher, a captioner, pretrained encoders or random weights."""
        config, tokenizer, weights = init_match_config(self.recipe, train)
        model = self._new_model(config, tokenizer)
        load_match_weights(self.recipe, model, weights)
        self.add_momentum(model, train)
        return model, tokenizer

    def add_momentum(self, model: MatchTrainingModel, train: Sequence[Sample]) -> None:
        """Add momentum encoders, if the recipe has any, as copies of the initial weights."""
        match = self.recipe.match
        if match.momentum:
            num_keys = 1 if match.negatives == "image" else count_queued_texts(train)
            model.add_momentum(match.momentum, match.queue_size, num_keys)

    def check(self, config: AnyConfig, tokenizer: Tokenizer, val: Sequence[Sample]) -> None:
        """Raise ConfigError if texts do not fit the model."""
        check_length("data.max_tokens", self.recipe.data.max_tokens, config)

    def default_prompt(self, config: AnyConfig) -> None:
        """Return None: no text has a prompt."""

    def collate(self, results: Sequence[ExampleOrError], tokenizer: Tokenizer) -> MatchBatch:
        """Make a batch."""
        return collate_pairs(results, tokenizer, self.recipe.match.negatives == "image")

    def list_fingerprints(self) -> dict[str, str]:
        """Return no fingerprint: the loss needs no other model."""
        return {}

    def make_dummy(self, config: AnyConfig, has_embeddings: bool, scored: bool) -> MatchBatch:
        """Return a batch of one gray image."""
        return make_dummy_pair(config.vision, has_embeddings, scored)

    def prepare_step(self, model: VisionTextModel, epochs: float) -> None:
        """Keep the temperature within its bounds, and let momentum encoders follow."""
        assert isinstance(model, MatchTrainingModel)
        model.clamp_temperature()
        if model.momentum is not None:
            model.momentum.alpha = self.recipe.match.alpha * min(1.0, epochs / self.alpha_epochs)
            model.momentum.follow(model)

    def compute_loss(self, model: nn.Module, config: AnyConfig, batch: Batch) -> BatchLoss:
        """Compute the sum of ITC and ITM."""
        assert isinstance(batch, MatchBatch)
        loss = run_model(model, config, batch, batch.image_keys, batch.text_keys)
        count = batch.num_targets
        values = {name: value.detach() * count for name, value in loss._asdict().items()}
        return BatchLoss(loss.total * count, values)

    def evaluate(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        progress: Progress,
    ) -> TaskEvaluation:
        """Measure how often images and texts find each other, and the accuracy of ITM."""
        recipe = self.recipe
        evaluation = evaluate_matcher(
            _make_matcher(model, tokenizer),
            samples,
            k_test=recipe.match.k_test,
            batch_size=recipe.eval.batch_size,
            clean=recipe.data.clean,
            max_words=recipe.data.max_words,
            progress=progress,
        )
        metrics = flatten_evaluation(evaluation)
        return TaskEvaluation(metrics, evaluation.reranked.mean, evaluation.skipped)

    def build_model(self, trained: Checkpoint[AnyConfig]) -> MatchTrainingModel:
        """Build the training network."""
        with torch.device("meta"):
            model = self._new_model(trained.config, trained.tokenizer)
        model.load_state_dict(drop_momentum(trained.weights), assign=True)
        return model.eval()

    def make_checkpoints(self, trained: Checkpoint[AnyConfig]) -> dict[str, Checkpoint[AnyConfig]]:
        """Return the matcher."""
        return {"": make_match_checkpoint(trained)}

    def chance_loss(self, vocab_size: int) -> tuple[str, float]:
        """Return ITC if all texts of a batch are equally likely, and ITM if both answers are."""
        size = self.recipe.optim.batch_size
        return f"ln({size}) + ln(2)", math.log(size) + math.log(2)

    @torch.no_grad()
    def describe_batch(self, model: VisionTextModel, batch: Batch, tokenizer: Tokenizer) -> str:
        """Return the text of each pair, and the other texts that belong to its image."""
        assert isinstance(batch, MatchBatch)
        lines = describe_pairs(batch, tokenizer)
        loss = self.compute_loss(model, model.config, batch)
        count = batch.num_targets
        means = ", ".join(f"{name} {float(v) / count:.4f}" for name, v in loss.values.items())
        summary = f"{count} pairs, mean loss {float(loss.loss) / count:.4f} ({means})"
        return "\n".join([*lines, summary]) + "\n"

    def answer(
        self,
        model: VisionTextModel,
        tokenizer: Tokenizer,
        samples: Sequence[Sample],
        references: Sequence[EncodedText],
    ) -> Sequence[str | CutlineError]:
        """Return the text of all references that is most similar to each image.

        Those that do not match it, by ITM, come last.
        """
        ids = (reference.token_ids[reference.prompt_length :] for reference in references)
        texts = list(dict.fromkeys(map(tokenizer.decode, ids)))
        inputs = [(sample.image, texts) for sample in samples]
        return [
            scores if isinstance(scores, CutlineError) else texts[_find_best(scores)]
            for scores in _make_matcher(model, tokenizer).stream(inputs)
        ]

    def _new_model(self, config: AnyConfig, tokenizer: Tokenizer) -> MatchTrainingModel:
        assert isinstance(config, MatchConfig)
        return MatchTrainingModel(config, tokenizer.enc_id, self.recipe.match.negative_all_rank)


def count_queued_texts(samples: Sequence[Sample]) -> int:
    """Return the number of texts to remember of each image in a queue, within limits.

    A stream has no samples that are known beforehand.
    """
    most = max((len(sample.captions) for sample in samples), default=MAX_QUEUED_TEXTS)
    return min(most, MAX_QUEUED_TEXTS)


def drop_momentum(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights without momentum encoders and queues."""
    return {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}


def make_match_checkpoint(trained: Checkpoint[AnyConfig]) -> Checkpoint[MatchConfig]:
    """Return the matcher in a training network: its settings hold the temperature."""
    assert isinstance(trained.config, MatchConfig)
    weights = drop_momentum(trained.weights)
    # The last step may have left the bounds, which the next one restores.
    temperature = weights.pop(TEMPERATURE).clamp(MIN_TEMPERATURE, MAX_TEMPERATURE)
    config = replace(trained.config, temperature=float(temperature))
    return Checkpoint(config, weights, trained.tokenizer)


def flatten_evaluation(evaluation: MatchEvaluation) -> dict[str, float]:
    """Return the metrics of a matcher by their names in the log."""
    metrics = {
        f"{direction}_r{cutoff.removeprefix('at')}": value
        for direction, recall in vars(evaluation.reranked).items()
        for cutoff, value in vars(recall).items()
    }
    metrics |= {
        "recall_mean": evaluation.reranked.mean,
        "recall_mean_by_index": evaluation.reranked_by_index.mean,
        "recall_mean_cosine": evaluation.cosine.mean,
        "itm_accuracy": evaluation.itm_accuracy,
    }
    if evaluation.itm_auroc is not None:
        metrics["itm_auroc"] = evaluation.itm_auroc
    return metrics


def describe_pairs(batch: MatchBatch, tokenizer: Tokenizer) -> list[str]:
    """Return the tokens of each text, and the numbers of the other texts of its image."""
    belongs = find_positives(batch.image_keys, batch.text_keys)
    lines = []
    for row, valid in enumerate(batch.attention_mask.bool()):
        tokens = " ".join(tokenizer.convert_ids_to_tokens(batch.input_ids[row, valid].tolist()))
        others = [str(text + 1) for text in belongs[row].nonzero()[:, 0].tolist() if text != row]
        suffix = f"  (other positives: {', '.join(others)})" if others else ""
        lines.append(f"pair {row + 1}: {tokens}{suffix}")
    return lines


def _make_matcher(model: VisionTextModel, tokenizer: Tokenizer) -> Matcher:
    """Return a matcher with the network, on its device."""
    assert isinstance(model, MatchModel)
    return Matcher(model, tokenizer, device_of(model), "fp32")


def _find_best(scores: MatchScores) -> int:
    return max(range(len(scores.itm)), key=lambda i: (scores.itm[i] >= 0.5, scores.itc[i]))
