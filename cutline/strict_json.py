"""JSON in which no object has a key twice, of which other parsers drop one silently."""

import json
import re
from collections import Counter
from contextlib import suppress
from typing import Any

from cutline.messages import format_name

_STRING_OR_END = re.compile(r'"(?:[^"\\]|\\.)*"|\}', re.DOTALL)


class RepeatedKeyError(ValueError):
    """An object has a key twice; the message names the key."""


def parse_strict_json(text: str) -> Any:
    """Parse JSON.

    Raises:
        json.JSONDecodeError: The text is not JSON.
        RepeatedKeyError: An object has a key twice.
        ValueError: A number has thousands of digits, or the text is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def find_repeated_key(text: str) -> int:
    """Return the position of the brace at the end of the first object that has a key twice."""
    ends = (match.start() for match in _STRING_OR_END.finditer(text) if match[0] == "}")

    def check(pairs: list[tuple[str, object]]) -> int:
        _make_object(pairs)
        return next(ends)

    with suppress(RepeatedKeyError):
        json.loads(text, object_pairs_hook=check)
    return next(ends)


def _make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(values := dict(pairs)) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        key = format_name(counts.most_common(1)[0][0])
        raise RepeatedKeyError(f"the key `{key}` occurs twice in an object")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_make_object)
