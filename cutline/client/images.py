"""What is sent of an image: its address, or the bytes of an image file."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from cutline.errors import ImageError
from cutline.files import ImageRef, is_device
from cutline.messages import first_line, one_line
from cutline.web import hide_credentials, is_web_address

ImageInput: TypeAlias = str | Path | bytes | ImageRef | Image.Image | npt.NDArray[np.uint8]
"""a path, an http or https address, the bytes of an image file, an image inside a larger file, a
PIL image, or an (H, W, 3) uint8 array"""

_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_TIFF_MODES = {"CMYK", "F", "I", "LAB", "PA", "RGBX"}
_loading = Lock()


def list_images(images: ImageInput | Sequence[ImageInput]) -> list[ImageInput]:
    """Return a list of images, given one image, a sequence of images or a (B, H, W, 3) array."""
    is_sequence = isinstance(images, Sequence) and not isinstance(images, str | bytes)
    if is_sequence or (isinstance(images, np.ndarray) and images.ndim == 4):
        return list(cast("Sequence[ImageInput]", images))
    return [cast(ImageInput, images)]


def name_input(image: ImageInput, index: int) -> str:
    """Return the name of an image in errors: its path or address, or else its number."""
    if isinstance(image, str | Path | ImageRef):
        return one_line(hide_credentials(str(image)))
    return f"image {index}"


def encode_input(image: ImageInput, name: str) -> dict[str, str]:
    """Return the JSON of an image; a file is read now.

    Args:
        image: The image.
        name: Its name in errors.

    Raises:
        ImageError: It cannot be read, or is not of one of the types.
    """
    if isinstance(image, str) and is_web_address(image):
        return {"url": image}
    return {"data": b64encode(_read_image(image, name)).decode()}


def _read_image(image: Any, name: str) -> bytes:
    match image:
        case bytes():
            return image
        case str() | Path():
            return _read_file(image, name)
        case ImageRef():
            return image.read()
        case np.ndarray():
            return _write_image(_from_array(image, name), name)
        case Image.Image():
            return _write_image(image, name)
    raise ImageError(
        f"{name}: an image must be a path, bytes, a PIL.Image or an (H, W, 3) uint8 array, "
        f"not {type(image).__name__}"
    )


def _read_file(path: str | Path, name: str) -> bytes:
    try:
        if is_device(path):
            raise ImageError(f"{name}: a pipe or a device, not an image file; give its bytes")
        with open(path, "rb") as file:  # noqa: PTH123  # Path("") is the current folder
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"{name}: cannot be read ({reason}); check the path and its permissions"
        ) from None


def _from_array(array: npt.NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ImageError(
            f"{name} must be uint8 of shape (H, W, 3), not {array.dtype} of shape {array.shape}; "
            "convert it, or give a PIL.Image"
        )
    return Image.fromarray(array)


def _write_image(image: Image.Image, name: str) -> bytes:
    """Return an image file without loss, with the EXIF orientation of the image."""
    file = BytesIO()
    try:
        with _loading:  # Pillow cannot load an image in two threads at once
            image.load()
        if image.mode not in _PNG_MODES | _TIFF_MODES:
            image = image.convert("RGB")
        file_format = "PNG" if image.mode in _PNG_MODES else "TIFF"
        image.save(file, file_format, exif=image.getexif(), compress_level=1)
    except Exception as error:  # decoders, which may run only now, raise anything
        raise ImageError(
            f"{name}: cannot be read ({first_line(error)}); give another image"
        ) from None
    return file.getvalue()
