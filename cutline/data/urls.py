"""Images, shards and tables at http and https addresses."""

from dataclasses import dataclass
from typing import IO

from cutline.config import UrlPolicy
from cutline.data.sample import MAX_IMAGE_BYTES
from cutline.errors import DataError, ImageError
from cutline.files import ImageRef
from cutline.messages import format_text
from cutline.web import UrlError, fetch_url, hide_credentials, stream_url


@dataclass(frozen=True, slots=True)
class UrlImage(ImageRef):
    """An image at an http or https address."""

    url: str
    policy: UrlPolicy

    def __str__(self) -> str:
        return hide_credentials(self.url)

    def __repr__(self) -> str:
        return f"UrlImage({str(self)!r})"

    def read(self) -> bytes:
        """Fetch the image file.

        Raises:
            ImageError: It cannot be fetched within the limits of the policy.
        """
        try:
            return fetch_url(self.url, self.policy, MAX_IMAGE_BYTES)
        except UrlError as error:
            raise ImageError(f"{format_text(str(self))}: {error}") from None


def open_url(url: str, policy: UrlPolicy) -> IO[bytes]:
    """Open a large file at an http or https address, to be read from front to back.

    The hosts are checked as for images. The time limit is one of opening the file, and of each
    read that waits for the server; such a read raises OSError.

    Raises:
        DataError: The file cannot be opened.
    """
    try:
        return stream_url(url, policy)
    except UrlError as error:
        raise DataError(f"{format_text(hide_credentials(url))}: {error}") from None
