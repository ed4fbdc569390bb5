"""`Explanation` and `WordMap`: a caption, and where the captioner looked for each of its words."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from cutline.config import ExplainMethod

HeatMap = npt.NDArray[np.float32]
"""(rows, columns), no value below 0; they sum to 1, or all are 0"""


@dataclass(frozen=True, eq=False)
class WordMap:
    """A word of a caption, and where the captioner looked for it."""

    text: str
    start: int
    """where the word begins in the caption"""
    end: int
    """where it ends"""
    map: HeatMap = field(repr=False)
    """the share of each patch, by row and column; all 0 if the method finds none"""
    image_size: tuple[int, int] = field(repr=False)
    """height and width of the image, in pixels"""

    def upsample(self, size: tuple[int, int] | None = None) -> HeatMap:
        """Return the map in pixels: interpolated bilinearly, and scaled to sum to 1 again.

        The captioner sees the image squeezed to a square, so the map is stretched to its shape.

        Args:
            size: Height and width (default: those of the image).
        """
        pixels = resize_map(self.map, size or self.image_size)
        total = float(pixels.sum(dtype=np.float64))
        return pixels / np.float32(total) if total > 0 else pixels


@dataclass(frozen=True, eq=False)
class Explanation:
    """A caption of an image, and where the captioner looked for each of its words."""

    text: str
    """the caption as the captioner reads it, which is lower case for BLIP; without the prompt"""
    words: tuple[WordMap, ...]
    """its words in order, without punctuation"""
    method: ExplainMethod
    """how the maps were computed"""


def resize_map(values: HeatMap, size: tuple[int, int]) -> HeatMap:
    """Interpolate a map bilinearly to a size, which is its height and width."""
    grid = torch.from_numpy(values)[None, None]
    resized = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
    return np.asarray(resized[0, 0].numpy())


def normalize_map(values: torch.Tensor) -> HeatMap:
    """Return the values of the patches (N - 1,) as a map: negative ones become 0, the sum 1."""
    values = values.double().clamp_min(0).nan_to_num(0.0)
    total = values.sum()
    side = round(len(values) ** 0.5)
    shares = values / total if total > 0 else torch.zeros_like(values)
    return np.asarray(shares.view(side, side).float().numpy())
