"""Parse XML into elements that know where they are in the file, so that it can be changed there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias
from xml.parsers import expat

from cutline.errors import DataError

XmlName: TypeAlias = tuple[str, str]
"""a namespace, "" for none, and a name in it"""
_SEPARATOR = "\f"  # no XML contains it
_START_TAG = re.compile(rb"""<(?:[^"'>]|"[^"]*"|'[^']*')*>""")


@dataclass
class XmlElement:
    """An element of an XML file, and where it is: positions in bytes."""

    name: XmlName
    tag: str
    """its name as written, with the prefix"""
    start: int
    content_start: int
    is_empty: bool
    """whether its start tag is its end, too"""
    attributes: dict[XmlName, str] = field(default_factory=dict)
    qualified_names: dict[XmlName, str] = field(default_factory=dict)
    """names of attributes as written, with their prefixes"""
    children: list["XmlElement"] = field(default_factory=list)
    content_end: int = 0
    end: int = 0
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return the text between its tags, without that of its children."""
        return "".join(self.texts)

    def find_all(self, name: XmlName) -> Iterator["XmlElement"]:
        """Yield the children of a name."""
        return (child for child in self.children if child.name == name)

    def replace_content(self, data: bytes, content: bytes) -> tuple[int, int, bytes]:
        """Return what is to be replaced, from where to where, so that the element has a content."""
        if not self.is_empty:
            return self.content_start, self.content_end, content
        start_tag = data[self.start : self.content_start].removesuffix(b"/>").rstrip()
        return self.start, self.end, start_tag + b">" + content + f"</{self.tag}>".encode()


def parse_xml(data: bytes, name: str) -> XmlElement:
    """Parse an XML file in UTF-8.

    Nothing is read or expanded but the file itself: a document type, which could define entities,
    is an error.

    Args:
        data: The content of the file.
        name: Name of the file.

    Returns:
        Its root element.

    Raises:
        DataError: It is not well-formed, not in UTF-8, or has a document type.
    """
    try:
        return _Parser(data).parse()
    except (expat.ExpatError, ValueError) as error:
        raise DataError(
            f"{name}: not XML that can be changed ({error}); correct it or remove it"
        ) from None


class _Parser:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._open: list[XmlElement] = []
        self._root: XmlElement | None = None
        self._parser = expat.ParserCreate("utf-8", _SEPARATOR)
        self._parser.namespace_prefixes = True
        self._parser.XmlDeclHandler = self._check_encoding
        self._parser.StartDoctypeDeclHandler = self._refuse_type
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._add_text

    def parse(self) -> XmlElement:
        try:
            self._data.decode()
        except UnicodeDecodeError:  # UTF-16, in which positions would be others
            raise ValueError("it is not UTF-8") from None
        self._parser.Parse(self._data, True)
        assert self._root  # else it would not be well-formed
        return self._root

    def _check_encoding(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and encoding.lower() not in ("utf-8", "us-ascii"):
            raise ValueError(f"its encoding is {encoding}, not UTF-8")

    def _refuse_type(self, *_: object) -> None:
        raise ValueError("it has a document type, which sidecars do not need")

    def _start(self, full_name: str, attributes: dict[str, str]) -> None:
        start = self._parser.CurrentByteIndex
        match = _START_TAG.match(self._data, start)
        assert match
        name, tag = _split_name(full_name)
        element = XmlElement(name, tag, start, match.end(), match[0].endswith(b"/>"))
        for full_name, value in attributes.items():
            name, tag = _split_name(full_name)
            element.attributes[name], element.qualified_names[name] = value, tag
        if self._open:
            self._open[-1].children.append(element)
        self._root = self._root or element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        element = self._open.pop()
        element.content_end = element.end = element.content_start
        if not element.is_empty:
            element.content_end = self._parser.CurrentByteIndex
            element.end = self._data.index(b">", element.content_end) + 1

    def _add_text(self, text: str) -> None:
        self._open[-1].texts.append(text)


def _split_name(name: str) -> tuple[XmlName, str]:
    """Return a name with its namespace, and as it is written with its prefix."""
    parts = name.split(_SEPARATOR)
    if len(parts) == 1:
        return ("", name), name
    namespace, local, *prefix = parts
    return (namespace, local), ":".join([*prefix, local])
