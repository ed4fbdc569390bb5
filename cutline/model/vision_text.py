"""`VisionTextModel`: the vision encoder and the BERT that captioner and matcher share."""

from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from cutline.config import CaptionConfig, MatchConfig
from cutline.model.activation_checkpointing import CheckpointPolicy
from cutline.model.text import TextTransformer
from cutline.model.vision import VisionTransformer


class VisionTextModel(nn.Module):
    """A Vision Transformer, and a BERT with cross-attention to the image."""

    config: CaptionConfig | MatchConfig
    text_class: ClassVar[type[TextTransformer]] = TextTransformer

    def __init__(
        self, config: CaptionConfig | MatchConfig, has_lm_head: bool, merge_tokens: int = 0
    ) -> None:
        super().__init__()
        self.config, self.merge_tokens = config, merge_tokens
        self.vision = VisionTransformer(config.vision, merge_tokens)
        self.text = self.text_class(config.text, config.vision.embed_dim, has_lm_head)

    @property
    def embeds_shape(self) -> tuple[int, int]:
        """Return the shape of an image's image_embeds: (N, D), or (N', D + 1) if tokens merge."""
        vision = self.config.vision
        num_merged = sum(vision.list_merges_per_block(self.merge_tokens))
        return vision.num_tokens - num_merged, vision.embed_dim + (self.merge_tokens > 0)

    def checkpoint_activations(
        self, vision_blocks: int = 0, text: bool = False, selective: bool = False
    ) -> None:
        """Recompute activations in the backward pass instead of saving them.

        Args:
            vision_blocks: Number of vision blocks with the policy "full", counted from the last.
            text: Whether all text layers have the policy "full".
            selective: Whether the other layers have the policy "selective", else "none".
        """
        default: CheckpointPolicy = "selective" if selective else "none"
        depth = len(self.vision.blocks)
        self.vision.checkpoint_policies = [
            "full" if block >= depth - vision_blocks else default for block in range(depth)
        ]
        self.text.checkpoint_policy = "full" if text else default

    def compile_layers(self) -> None:
        """Compile each layer at its first call, in place: names and weights stay the same."""
        for layer in self.iter_layers():
            layer.compile()

    def iter_layers(self) -> Iterator[nn.Module]:
        """Yield the blocks of the vision encoder, and the layers of the text side."""
        yield from (*self.vision.blocks, *self.text.layers)
