"""`Explanation` and `WordMap`: a caption, and where the captioner looked for each of its words."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from cutline.config import ExplainMethod

HeatMap = npt.NDArray[np.float32]
"""(rows, columns), no value below 0; they sum to 1, or all are 0"""
SMOOTHING = 0.8
"""patches; chosen on other scenes than those of docs/explaining.md"""


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
        """Return the map in pixels: smoothed, and scaled to sum to 1 again.

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
    """Return a map of another size, its height and width.

    It is the sum of a Gaussian for each patch, as high as the value of the patch, with a standard
    deviation of `SMOOTHING` patches. What a captioner knows of an object is in the patches around
    it, too, and the maximum of the sum is on it.
    """
    rows, columns = (weigh_patches(*each) for each in zip(size, values.shape, strict=True))
    return np.asarray(rows @ values @ columns.T, dtype=np.float32)


def weigh_patches(num_pixels: int, num_patches: int) -> HeatMap:
    """Return the Gaussian of each patch along a side at each of its pixels, (pixels, patches)."""
    pixels = (np.arange(num_pixels) + 0.5) * (num_patches / num_pixels)
    distances = pixels[:, None] - (np.arange(num_patches) + 0.5)
    return np.asarray(np.exp(-((distances / SMOOTHING) ** 2) / 2), dtype=np.float32)


def normalize_map(values: torch.Tensor) -> HeatMap:
    """Return the values of the patches (N - 1,) as a map: negative ones become 0, the sum 1."""
    values = values.double().clamp_min(0).nan_to_num(0.0)
    total = values.sum()
    side = round(len(values) ** 0.5)
    shares = values / total if total > 0 else torch.zeros_like(values)
    return np.asarray(shares.view(side, side).float().numpy())
