"""A captioner in training, with a bag-of-words loss: which words the captions of an image have.

A linear head on the mean of the visual tokens sees the whole image, and none of the words before:
the vision encoder learns what is in the image, where the text decoder could guess from the words
that it reads. The head is for training only.
"""

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import CaptionConfig
from cutline.model.caption import IGNORE_INDEX, CaptionModel
from cutline.model.token_merging import split_sizes

BAG_OF_WORDS_HEAD = "bag_of_words_head."
"""prefix of the weights that the captioner does not keep"""


class CaptionTrainingLoss(NamedTuple):
    """The result of `CaptionTrainingModel.forward`."""

    lm: Tensor
    """(), the LM loss, summed over the scored tokens"""
    bag_of_words: Tensor
    """(), that of `BagOfWordsHead`, summed over the images"""


class BagOfWordsHead(nn.Module):
    """Predicts the tokens of an image's captions from its visual tokens, without an order."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__()
        self.linear = nn.Linear(config.vision.embed_dim, config.text.vocab_size)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        nn.init.constant_(self.linear.bias, -math.log(config.text.vocab_size))  # most are absent

    def forward(self, image_embeds: Tensor, scored: Tensor, targets: Tensor) -> Tensor:
        """Compute the binary cross-entropy, summed over the vocabulary.

        The target of a token is the share of the image's captions in which it is scored.

        Args:
            image_embeds: (B, N, D), the class token first.
            scored: (R, T), whether a token is; R = B * K, the K captions of an image adjacent.
            targets: (R, T), the token ids; anything where not scored.

        Returns:
            (B,), the loss of each image times its number of scored tokens, so that the sum over a
            step divided by the step's scored tokens is a weighted mean over images, as for the LM
            loss.
        """
        tokens, _ = split_sizes(image_embeds, self.linear.in_features)
        logits = self.linear(tokens[:, 1:].mean(1)).float()  # (B, V)
        present = logits.new_zeros(len(targets), logits.shape[1]).scatter_reduce(
            1, targets.where(scored, 0), scored.to(logits.dtype), "amax"
        )  # (R, V)
        captions = scored.any(1).view(len(logits), -1).sum(1, keepdim=True)  # (B, 1), up to K
        shares = present.view(len(logits), -1, logits.shape[1]).sum(1) / captions.clamp_min(1)
        losses = F.binary_cross_entropy_with_logits(logits, shares, reduction="none").sum(1)
        weights: Tensor = scored.view(len(logits), -1).sum(1)
        return losses * weights


class CaptionTrainingModel(CaptionModel):
    """A captioner with a head that predicts the words of an image."""

    def __init__(self, config: CaptionConfig) -> None:
        super().__init__(config)
        self.bag_of_words_head = BagOfWordsHead(config)

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        image_embeds: Tensor | None = None,
    ) -> CaptionTrainingLoss:
        """Compute both losses; for the arguments see `CaptionModel.forward`."""
        if image_embeds is None:
            image_embeds = self.vision(pixel_values)
        inputs = (input_ids, attention_mask, labels)
        lm = super().forward(None, *inputs, image_embeds=image_embeds).loss
        targets = labels[:, 1:]
        bag_of_words = self.bag_of_words_head(image_embeds, targets != IGNORE_INDEX, targets).sum()
        return CaptionTrainingLoss(lm, bag_of_words)


def add_bag_of_words_head(model: CaptionModel) -> CaptionTrainingModel:
    """Return a captioner with a copy of the weights, and a new head."""
    training = CaptionTrainingModel(model.config)
    training.load_state_dict(model.state_dict(), strict=False)
    return training
