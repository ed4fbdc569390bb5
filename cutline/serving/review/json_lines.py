"""`JsonLinesFile`: JSON Lines, whose rows change in one value only."""

import io
import json
from collections.abc import Iterator
from typing import Any

from cutline.data.row import CAPTION_KEYS, image_folder, parse_row
from cutline.data.text import parse_json
from cutline.data.tolerant import attempt
from cutline.errors import DataError
from cutline.serving.review.formats import FileRow, find_caption_key, make_file_row, name_row
from cutline.serving.review.text_files import BYTE_ORDER_MARK, TextCaptionFile, check_encoding

DEFAULT_KEY = "caption"
"""column of captions in rows of a file that has none"""
_SPACES = " \t\r\n"
_decoder = json.JSONDecoder()


class JsonLinesFile(TextCaptionFile):
    """A file of JSON Lines."""

    usual_key = DEFAULT_KEY

    def _parse(self, text: str) -> Iterator[tuple[str, FileRow | DataError | None]]:
        root = image_folder(self.path, self.source)
        for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
            row: FileRow | DataError | None = None
            if line.strip():
                row = attempt(self._parse_line, line, root, f"{self.path}, line {number}")
            yield line, row

    def _parse_line(self, line: str, root: str, where: str) -> FileRow:
        check_encoding(line, where)
        values = parse_json(line.removeprefix(BYTE_ORDER_MARK).removesuffix("\n"), where)
        sample = parse_row(values, root, where, self.source.columns)
        assert isinstance(values, dict)  # as `parse_row` has checked
        key = find_caption_key(values, self.source, self.usual_key)
        if key in values:
            self.usual_key = key
        name = name_row(values, self.source)
        return make_file_row(sample, name, values.get(key), values.get("confidence"))

    def parse_raw(self, raw: str) -> FileRow:
        """Return what a line says that is not in the file any more."""
        root = image_folder(self.path, self.source)
        return self._parse_line(raw, root, f"{self.path}, a line")

    def replace_caption(self, raw: str, text: str) -> str:
        """Return a line that is a row, with another caption and nothing else changed."""
        spans = find_members(raw)
        keys = {*CAPTION_KEYS, self.source.columns.caption_column} & spans.keys()
        values = {key: json.loads(raw[slice(*spans[key])]) for key in keys}
        key = find_caption_key(values, self.source, self.usual_key)
        old = values.get(key)
        value = json.dumps(text.split("\n") if isinstance(old, list) else text, ensure_ascii=False)
        if key in spans:
            start, end = spans[key]
            return raw[:start] + value + raw[end:]
        end = raw.rindex("}")
        comma = ", " if spans else ""
        return f"{raw[:end].rstrip(_SPACES)}{comma}{json.dumps(key)}: {value}{raw[end:]}"

    def read_columns(self, position: int) -> dict[str, Any]:
        """Return the columns of a row."""
        line = self.read_raw(position).removeprefix(BYTE_ORDER_MARK)
        values: dict[str, Any] = json.loads(line)
        return values


def find_members(line: str) -> dict[str, tuple[int, int]]:
    """Return where the value of each key of a JSON object begins and ends."""
    spans = {}
    position = line.index("{") + 1
    while line[position := _skip_spaces(line, position)] != "}":
        key, position = _decoder.raw_decode(line, position)
        start = _skip_spaces(line, line.index(":", position) + 1)
        _, position = _decoder.raw_decode(line, start)
        spans[key] = (start, position)
        position = _skip_spaces(line, position)
        position += line[position] == ","
    return spans


def _skip_spaces(text: str, position: int) -> int:
    while text[position] in _SPACES:
        position += 1
    return position
