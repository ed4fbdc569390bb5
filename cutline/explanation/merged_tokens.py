"""Attention to merged tokens, as attention to the patches that they stand for."""

from torch import Tensor

from cutline.captioner import Captioner
from cutline.errors import ConfigError
from cutline.model.token_merging import count_sizes
from cutline.model.vision import VisionTransformer


def encode_with_assignment(captioner: Captioner, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the image_embeds of uint8 pixels (B, 3, S, S), and the assignment of their tokens.

    The assignment (B, N) is that of `token_merging`; None if no tokens merge.

    Raises:
        ConfigError: Tokens merge, and the engine does not say which.
    """
    if not captioner.config.merge_tokens:
        return captioner.encode_images(pixels), None
    if not isinstance(captioner.model.vision, VisionTransformer):
        raise ConfigError(
            f"engine {captioner.engine} does not say which tokens it merges: load the captioner "
            'with engine="packed", or with merge_tokens=0'
        )
    return captioner.model.vision.forward_with_assignment(captioner.normalize_pixels(pixels))


def spread_weights(weights: Tensor, assignment: Tensor | None) -> Tensor:
    """Divide the weight of each merged token evenly between the tokens that it stands for.

    Args:
        weights: (B, T, N').
        assignment: (B, N); None if no tokens merge.

    Returns:
        (B, T, N).
    """
    if assignment is None:
        return weights
    shares = weights / count_sizes(assignment, weights.shape[-1])[:, None]
    return shares.gather(2, assignment[:, None].expand(-1, weights.shape[1], -1))
