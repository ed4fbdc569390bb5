"""Heat-maps by occlusion: how much less likely a word is when a part of the image is hidden.

Zeiler and Fergus, 2014, arXiv 1311.2901.
"""

import torch
from torch import Tensor

from cutline.captioner import Captioner
from cutline.config import ExplainConfig, VisionConfig
from cutline.errors import ConfigError
from cutline.explanation.target import Target, sum_words
from cutline.progress import Progress

DEFAULT_WINDOWS = 4
"""by default, a window is as wide as the image divided by this"""


def list_offsets(vision: VisionConfig, config: ExplainConfig) -> tuple[int, list[int]]:
    """Return the side of a window, in patches, and its offsets along a side of the image.

    The offsets begin at 0 and end with a window at the other edge.

    Args:
        vision: Sizes of the image and of its patches.
        config: Window and stride.

    Raises:
        ConfigError: The window is larger than the image.
    """
    grid = vision.image_size // vision.patch_size
    window = config.window or max(1, grid // DEFAULT_WINDOWS)
    stride = config.stride or max(1, window // 2)
    if window > grid:
        raise ConfigError(f"window {window} is above the {grid} patches of a side: lower it")
    if stride > window:
        raise ConfigError(f"stride {stride} is above window {window}: lower it")
    return window, sorted({*range(0, grid - window, stride), grid - window})


def map_occlusion(
    captioner: Captioner,
    target: Target,
    config: ExplainConfig,
    batch_size: int,
    progress: Progress,
) -> Tensor:
    """Return how much the log-probability of each word drops where the image is hidden.

    Square windows of the image are replaced by its mean color, one at a time. The value of a patch
    is the mean over the windows that cover it.

    Returns:
        (W, N - 1).
    """
    vision = captioner.config.vision
    grid = vision.image_size // vision.patch_size
    window, offsets = list_offsets(vision, config)
    corners = [(top, left) for top in offsets for left in offsets]
    with captioner.inference():
        whole = score_words(captioner, target, target.pixels[None])[0]
        drops = torch.zeros(len(target.words), grid, grid, dtype=torch.float64)
        counts = torch.zeros(grid, grid, dtype=torch.float64)
        batches = [corners[i : i + batch_size] for i in range(0, len(corners), batch_size)]
        for batch in progress(batches, len(batches), "hiding parts of the image"):
            pixels = [hide(target.pixels, corner, window, vision.patch_size) for corner in batch]
            scores = score_words(captioner, target, torch.stack(pixels))
            for (top, left), score in zip(batch, scores, strict=True):
                rows, columns = slice(top, top + window), slice(left, left + window)
                drops[:, rows, columns] += (whole - score)[:, None, None]
                counts[rows, columns] += 1
    return (drops / counts).flatten(1)


def hide(pixels: Tensor, corner: tuple[int, int], window: int, patch_size: int) -> Tensor:
    """Return the pixels (3, S, S) with a square window, given in patches, in their mean color."""
    top, left = (patch_size * offset for offset in corner)
    side = patch_size * window
    hidden = pixels.clone()
    mean = pixels.float().mean((1, 2), keepdim=True).round().to(torch.uint8)
    hidden[:, top : top + side, left : left + side] = mean
    return hidden


def score_words(captioner: Captioner, target: Target, pixels: Tensor) -> Tensor:
    """Return the log-probability of each word in each of the images (B, 3, S, S): (B, W)."""
    image_embeds = captioner.encode_images(pixels)
    ids = torch.tensor([target.token_ids] * len(pixels), device=captioner.device)
    text = captioner.model.text
    logits = text.compute_logits(text(ids, None, image_embeds)[:, :-1]).double()
    log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return sum_words(log_probs, target.words).cpu()
