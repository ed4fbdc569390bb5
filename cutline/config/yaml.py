"""Read a YAML file as plain values, strictly and with limits.

Words without quotes are read as PyYAML reads them, with these differences: 1e-5 is a number; dates,
times such as 1:30 and integers that begin with 0, such as 010, are strings. Keys are strings.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml

from cutline.errors import ConfigError
from cutline.files import is_device
from cutline.messages import format_name

# Limits far above any recipe. Without them a small file could take hours, or all memory.
MAX_BYTES = 100_000
"""size of a file"""
MAX_DEPTH = 20
"""mappings and lists inside each other"""
MAX_NODES = 5_000
"""keys, values, mappings and lists; an alias counts as what it repeats"""
MAX_NUMBER_LENGTH = 100
"""characters of a number"""

_CONSTANTS = {"": None, "~": None} | {
    spelling: value
    for word, value in (
        *(("null", None), ("true", True), ("yes", True), ("on", True)),
        *(("false", False), ("no", False), ("off", False)),
    )
    for spelling in (word, word.capitalize(), word.upper())
}
_DIGITS = "[0-9][0-9_]*"
_INTEGER = re.compile("[-+]?(0|[1-9][0-9_]*)")
_HEXADECIMAL = re.compile("[-+]?0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    rf"[-+]?(({_DIGITS}(\.[0-9_]*)?|\.{_DIGITS})[eE][-+]?[0-9]+|{_DIGITS}\.[0-9_]*|\.{_DIGITS})"
)
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAG_PREFIX = "tag:yaml.org,2002:"
_PLAIN_TAGS = {None, "!", *(f"{_TAG_PREFIX}{name}" for name in ("str", "seq", "map"))}
"""tags that change nothing but whether a word is a string"""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file of one document.

    Raises:
        ConfigError: The file cannot be read, is not YAML, or exceeds a limit of this module; the
            message names the file and the line.
    """
    text = ""
    try:
        text = _read_text(Path(path))
        return _Reader(text).read_document()
    except yaml.YAMLError as error:
        reason = _explain(error, text)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a YAML file in UTF-8; save it in this encoding") from None
    except (ValueError, OverflowError):  # an escape or a version that Python cannot represent
        reason = "a number or an escape such as \\U is out of range"
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    raise ConfigError(f"{path}: not a YAML file ({reason}); correct the YAML")


def _read_text(path: Path) -> str:
    try:
        if is_device(path):
            raise ConfigError("the recipe cannot be read (it is not a file); check the path")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror
        raise ConfigError(f"the recipe cannot be read ({reason}); check the path") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"larger than {MAX_BYTES} bytes, so it is not a recipe; check the path")
    return content.decode("utf-8-sig")


def _explain(error: yaml.YAMLError, text: str) -> str:
    """Return the reason of an error of the YAML parser, on one line."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"line {line}: the character {chr(error.character)!r} is not allowed"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    return f"line {line}: {' '.join(filter(None, (error.context, error.problem)))}"


class _Reader:
    """Reads the parser's events, and counts them."""

    def __init__(self, text: str) -> None:
        self.events: Iterator[Any] = yaml.parse(text, yaml.SafeLoader)
        self.num_nodes = 0
        self.anchors: dict[str, tuple[Any, int]] = {}
        """name of an anchor → its value and number of nodes"""

    def read_document(self) -> Any:
        """Return the value of the only document, or None if there is no document."""
        value = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _reject(event, "a second document begins; use one file for each recipe")
                value = self.read_value(next(self.events), 0)
        return value

    def read_value(self, event: Any, depth: int) -> Any:
        """Return the value that begins with `event`, inside `depth` mappings and lists."""
        if isinstance(event, yaml.AliasEvent):
            return self.repeat(event)
        self.count(event, 1)
        before = self.num_nodes
        if event.tag not in _PLAIN_TAGS:
            tag = format_name(event.tag.replace(_TAG_PREFIX, "!!"))
            _reject(event, f"the tag {tag} is not supported; remove it")
        if depth == MAX_DEPTH:
            _reject(event, f"nested more than {MAX_DEPTH} times; remove a level")
        if isinstance(event, yaml.ScalarEvent):
            value = _read_scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self.read_list(depth + 1)
        else:
            value = self.read_mapping(depth + 1)
        if event.anchor:
            self.anchors[event.anchor] = value, self.num_nodes - before + 1
        return value

    def count(self, event: Any, nodes: int) -> None:
        """Count nodes, and raise ConfigError beyond the limit."""
        self.num_nodes += nodes
        if self.num_nodes > MAX_NODES:
            _reject(event, f"more than {MAX_NODES} keys and values, aliases included; remove some")

    def repeat(self, event: Any) -> Any:
        """Return the value of an alias."""
        if event.anchor not in self.anchors:
            _reject(event, f"no &{format_name(event.anchor)} comes before this alias; correct it")
        value, nodes = self.anchors[event.anchor]
        self.count(event, nodes)
        return value

    def read_list(self, depth: int) -> list[Any]:
        """Return the values up to the end of a list."""
        values = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            values.append(self.read_value(event, depth))
        return values

    def read_mapping(self, depth: int) -> dict[str, Any]:
        """Return the keys and values up to the end of a mapping, those of merge keys included."""
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self.count(event, 1)
            key, line = _read_key(event), event.start_mark.line + 1
            value = self.read_value(next(self.events), depth)
            if key == "<<":
                merged = {**_merge(event, value), **merged}
            elif key in lines:
                first = f"it is already in line {lines[key]}"
                _reject(event, f"the key `{format_name(key)}` occurs twice, {first}; remove one")
            else:
                values[key], lines[key] = value, line
        return {**merged, **values}


def _merge(event: Any, value: Any) -> dict[str, Any]:
    """Return the values of a merge key, in which the first of several mappings counts."""
    merged: dict[str, Any] = {}
    for mapping in value if isinstance(value, list) else [value]:
        if not isinstance(mapping, dict):
            _reject(event, "the key `<<` needs a mapping, or a list of mappings; correct it")
        merged = {**mapping, **merged}
    return merged


def _read_key(event: Any) -> str:
    if not isinstance(event, yaml.ScalarEvent):
        _reject(event, "a key is not the name of a setting; correct the key")
    key: str = event.value
    return key


def _read_scalar(event: Any) -> Any:
    text = event.value
    if _SURROGATE.search(text):
        _reject(event, "the text contains half of a surrogate pair; correct the \\u escape")
    if event.style or event.tag:  # in quotes, or with the tag of a string
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    is_integer, is_float = _INTEGER.fullmatch(text), _FLOAT.fullmatch(text)
    is_hexadecimal = _HEXADECIMAL.fullmatch(text)
    if (is_integer or is_float or is_hexadecimal) and len(text) > MAX_NUMBER_LENGTH:
        _reject(event, f"a number of {len(text)} characters is too long; shorten it")
    if is_integer:
        return int(text.replace("_", ""))
    if is_hexadecimal:
        return int(text, 16)
    if is_float:
        return float(text.replace("_", ""))
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


def _reject(event: Any, problem: str) -> NoReturn:
    raise ConfigError(f"line {event.start_mark.line + 1}: {problem}")
