"""Heat-maps from cross-attention weighted by gradients, which need engine eager in fp32.

The weighting is that of ALBEF (Li et al., 2021, arXiv 2107.07651) and of Chefer et al. (2021, arXiv
2103.15679). The gradients take the scales of layer normalization as constant, as Ali et al. (2022,
arXiv 2202.07304) do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutline.captioner import Captioner
from cutline.explanation.merged_tokens import encode_with_assignment, spread_weights
from cutline.explanation.target import Target, list_predicting, pad_captions, sum_words
from cutline.model.text import LMHead


def choose_captioner(captioner: Captioner) -> Captioner:
    """Return a captioner with gradients and the same weights: this one, or its copy.

    Raises:
        ConfigError: There is none, and it cannot be loaded.
        CheckpointError: It cannot be read any more.
    """
    weight = captioner.model.text.token_embed.weight
    is_fp32 = captioner.engine == "eager" and captioner.precision == "fp32"
    return captioner if is_fp32 and not weight.is_inference() else captioner.eager_copy


def map_gradient(captioner: Captioner, targets: Sequence[Target]) -> list[Tensor]:
    """Return the attention of each word to the patches, weighted by its effect: (W, N - 1) each.

    An attention weight counts as far as it raises the log-probability of the word: by its product
    with the gradient of that, if positive. The map is the sum of these over layers, heads, and the
    positions that predict the tokens of the word.
    """
    captioner = choose_captioner(captioner)
    with captioner.inference(), torch.inference_mode(False), torch.enable_grad():
        with torch.no_grad():
            pixels = torch.stack([target.pixels for target in targets])
            image_embeds, assignment = encode_with_assignment(captioner, pixels)
        ids = pad_captions(targets, captioner.device)
        text = captioner.model.text
        # Only so that the attention weights of the first layer have gradients, whatever is frozen.
        image_embeds.requires_grad_()
        hidden, attention = text.forward_with_attention(ids, image_embeds)
        assert isinstance(text.lm_head, LMHead)
        logits = text.lm_head.forward_fixed_scale(hidden[:, :-1], text.token_embed.weight)
        log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        scores = [
            sum_words(row, target.words) for row, target in zip(log_probs, targets, strict=True)
        ]
        return _weigh_words(targets, scores, attention, assignment)


def _weigh_words(
    targets: Sequence[Target],
    scores: Sequence[Tensor],
    attention: Sequence[Tensor],
    assignment: Tensor | None,
) -> list[Tensor]:
    """Return the maps, given the log-probabilities (W,) of the words of each target."""
    maps: list[list[Tensor]] = [[] for _ in targets]
    for number in range(max(map(len, scores))):
        # One backward pass for a word of every target, because no row depends on another.
        total = torch.stack([row[number] for row in scores if number < len(row)]).sum()
        gradients = torch.autograd.grad(total, attention, retain_graph=True)
        products = torch.stack(
            [(a.detach() * g).clamp_min(0) for a, g in zip(attention, gradients, strict=True)]
        ).sum((0, 2))  # (B, T, N)
        products = spread_weights(products, assignment)
        for row, target in enumerate(targets):
            if number < len(target.words):
                word = target.words[number]
                maps[row].append(products[row, list_predicting(word), 1:].sum(0))
    return [torch.stack(rows).cpu() for rows in maps]
