"""`HeldImage`: an image that waits until its shard is written."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cutline.data import Sample
from cutline.data.remote import RemoteImage
from cutline.data.sample import stamp_image
from cutline.data.urls import UrlImage
from cutline.data.write import not_writable
from cutline.errors import ImageError
from cutline.files import ImageRef
from cutline.messages import format_text


@dataclass(frozen=True, slots=True)
class SavedImage(ImageRef):
    """An image elsewhere, which is kept as it is fetched: it may have changed a moment later."""

    image: ImageRef
    copy: Path

    def __str__(self) -> str:
        return str(self.image)

    def read(self) -> bytes:
        """Fetch the image file, and keep it if the folder of copies is on this machine.

        Raises:
            ImageError: It cannot be fetched.
        """
        data = self.image.read()
        temporary = self.copy.with_name(f"{self.copy.name}.tmp")
        with suppress(OSError):  # without a copy, it is fetched again
            temporary.write_bytes(data)
            temporary.replace(self.copy)
        return data

    def stamp(self) -> str:
        """Return what changes when the image does; empty if unknown."""
        return self.image.stamp()


@dataclass(frozen=True, slots=True)
class HeldImage:
    """Where the bytes of a sample's image can be read."""

    image: str | ImageRef
    name: str
    copy: Path | None = None
    """a file with the bytes, which belongs to the run; it may not be there yet"""

    def read(self, stamp: str) -> bytes:
        """Return the bytes of the image.

        Args:
            stamp: Stamp of the image when it was captioned, with that of its prompt.

        Raises:
            ImageError: It cannot be read, or has been changed since.
        """
        if self.copy and self.copy.exists():
            return self._read_file(self.copy)
        now = stamp_image(self.image)
        if now and now != stamp and not stamp.startswith(f"{now} "):
            raise ImageError(f"{format_text(self.name)}: changed since it was captioned")
        if isinstance(self.image, ImageRef):
            return self.image.read()
        return self._read_file(self.image)

    def _read_file(self, path: str | Path) -> bytes:
        try:
            return Path(path).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ImageError(f"{format_text(self.name)}: cannot be read ({reason})") from None

    def release(self) -> None:
        """Remove the file that belongs to the run."""
        if self.copy:
            self.copy.unlink(missing_ok=True)


def hold_sample(sample: Sample, copy: Path) -> HeldImage:
    """Return where the image of a sample can be read later.

    Args:
        sample: The sample.
        copy: File for its bytes: those that it has, or that are fetched when it is captioned.

    Raises:
        DataError: The file cannot be written.
    """
    image, copy = sample.image, copy.absolute()
    if not isinstance(image, bytes | UrlImage | RemoteImage):
        return HeldImage(image, sample.name)
    try:
        copy.parent.mkdir(exist_ok=True)
        if not isinstance(image, bytes):
            return HeldImage(SavedImage(image, copy), sample.name, copy)
        copy.write_bytes(image)
    except OSError as error:
        raise not_writable(str(copy), error) from None
    return HeldImage(str(copy), sample.name, copy)
