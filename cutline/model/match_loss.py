"""The losses of a matcher: image-text contrastive (ITC) and image-text matching (ITM).

BLIP models/blip_retrieval.py.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def find_positives(image_keys: Tensor, text_keys: Tensor) -> Tensor:
    """Return which texts belong to which images, (B, R) booleans.

    Args:
        image_keys: (B, K), the keys of the texts that belong to an image, padded with 0.
        text_keys: (R,), the key of each text, above 0.
    """
    return (image_keys[:, None] == text_keys[None, :, None]).any(-1)


def contrastive_loss(
    similarities: Tensor,
    positives: Tensor,
    momentum_similarities: Tensor | None = None,
    alpha: float = 0.0,
) -> Tensor:
    """Compute the cross-entropy of finding the positives of each row; the mean over the rows, ().

    Args:
        similarities: (R, M), cosines divided by the temperature.
        positives: (R, M), true where row and column belong together; each row's target is uniform
            over them.
        momentum_similarities: (R, M), those of momentum encoders, whose softmax is a soft target.
        alpha: Weight of the soft target, from 0 to 1; that of the other one is 1 - alpha.
    """
    targets = positives / positives.sum(1, keepdim=True).clamp(min=1)
    if momentum_similarities is not None:
        targets = alpha * momentum_similarities.softmax(1) + (1 - alpha) * targets
    return -(F.log_softmax(similarities, 1) * targets).sum(1).mean()


def draw_negatives(similarities: Tensor, positives: Tensor) -> Tensor:
    """Draw a hard negative for each row, with probabilities of the softmax of the similarities.

    Args:
        similarities: (R, M), cosines divided by the temperature.
        positives: (R, M), true where row and column belong together; these are never drawn.

    Returns:
        (R,), the column of each row's negative; -1 for a row without candidates.
    """
    has_candidates = ~positives.all(1)
    if not has_candidates.any():
        return torch.full_like(has_candidates, -1, dtype=torch.long)
    # Softmax over the candidates alone: beside a positive, all of theirs might round to 0.
    weights = similarities.masked_fill(positives, -torch.inf).softmax(1)
    weights = weights.where(has_candidates[:, None], 1.0)
    return torch.multinomial(weights, 1).squeeze(1).where(has_candidates, -1)


def matching_loss(positive_logits: Tensor, negative_logits: Tensor) -> Tensor:
    """Compute the cross-entropy of telling pairs that match from pairs that do not; the mean, ().

    Args:
        positive_logits: (P, 2), "no match" and "match", of pairs that match.
        negative_logits: (N, 2), of pairs that do not.
    """
    logits = torch.cat([positive_logits, negative_logits])
    labels = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    labels[: len(positive_logits)] = 1
    return F.cross_entropy(logits, labels)
