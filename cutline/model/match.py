"""The matcher's network: does a text belong to an image?

BLIP models/blip_itm.py and models/blip_retrieval.py.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import MatchConfig
from cutline.model.cache import KeysValues
from cutline.model.vision_text import VisionTextModel


class MatchModel(VisionTextModel):
    """Compares images and texts in two ways.

    - Image-text contrastive (ITC): image and text are embedded separately, and compared by their
      cosine.
    - Image-text matching (ITM): the text reads the image through its cross-attention, and a linear
      layer on its first token says whether they match.
    """

    config: MatchConfig

    def __init__(self, config: MatchConfig) -> None:
        super().__init__(config, has_lm_head=False)
        self.vision_proj = nn.Linear(config.vision.embed_dim, config.projection_dim)
        self.text_proj = nn.Linear(config.text.embed_dim, config.projection_dim)
        self.itm_head = nn.Linear(config.text.embed_dim, 2)

    def project_images(self, image_embeds: Tensor) -> Tensor:
        """Return the ITC embeddings (B, P), of unit length, of image_embeds (B, N, D)."""
        return project_first(self.vision_proj, image_embeds)

    def project_texts(self, hidden: Tensor) -> Tensor:
        """Return the ITC embeddings (R, P), of unit length, of hidden states (R, T, D)."""
        return project_first(self.text_proj, hidden)

    def read_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Compute the hidden states of texts alone (`mode="text"` in BLIP's code).

        Args:
            input_ids: (R, T), starting with [CLS], padded on the right.
            attention_mask: (R, T), 1 at tokens and 0 at padding.

        Returns:
            (R, T, D).
        """
        return self.text(input_ids, attention_mask, causal=False)  # type: ignore[no-any-return]

    def read_pairs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        image_embeds: Tensor | None = None,
        image_kv: Sequence[KeysValues] | None = None,
    ) -> Tensor:
        """Compute the hidden states of texts that read images (`mode="multimodal"`).

        Args:
            input_ids: (R, T), starting with [ENC] or [CLS], padded on the right; R = B * K, the K
                texts of an image adjacent.
            attention_mask: (R, T), 1 at tokens and 0 at padding.
            image_embeds: (B, N, D).
            image_kv: What `text.project_image` yields, instead of image_embeds.

        Returns:
            (R, T, D).
        """
        return self.text(  # type: ignore[no-any-return]
            input_ids, attention_mask, image_embeds, causal=False, image_kv=image_kv
        )

    def classify(self, hidden: Tensor) -> Tensor:
        """Return the ITM logits (R, 2), "no match" and "match", of hidden states (R, T, D)."""
        return self.itm_head(hidden[:, 0]).float()  # type: ignore[no-any-return]


def project_first(projection: nn.Linear, hidden: Tensor) -> Tensor:
    """Return the first of the hidden states (B, N, D), projected to unit length, (B, P)."""
    return F.normalize(projection(hidden[:, 0]).float(), dim=-1)


def match_probability(logits: Tensor) -> Tensor:
    """Return the probability (R,) of "match", of ITM logits (R, 2)."""
    return torch.softmax(logits, -1)[:, 1]
