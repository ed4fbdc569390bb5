"""Heat-maps from the raw cross-attention, of any engine and precision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cutline.captioner import Captioner
from cutline.explanation.merged_tokens import encode_with_assignment, spread_weights
from cutline.explanation.target import Target, list_predicting, pad_captions


def map_attention(captioner: Captioner, targets: Sequence[Target]) -> list[Tensor]:
    """Return the attention of each word to the patches: (W, N - 1) for each target.

    It is the mean over layers, heads, and the positions that predict the tokens of the word.
    """
    with captioner.inference():
        pixels = torch.stack([target.pixels for target in targets])
        image_embeds, assignment = encode_with_assignment(captioner, pixels)
        ids = pad_captions(targets, captioner.device)
        layers = captioner.model.text.forward_with_attention(ids, image_embeds)[1]
        weights = spread_weights(torch.stack(layers).mean((0, 2)), assignment)[..., 1:].cpu()
    return [
        torch.stack([row[list_predicting(word)].mean(0) for word in target.words])
        for row, target in zip(weights, targets, strict=True)
    ]
