"""Open HEIC and HEIF images, which Pillow cannot, with pillow-heif."""

from io import BytesIO
from pathlib import Path

from PIL import Image

from cutline.errors import ImageError

_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_ANY_CODEC = {b"mif1", b"msf1"}
_AV1 = {b"avif", b"avis"}  # which Pillow opens
_HEADER_SIZE = 128  # bytes that contain the brands


def open_heif(source: str | Path | bytes, name: str) -> Image.Image | None:
    """Open a HEIC or HEIF image without decoding it.

    Nothing is registered with Pillow, whose users may have other plans.

    Returns:
        The image; None if it is of another format.

    Raises:
        ImageError: pillow-heif is not installed. A corrupt file raises many other errors.
    """
    with BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as header:
        if not is_heif(header.read(_HEADER_SIZE)):
            return None
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(
            f"{name}: HEIC images need pillow-heif, which is not installed: "
            "pip install 'cutline[heic]'"
        ) from None
    file = BytesIO(source) if isinstance(source, bytes) else source
    image: Image.Image = HeifImageFile(file)  # type: ignore[no-untyped-call]
    return image


def is_heif(data: bytes) -> bool:
    """Return whether a file begins as HEIF does: with a box of the brands that it conforms to."""
    header = data[:_HEADER_SIZE]
    end = min(len(header), int.from_bytes(header[:4], "big"))
    brands = {header[start : start + 4] for start in range(8, end, 4)}
    is_one = brands & _HEVC or (brands & _ANY_CODEC and not brands & _AV1)
    return header[4:8] == b"ftyp" and bool(is_one)
