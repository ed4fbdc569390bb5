"""Captions sampled from the model that is being trained.

Shapes: B images, n samples of each, T tokens.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, Prompts, generate
from cutline.metrics.diversity import compute_diversity
from cutline.model import CaptionModel, make_lm_labels
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import pad_token_ids
from cutline.training.tasks.scst_reward import SampledCaption

SAMPLE_VALUES = ("caption_length", "unfinished", "distinct1", "distinct2")
"""what the log says of samples: words, share without end token, distinct words and bigrams"""


@dataclass(frozen=True)
class Samples:
    """The samples of B images."""

    captions: list[list[SampledCaption]]
    """n of each image"""
    token_ids: list[list[int]]
    """of each sample, B * n, with prompt and end token"""
    prompt_lengths: list[int]
    """of each sample"""

    def compute_log_probs(self, model: nn.Module, image_embeds: Tensor) -> Tensor:
        """Return the log-probability of each sample, its end token included: (B, n)."""
        device = image_embeds.device
        ids, mask = (tensor.to(device) for tensor in pad_token_ids(self.token_ids, pad_id=0))
        labels = make_lm_labels(ids, mask, torch.tensor(self.prompt_lengths, device=device))
        losses: Tensor = model(
            None, ids, mask, labels, "none", image_embeds=image_embeds, label_smoothing=0.0
        ).loss
        return -losses.view(len(image_embeds), -1)

    def describe(self, split: Callable[[str], list[str]]) -> dict[str, Tensor]:
        """Return what the log says of samples, summed over them, by the names in `SAMPLE_VALUES`.

        Distinct-n is that of the samples of each image.

        Args:
            split: Returns the tokens of a text.
        """
        sums = dict.fromkeys(SAMPLE_VALUES, 0.0)
        for row in self.captions:
            diversity = compute_diversity([split(caption.text) for caption in row])
            sums["caption_length"] += len(row) * diversity.mean_length
            sums["unfinished"] += sum(not caption.is_finished for caption in row)
            sums["distinct1"] += len(row) * diversity.distinct1
            sums["distinct2"] += len(row) * diversity.distinct2
        return {name: torch.tensor(value) for name, value in sums.items()}


class Sampler:
    """Samples captions from the undistorted distribution of a model, or searches greedily."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        """Set the tokenizer of the models, and the length of captions in tokens."""
        self.tokenizer = tokenizer
        self.config = GenerationConfig(
            sample=True, temperature=1.0, top_k=0, top_p=1.0, min_length=0, max_length=max_length
        )
        self.greedy_config = GenerationConfig(num_beams=1, min_length=0, max_length=max_length)

    def sample(
        self,
        model: CaptionModel,
        image_embeds: Tensor,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        num_samples: int,
    ) -> Samples:
        """Sample captions of each image.

        Args:
            model: The model.
            image_embeds: (B, N, D).
            prompts: The prompt of each image.
            seeds: One per image.
            num_samples: Captions of each image.
        """
        config = replace(self.config, num_captions=num_samples)
        return self._generate(model, image_embeds, prompts, config, seeds)

    def search_greedily(
        self, model: CaptionModel, image_embeds: Tensor, prompts: Sequence[Sequence[int]]
    ) -> Samples:
        """Caption each image by greedy search; arguments as for `sample`."""
        return self._generate(model, image_embeds, prompts, self.greedy_config)

    @torch.no_grad()
    def _generate(
        self,
        model: CaptionModel,
        image_embeds: Tensor,
        prompts: Sequence[Sequence[int]],
        config: GenerationConfig,
        seeds: Sequence[int] | None = None,
    ) -> Samples:
        padded = self._pad_prompts(prompts, image_embeds.device)
        cache = model.prefill_images(image_embeds, padded.input_ids.shape[1], padded.attention_mask)
        # Compiled layers would be compiled again for each number of tokens.
        with torch.compiler.set_stance("force_eager"):
            found = generate(model.step, cache, padded, config, seeds)
        # A model that has diverged samples nothing. The loss of anything else then tells it.
        nothing = Hypothesis((), math.nan)
        rows = [row + [nothing] * (config.num_captions - len(row)) for row in found]
        return self._collect(rows, prompts)

    def _pad_prompts(self, prompts: Sequence[Sequence[int]], device: torch.device) -> Prompts:
        rows = [torch.tensor(prompt, device=device) for prompt in prompts]
        ids = pad_sequence(rows, batch_first=True, padding_value=-1, padding_side="left")
        return Prompts(ids.clamp_min(0), ids >= 0, self.tokenizer.sep_id)

    def _collect(
        self, rows: Sequence[Sequence[Hypothesis]], prompts: Sequence[Sequence[int]]
    ) -> Samples:
        captions = [[self._decode(each) for each in row] for row in rows]
        end = self.tokenizer.sep_id
        token_ids = [
            [*prompt, *each.token_ids, *[end] * each.is_finished]
            for prompt, row in zip(prompts, rows, strict=True)
            for each in row
        ]
        lengths = [len(prompt) for prompt, row in zip(prompts, rows, strict=True) for _ in row]
        return Samples(captions, token_ids, lengths)

    def _decode(self, hypothesis: Hypothesis) -> SampledCaption:
        return SampledCaption(self.tokenizer.decode(hypothesis.token_ids), hypothesis.is_finished)
