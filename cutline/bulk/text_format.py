"""What text files hold: captions as lines, or as the description of an XMP sidecar."""

from pathlib import Path

from cutline.bulk.text_edit import read_content
from cutline.data.text import decode_text
from cutline.data.xmp import DEFAULT_LANGUAGE, read_descriptions, replace_description
from cutline.errors import DataError

XMP_EXTENSION = ".xmp"


class TextFormat:
    """A file whose lines are captions.

    Attributes:
        keeps_image_extension: Whether the file of a.jpg is always a.jpg.txt.
    """

    keeps_image_extension = False

    def has_captions(self, path: Path) -> bool:
        """Return whether a file has captions already."""
        return path.exists()

    def read_lines(self, content: bytes | None, name: str) -> list[str]:
        """Return the captions in a file.

        Args:
            content: Its content; None if there is none.
            name: Name of the file.

        Raises:
            DataError: It is not of this format.
        """
        return _split(decode_text(content or b"", name))

    def replace_lines(self, content: bytes | None, lines: list[str], name: str) -> str:
        """Return the content of a file with other captions; "" for no file.

        Raises:
            DataError: It is not of this format.
        """
        return "".join(f"{line}\n" for line in lines)


class XmpFormat(TextFormat):
    """An XMP sidecar, which photo managers read; other things than the description stay."""

    keeps_image_extension = True

    def has_captions(self, path: Path) -> bool:
        """Return whether an XMP sidecar has a description, in any language."""
        try:
            content = read_content(path)
            texts = read_descriptions(content, str(path)) if content is not None else {}
        except DataError:  # which is reported when it is to be changed
            return False
        return any(map(str.strip, texts.values()))

    def read_lines(self, content: bytes | None, name: str) -> list[str]:
        """Return the lines of the description in the default language."""
        texts = read_descriptions(content, name) if content is not None else {}
        text = texts.get(DEFAULT_LANGUAGE, "")
        return _split(text) if text.strip() else []

    def replace_lines(self, content: bytes | None, lines: list[str], name: str) -> str:
        """Return the content of a sidecar with another description."""
        if content is None and not lines:
            return ""
        return replace_description(content, "\n".join(lines), name).decode()


def choose_text_format(extension: str) -> TextFormat:
    """Return what files of an extension hold."""
    return XmpFormat() if extension.lower() == XMP_EXTENSION else TextFormat()


def _split(text: str) -> list[str]:
    text = text.removesuffix("\n")
    return text.split("\n") if text else []
