"""Images to check, and the findings about them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cutline.check import CheckResult


def make_photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return a smooth image of random colors; no two seeds give images that look alike."""
    colors = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(colors).resize(size, Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str = "JPEG", **settings: object) -> bytes:
    """Return the image as the bytes of a file."""
    data = io.BytesIO()
    image.save(data, kind, **settings)
    return data.getvalue()


def make_copies(image: Image.Image) -> dict[str, bytes]:
    """Return files whose pixels differ from the image's, but which look like it."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return {
        "quality 60": encode(image, quality=60),
        "half size": encode(half, quality=85),
        "webp": encode(image, "WEBP", quality=70),
    }


def kinds_and_names(result: CheckResult) -> list[tuple[str, str]]:
    """Return the kind of each finding and the file name of its image."""
    return [(row.kind, Path(row.image).name) for row in result.findings]
