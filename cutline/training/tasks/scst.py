"""The task of self-critical sequence training: a captioner learns from the CIDEr of its samples.

Rennie et al., 2017, arXiv 1612.00563; with the baseline of Luo, 2020, arXiv 2003.09971.
"""

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from cutline.checkpoint import (
    Checkpoint,
    build_matcher,
    build_model,
    load_matcher_checkpoint,
)
from cutline.checkpoint.kinds import AnyConfig
from cutline.config import ModelSettings, Recipe, TextSettings, VisionSettings
from cutline.data import Sample
from cutline.errors import ConfigError, blame_setting
from cutline.generation import check_prompt_length
from cutline.image import normalize
from cutline.matcher import Matcher
from cutline.metrics.tokenizers import choose_tokenizer
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import Batch
from cutline.training.data.caption_batch import CaptionBatch, count_scored
from cutline.training.data.dataset import ExampleOrError
from cutline.training.data.scst_batch import ScstBatch, collate_scst
from cutline.training.tasks.caption import CaptionTask, load_captioner
from cutline.training.tasks.scst_loss import compute_advantages, compute_policy_loss
from cutline.training.tasks.scst_reward import Reward
from cutline.training.tasks.scst_samples import SAMPLE_VALUES, Sampler, Samples
from cutline.training.tasks.task import BatchLoss

WITHOUT_DROPOUT = ModelSettings(
    vision=VisionSettings(drop_path=0.0), text=TextSettings(dropout=0.0, attn_dropout=0.0)
)


class ScstTask(CaptionTask):
    """Trains a captioner by the reward of captions that it samples; for the methods see `Task`.

    The loss is a mean over samples: minus the reward, with the gradient of REINFORCE, plus
    `scst.lm_weight` times the LM loss per token of the captions that the batch has of the image. It
    does not depend on how batches and processes divide the images of a step.
    """

    unit = "caption"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out models and caches, which processes that load data do not need."""
        return {"recipe": self.recipe}

    def init_model(self, train: Sequence[Sample]) -> tuple[CaptionModel, Tokenizer]:
        """Start from a captioner, without dropout; count the n-grams of the training captions."""
        recipe = self.recipe
        checkpoint = load_captioner(recipe)
        self.saved_config = checkpoint.config
        config, tokenizer = WITHOUT_DROPOUT.override(checkpoint.config), checkpoint.tokenizer
        model = build_model(replace(checkpoint, config=config))
        self._check_prompts({sample.prompt_or(config.prompt) for sample in train}, tokenizer)
        references = [sample.captions for sample in train if sample.captions]
        tokenize = choose_tokenizer(
            recipe.eval.metric_tokenizer, (text for texts in references for text in texts)
        )
        matcher, self._fingerprints = load_reward_matcher(recipe)
        self.reward = Reward(recipe.scst, references, tokenize, matcher)
        self.sampler = Sampler(tokenizer, recipe.generation.max_length)
        self.initial_model = deepcopy(model).eval() if recipe.scst.kl_weight else None
        if self.initial_model:
            self._fingerprints |= {"init.captioner": checkpoint.fingerprint()}
        return model, tokenizer

    def _check_prompts(self, prompts: Iterable[str], tokenizer: Tokenizer) -> None:
        """Raise ConfigError unless every prompt leaves room for what follows it."""
        longest = max(len(tokenizer.encode_prompt(prompt)) for prompt in prompts)
        check_prompt_length(longest, self.recipe.generation)
        if longest >= (limit := self.recipe.data.max_tokens):  # [SEP] would take its place
            raise ConfigError(
                f"data.max_tokens {limit} cuts the longest prompt, of {longest} tokens: raise it, "
                "or shorten the prompt"
            )

    def collate(self, results: Sequence[ExampleOrError], tokenizer: Tokenizer) -> ScstBatch:
        """Make a batch."""
        return collate_scst(results, tokenizer.pad_id, self.recipe.scst.num_samples)

    def list_fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of the matcher of the reward, and of the initial model."""
        return self._fingerprints

    def compute_loss(self, model: nn.Module, config: AnyConfig, batch: Batch) -> BatchLoss:
        """Sample captions and compute their loss.

        In evaluation mode, and for the dummy batch of a process without images, compute the LM
        loss.
        """
        assert isinstance(batch, CaptionBatch)
        if model.training and isinstance(batch, ScstBatch):
            return self._compute_scst_loss(model, config, batch)
        loss = super().compute_loss(model, config, batch).loss
        values = dict.fromkeys(self._list_values(), torch.zeros(()))
        return BatchLoss(loss, values, int(count_scored(batch.labels).sum()))

    def make_checkpoints(self, trained: Checkpoint[AnyConfig]) -> dict[str, Checkpoint[AnyConfig]]:
        """Return the captioner, with the dropout that it came with."""
        return {"": replace(trained, config=self.saved_config)}

    def chance_loss(self, vocab_size: int) -> tuple[str, float]:
        """Return the loss without any reward."""
        weight = self.recipe.scst.lm_weight
        formula = f"{weight:g} x ln({vocab_size:,})" if weight else "that without reward"
        return formula, weight * math.log(vocab_size)

    def _compute_scst_loss(
        self, model: nn.Module, config: AnyConfig, batch: ScstBatch
    ) -> BatchLoss:
        scst = self.recipe.scst
        network = cast(CaptionModel, getattr(model, "module", model))  # without DDP
        embeds = encode_batch(network, config, batch)  # (B, N, D)
        samples = self.sampler.sample(
            network, embeds.detach(), batch.prompts, batch.seeds, batch.num_samples
        )
        log_probs = samples.compute_log_probs(model, embeds)  # (B, n)
        rewards = self.reward.compute(samples.captions, batch.references, batch.pixels)
        values = {"reward": rewards.sum()}
        if self.initial_model:
            divergence = log_probs.detach() - self._compute_initial_log_probs(
                config, batch, samples
            )
            values["kl"] = divergence.sum()
            rewards = rewards - scst.kl_weight * divergence
        if scst.baseline == "greedy":
            greedy = self.sampler.search_greedily(network, embeds.detach(), batch.prompts)
            baseline = self.reward.compute(greedy.captions, batch.references, batch.pixels)
            advantages = rewards - baseline  # (B, n) - (B, 1)
        else:
            advantages = compute_advantages(rewards)
        loss = compute_policy_loss(log_probs, advantages, rewards).sum()
        values |= {"baseline": (rewards - advantages).sum()}
        if scst.lm_weight:
            lm = batch.num_samples * compute_lm_losses(model, embeds, batch).sum()
            values["lm"] = lm.detach()
            loss = loss + scst.lm_weight * lm
        values |= samples.describe(self.reward.split)
        return BatchLoss(loss, {name: values[name] for name in self._list_values()})

    def _list_values(self) -> list[str]:
        """Return the names of the values for the log."""
        names = {"kl": self.recipe.scst.kl_weight, "lm": self.recipe.scst.lm_weight}
        optional = [name for name, weight in names.items() if weight]
        return ["reward", "baseline", *optional, *SAMPLE_VALUES]

    @torch.no_grad()
    def _compute_initial_log_probs(
        self, config: AnyConfig, batch: ScstBatch, samples: Samples
    ) -> Tensor:
        """Return the log-probabilities of samples with the initial model, (B, n)."""
        assert self.initial_model
        model = self.initial_model.to(batch.input_ids.device)
        return samples.compute_log_probs(model, encode_batch(model, config, batch))


def load_reward_matcher(recipe: Recipe) -> tuple[Matcher | None, dict[str, str]]:
    """Load the matcher of the reward, if there is one; return its fingerprint by its setting."""
    path = recipe.scst.matcher
    if not path:
        return None, {}
    with blame_setting("model", {"model": "scst.matcher"}):
        checkpoint = load_matcher_checkpoint(path)
    fingerprint = checkpoint.fingerprint()
    matcher = Matcher(build_matcher(checkpoint), checkpoint.tokenizer, recipe.device, "fp32")
    return matcher, {"scst.matcher": fingerprint}


def encode_batch(model: CaptionModel, config: AnyConfig, batch: Batch) -> Tensor:
    """Return the image embeddings of a batch, (B, N, D)."""
    if batch.image_embeds is not None:
        return batch.image_embeds
    embeds: Tensor = model.vision(normalize(batch.pixels, config.image))
    return embeds


def compute_lm_losses(model: nn.Module, image_embeds: Tensor, batch: CaptionBatch) -> Tensor:
    """Return the LM loss per token of the captions of each image, (B,)."""
    inputs = (batch.input_ids, batch.attention_mask, batch.labels)
    losses: Tensor = model(None, *inputs, "none", image_embeds=image_embeds).loss  # (B * K,)
    counts = count_scored(batch.labels).view(len(image_embeds), -1).sum(1)
    return losses.view(len(image_embeds), -1).sum(1) / counts.clamp_min(1)
