"""Images to check, and what was found of them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cutline.check import Findings


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Coarse random colours, smoothly blended: no two alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **settings: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **settings)  # type: ignore[arg-type]
    return data.getvalue()


def copies(image: Image.Image) -> dict[str, bytes]:
    """The image, saved again in ways that do not change what is seen."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return {
        "quality 60": encoded(image, quality=60),
        "half": encoded(half, quality=85),
        "webp": encoded(image, "WEBP", quality=70),
    }


def kinds(findings: Findings) -> list[tuple[str, str]]:
    return [(row.kind, Path(row.image).name) for row in findings.rows]
