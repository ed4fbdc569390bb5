"""Open images from any source, in any format, as RGB."""

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, UnidentifiedImageError

from cutline.errors import ImageError, ImageFormatError, ImageSizeError
from cutline.files import ImageRef, is_device
from cutline.image.heif import open_heif
from cutline.image.image_lock import lock_image
from cutline.image.libtiff import name_libtiff_errors
from cutline.image.limits import DECODING_MEMORY, MAX_PIXELS, check_ico, check_image
from cutline.image.rgb import to_rgb
from cutline.messages import first_line, one_line

ImageSource: TypeAlias = str | Path | bytes | ImageRef | Image.Image | npt.NDArray[np.uint8]
"""a path, the bytes of an image file, an image inside a larger file, a PIL image, or an (H, W, 3)
uint8 array"""

_REFUSED_FORMATS = {
    "EPS": "a PostScript drawing, not an image",  # which Pillow would run in Ghostscript
    # Their headers do not tell how large the image inside is.
    "BLP": "a BLP texture, which may hold an image of any size",
    "IPTC": "an IPTC record, which may hold an image of any size",
}
# An entry of warnings.filters: action, message, category, module, line.
_PILLOW_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_TRANSPOSE_BY_ORIENTATION = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image as RGB; the first frame, if it has several.

    EXIF orientation is applied (BLIP's code ignores it), transparent pixels are composited on
    white, and 16-bit, 32-bit and float grayscale is scaled to 8 bits.

    Threads that together need more than `DECODING_MEMORY` wait for each other.

    Args:
        source: The image. An RGB `PIL.Image` without EXIF orientation is returned, not copied.
        max_pixels: Limit on width times height, which is checked before decoding. Pillow's own
            limit, 2 x `PIL.Image.MAX_IMAGE_PIXELS`, applies as well.

    Returns:
        The image in RGB.

    Raises:
        ImageError: The image cannot be opened: the file is missing, empty, truncated, corrupt or
            not an image, the array has another shape or type, or the image is too large.
    """
    with hold_image(source, max_pixels) as image:
        return image


@contextmanager
def hold_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open an image as `open_image` does, and count its memory as used until the block ends."""
    name = name_image(source)
    if isinstance(source, ImageRef):
        source = source.read()
    with ExitStack() as memory:
        with silence_pillow():
            image = _open(source, name, max_pixels, memory)
        yield image


def _open(
    source: str | Path | bytes | Image.Image | npt.NDArray[np.uint8],
    name: str,
    max_pixels: int,
    memory: ExitStack,
) -> Image.Image:
    if isinstance(source, np.ndarray):
        source = _from_array(source, name)
    if isinstance(source, Image.Image):
        with lock_image(source):
            return _decode(source, name, max_pixels, memory)
    with _identify(source, name, max_pixels) as image:
        return _decode(image, name, max_pixels, memory, close=True)


@contextmanager
def silence_pillow() -> Iterator[None]:
    """Silence Pillow's warnings about unusual files.

    `warnings.catch_warnings` replaces global state, which concurrent threads would restore in the
    wrong order. Adding and removing one filter is safe in any order.
    """
    filters = cast("list[Any]", warnings.filters)
    filters.insert(0, _PILLOW_FILTER)
    try:
        yield
    finally:
        filters.remove(_PILLOW_FILTER)


def name_image(source: ImageSource) -> str:
    """Return the name of an image in error messages."""
    match source:
        case str() | Path() | ImageRef():
            return one_line(str(source))
        case bytes():
            return "an image given as bytes"
        case Image.Image():
            return one_line(str(getattr(source, "filename", ""))) or "an image given as PIL.Image"
        case np.ndarray():
            return "an image given as an array"
    raise ImageError(
        "an image must be a path, bytes, a PIL.Image or an (H, W, 3) uint8 array, "
        f"not {type(source).__name__}"
    )


def _from_array(array: npt.NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"{name} must be uint8 of shape (H, W, 3), not {array.dtype} of shape {array.shape}; "
            "convert it, or give a PIL.Image"
        )
    return Image.fromarray(array)


def _identify(source: str | Path | bytes, name: str, max_pixels: int) -> Image.Image:
    """Open an image without decoding it. Raises ImageError."""
    try:
        if not isinstance(source, bytes) and is_device(source):
            raise ImageError(f"{name}: a pipe or a device, not an image file; give its bytes")
        # Not Path.open(), because Path("") is the current folder.
        with BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:  # noqa: PTH123
            check_ico(file, name)
        return _read_header(source, name)
    except ImageError:
        raise
    except UnidentifiedImageError:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size == 0:
            raise ImageError(f"{name}: the file is empty; copy it again or remove it") from None
        raise ImageFormatError(
            f"{name}: not an image that can be read; save it as JPEG or PNG, or remove it"
        ) from None
    except FileNotFoundError:
        is_url = "://" in name
        reason = "a URL; download the image" if is_url else "no such image; check the path"
        raise ImageError(f"{name}: {reason}") from None
    except IsADirectoryError:
        raise ImageError(f"{name}: a folder, not an image; give the images in it") from None
    except Image.DecompressionBombError:
        allowed = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise ImageSizeError(
            f"{name}: more than the {allowed:,} pixels allowed; scale the image down"
        ) from None
    except OSError as error:
        if error.errno is None:  # raised by a decoder, not by the file system
            raise _corrupt(name, error) from None
        raise ImageError(
            f"{name}: cannot be opened ({error.strerror}); check the path and its permissions"
        ) from None
    except Exception as error:  # decoders may raise anything for a corrupt header
        raise _corrupt(name, error) from None


def _read_header(source: str | Path | bytes, name: str) -> Image.Image:
    try:
        return Image.open(BytesIO(source) if isinstance(source, bytes) else source)
    except UnidentifiedImageError:
        if image := open_heif(source, name):
            return image
        raise


def _decode(
    image: Image.Image, name: str, max_pixels: int, memory: ExitStack, close: bool = False
) -> Image.Image:
    """Decode an image as RGB; `close` frees the pixels of `image` when they are converted."""
    if image.format in _REFUSED_FORMATS:
        refused = _REFUSED_FORMATS[image.format]
        raise ImageFormatError(f"{name}: {refused}; save it as JPEG or PNG")
    try:
        memory.enter_context(DECODING_MEMORY.reserve(check_image(image, name, max_pixels)))
        with name_libtiff_errors(name):
            image.load()
        rgb, orientation = to_rgb(image), _read_orientation(image)
        if close and rgb is not image:
            image.close()
        return _rotate_upright(rgb, orientation)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it; scale the image down") from None
    except Exception as error:  # decoders may raise anything for corrupt data
        raise _corrupt(name, error) from None


def _corrupt(name: str, error: Exception) -> ImageError:
    return ImageError(
        f"{name}: truncated or corrupt ({first_line(error)}); copy it again or remove it"
    )


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for TIFF and HEIF, which are rotated when loaded."""
    if image.format == "HEIF":  # whose EXIF data may contradict the rotation that counts
        return 1
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # corrupt EXIF data, in an image that may be fine
        return 1


def _rotate_upright(image: Image.Image, orientation: int) -> Image.Image:
    if orientation not in _TRANSPOSE_BY_ORIENTATION:
        return image
    upright = image.transpose(_TRANSPOSE_BY_ORIENTATION[orientation])
    upright.info = {}  # it still contains the orientation, which must not be applied twice
    return upright
