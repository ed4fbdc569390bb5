"""Images and files at the addresses that fsspec knows, such as `s3://`, `hf://` and `memory://`.

Addresses are never chained, as in `simplecache::s3://`: each is read from one file system only.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import IO, Any, cast

from cutline.data.sample import MAX_IMAGE_BYTES
from cutline.errors import ConfigError, CutlineError, DataError, ImageError
from cutline.files import ImageRef, is_device
from cutline.messages import first_line, format_name, format_text
from cutline.web import hide_credentials, is_web_address

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(::\S+)?://")
_WRAPPER_NAMES = (
    "async_wrapper asynclocal asyncwrapper blockcache cached dask data dir filecache generic http "
    "https libarchive reference simplecache tar zip"
)
_WRAPPERS = frozenset(_WRAPPER_NAMES.split())
"""file systems that read what other addresses, or a template, name"""
_STORE_NAMES = "abfs abfss adl az file gcs gs hf local memory oss s3 s3a"
_STORES = frozenset(_STORE_NAMES.split())
"""file systems whose addresses name no host, so that they cannot lead into a private network"""
_VERSION_KEYS = (
    "ETag",
    "etag",
    "blob_id",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "updated",
    "modified",
    "created",
)
"""what file systems call a hash of a file or the time of its last change"""


@dataclass(frozen=True, slots=True)
class RemoteImage(ImageRef):
    """An image file at an address that fsspec knows."""

    address: str
    size: int | None = None
    """bytes, if a listing has told"""
    modified: str = ""
    """hash or time of the last change, if a listing has told"""
    name: str = ""
    """path within the folder or pattern that was listed"""

    def __str__(self) -> str:
        return hide_credentials(self.address)

    def read(self) -> bytes:
        """Return the bytes of the image file.

        Raises:
            ImageError: It cannot be read, or is too large.
        """
        data = b""
        if (size := self.size or 0) <= MAX_IMAGE_BYTES:
            with remote_errors(self.address, ImageError):
                filesystem, path = open_filesystem(self.address)
                data = filesystem.cat_file(path, 0, MAX_IMAGE_BYTES + 1)
        if max(size, len(data)) > MAX_IMAGE_BYTES:
            raise ImageError(
                f"{_name(self.address)}: it has more than {MAX_IMAGE_BYTES:,} bytes; remove it"
            )
        return data

    def stamp(self) -> str:
        """Return the size, and a hash or the time of the last change; empty if unknown."""
        if self.modified:
            return f"{self.size}-{self.modified}"
        try:
            filesystem, path = open_filesystem(self.address)
            info = filesystem.info(path)
        except Exception:  # each file system has errors of its own
            return ""
        return f"{info.get('size')}-{find_version(info)}"


def is_remote_address(text: str) -> bool:
    """Return whether a text is an address for fsspec, though maybe an invalid one."""
    return bool(_ADDRESS.match(text)) and not is_web_address(text)


def is_store_address(text: str) -> bool:
    """Return whether an address is one of an object store, or of a file on this machine.

    Only these may be in data, which somebody else may have written.
    """
    match = _ADDRESS.match(text)
    return match is not None and not match[2] and match[1].lower() in _STORES


def open_remote(address: str) -> IO[bytes]:
    """Open a file for reading. Errors of later reads are those of the file system.

    Raises:
        DataError: It cannot be opened.
        ConfigError: The package that reads such addresses is not installed.
    """
    with remote_errors(address, DataError):
        filesystem, path = open_filesystem(address)
        if address.startswith("memory:"):  # all files opened there share one position
            return BytesIO(filesystem.cat_file(path))
        return cast(IO[bytes], filesystem.open(path, "rb"))


def open_filesystem(address: str) -> tuple[Any, str]:
    """Return the file system of an address, as fsspec calls it, and the path in it.

    Raises:
        DataError: The address is invalid.
        ConfigError: The package that reads such addresses is not installed.
    """
    match = _ADDRESS.match(address)
    if not match or match[2] or (protocol := match[1].lower()) in _WRAPPERS:
        raise DataError(
            f"{_name(address)}: not an address of one file system; "
            "give one such as s3://bucket/folder, or copy the files to this machine"
        )
    implementation = _load_implementation(protocol, address)
    address = protocol + address[len(protocol) :]
    path = str(implementation._strip_protocol(address))
    if protocol in ("file", "local") and is_device(path):
        raise DataError(f"{_name(address)}: not a regular file")
    # Not `fsspec.url_to_fs`, which takes `::` in the name of a file for a chain.
    return implementation(**implementation._get_kwargs_from_urls(address)), path


def _load_implementation(protocol: str, address: str) -> Any:
    from fsspec.registry import get_filesystem_class  # type: ignore[import-untyped]

    try:
        return get_filesystem_class(protocol)
    except ValueError:
        raise DataError(
            f"{_name(address)}: {format_name(protocol)}:// is unknown; "
            "give an address such as s3://bucket/folder, or install the package that reads it"
        ) from None
    except ImportError as error:
        package = str(getattr(error.__cause__, "name", "")).partition(".")[0] or "its package"
        raise ConfigError(
            f"{_name(address)}: needs {package}, which is not installed: pip install {package}"
        ) from None


@contextmanager
def remote_errors(address: str, kind: type[CutlineError]) -> Iterator[None]:
    """Turn the errors of file systems, which are of many types, into the type `kind`."""
    try:
        yield
    except CutlineError as error:
        if kind is DataError:
            raise
        raise kind(str(error)) from None
    except Exception as error:
        raise kind(
            f"{_name(address)}: cannot be read ({_explain(error)}); "
            "check the address and your access to it"
        ) from None


def _explain(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return getattr(error, "strerror", None) or first_line(error)


def _name(address: str) -> str:
    return format_text(hide_credentials(address))


def find_version(info: Mapping[str, Any]) -> str:
    """Return a hash of a file, or the time of its last change, from what a file system says."""
    value = next((info[key] for key in _VERSION_KEYS if info.get(key)), "")
    return str(value.timestamp() if isinstance(value, datetime) else value).strip('"')
