"""`HeldImage`: an image that waits until its shard is written."""

from dataclasses import dataclass
from pathlib import Path

from cutline.data import Sample
from cutline.data.sample import stamp_image
from cutline.errors import ImageError
from cutline.files import ImageRef
from cutline.messages import format_text


@dataclass(frozen=True, slots=True)
class HeldImage:
    """Where the bytes of a sample's image can be read."""

    image: str | ImageRef
    name: str
    is_copy: bool = False
    """whether the file belongs to the run"""

    def read(self, stamp: str) -> bytes:
        """Return the bytes of the image.

        Args:
            stamp: Stamp of the image when it was captioned, with that of its prompt.

        Raises:
            ImageError: It cannot be read, or has been changed since.
        """
        now = "" if self.is_copy else stamp_image(self.image)
        if now and now != stamp and not stamp.startswith(f"{now} "):
            raise ImageError(f"{format_text(self.name)}: changed since it was captioned")
        if isinstance(self.image, ImageRef):
            return self.image.read()
        try:
            return Path(self.image).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{format_text(self.name)}: cannot be read ({reason})") from None

    def release(self) -> None:
        """Remove the file if it belongs to the run."""
        if self.is_copy and isinstance(self.image, str):
            Path(self.image).unlink(missing_ok=True)


def hold_sample(sample: Sample, copy: Path) -> HeldImage:
    """Return where the image of a sample can be read later; bytes are written to the file `copy`.

    Raises:
        OSError: The file cannot be written.
    """
    if not isinstance(sample.image, bytes):
        return HeldImage(sample.image, sample.name)
    copy.parent.mkdir(exist_ok=True)
    copy.write_bytes(sample.image)
    return HeldImage(str(copy), sample.name, is_copy=True)
