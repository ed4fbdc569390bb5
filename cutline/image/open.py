"""Anything that holds an image becomes an RGB `PIL.Image`, or one sentence that says why not."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from cutline.errors import ImageError
from cutline.files import ImageRef

ImageSource: TypeAlias = str | Path | bytes | ImageRef | Image.Image | npt.NDArray[np.uint8]
"""A path, the bytes of an image file, a part of a larger file, a PIL image, or an (H, W, 3) uint8 array."""

_BITS_PER_SAMPLE = 258  # TIFF tag
_PILLOW_WARNING = (  # an entry of warnings.filters: action, message, category, module, line
    "ignore",
    None,
    Warning,
    re.compile(r"PIL\."),
    0,
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: ImageSource, max_pixels: int = 100_000_000) -> Image.Image:
    """Open an image as RGB; the first frame, if it has several.

    EXIF orientation is obeyed (the reference does not), transparency is laid on white, and 16-bit, 32-bit and float grey are scaled
    to 8 bits. An upright RGB `PIL.Image` is returned as it is, not copied.

    Raises ImageError for anything else: missing, empty, truncated or corrupt files, files that are no images, arrays of another shape
    or type, and images of more than `max_pixels`, which are refused before they are decoded. (Pillow's own limit,
    2 x `PIL.Image.MAX_IMAGE_PIXELS`, holds as well.)
    """
    name = _name(source)
    if isinstance(source, ImageRef):
        source = source.read()
    with quiet():
        if isinstance(source, np.ndarray):
            source = _from_array(source, name)
        if isinstance(source, Image.Image):
            return _decode(source, name, max_pixels)
        with _identify(source, name, max_pixels) as image:
            return _decode(image, name, max_pixels)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about odd files.

    `warnings.catch_warnings` swaps state of the whole process, which several threads would restore in the wrong order; adding and
    removing one entry of the list commutes.
    """
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _PILLOW_WARNING)
    try:
        yield
    finally:
        filters.remove(_PILLOW_WARNING)


def _name(source: ImageSource) -> str:
    """What error messages call the image."""
    match source:
        case str() | Path() | ImageRef():
            return str(source)
        case bytes():
            return "an image given as bytes"
        case Image.Image():
            return str(getattr(source, "filename", "")) or "an image given as PIL.Image"
        case np.ndarray():
            return "an image given as an array"
    raise ImageError(
        f"an image is a path, bytes, a PIL.Image or an (H, W, 3) uint8 array, not {type(source).__name__}"
    )


def _from_array(array: npt.NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"{name} must be uint8 of shape (H, W, 3), not {array.dtype} of shape {array.shape}; convert it, or give a PIL.Image"
        )
    return Image.fromarray(array)


def _identify(source: str | Path | bytes, name: str, max_pixels: int) -> Image.Image:
    """Read the header only. Raises ImageError."""
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size == 0:
            raise ImageError(
                f"{name}: holds nothing at all; copy it again or leave it out"
            ) from None
        raise ImageError(
            f"{name}: not an image that can be read; save it as JPEG or PNG, or leave it out"
        ) from None
    except FileNotFoundError:
        raise ImageError(f"{name}: no such image; check the path") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: a folder, not an image; name the images in it") from None
    except Image.DecompressionBombError:
        allowed = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageError(
            f"{name}: more than the {allowed:,} pixels allowed; scale the image down"
        ) from None
    except OSError as error:
        if error.errno is None:  # said by a decoder, not by the file system
            raise _broken(name, error) from None
        raise ImageError(
            f"{name}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from None
    except Exception as error:  # a decoder may raise anything on a broken header
        raise _broken(name, error) from None


def _decode(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"{name}: {width} x {height} pixels are more than the {max_pixels:,} allowed; scale the image down"
        )
    if width * height == 0:
        raise ImageError(f"{name}: {width} x {height} pixels hold nothing to see; leave it out")
    if image.format == "EPS":  # Pillow would run Ghostscript on it
        raise ImageError(f"{name}: a PostScript drawing, not an image; save it as JPEG or PNG")
    try:
        image.load()
        return _upright(_to_rgb(image), _orientation(image))
    except Exception as error:  # a decoder may raise anything on broken data
        raise _broken(name, error) from None


def _broken(name: str, error: Exception) -> ImageError:
    return ImageError(
        f"{name}: truncated or corrupt ({_one_line(error)}); copy it again or leave it out"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8. Pillow turns TIFF images itself when it loads them, and then says 1."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF data does not make a broken image
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    if orientation not in _UPRIGHT:
        return image
    turned = image.transpose(_UPRIGHT[orientation])
    turned.info = {}  # or the orientation, still in there, would be obeyed again
    return turned


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bits(np.asarray(image), _white(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        return _flatten(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _flatten(image: Image.Image) -> Image.Image:
    """RGBA laid on white."""
    page = Image.new("RGB", image.size, "white")
    page.paste(image, mask=image.getchannel("A"))
    return page


def _white(image: Image.Image) -> float | None:
    """The grey value that means white, where the format says it: 16 bits, or the 12 of some TIFF files."""
    if not image.mode.startswith("I;16"):
        return None
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))
    return float(2 ** bits[0] - 1)


def _to_8_bits(grey: npt.NDArray[Any], white: float | None) -> npt.NDArray[np.uint8]:
    """Scale (H, W) grey values so that `white` becomes 255.

    32-bit and float images do not say what white is: it is the first of 1, 255 and 65535 that no value exceeds; where none fits,
    or values are negative, their range is stretched.
    """
    values = np.nan_to_num(grey.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    black, high = 0.0, float(values.max())
    if white is None and float(values.min()) >= 0:
        white = next((ceiling for ceiling in (1.0, 255.0, 65535.0) if high <= ceiling), None)
    if white is None:
        black, white = float(values.min()), high
    scale = 255 / (white - black) if white > black else 0.0
    scaled: npt.NDArray[np.uint8] = np.rint((values - black) * scale).clip(0, 255).astype(np.uint8)
    return scaled
