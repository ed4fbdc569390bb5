"""Text files in several encodings, and broken ones."""

from pathlib import Path

import pytest

from cutline.data.text import parse_json, read_text, split_lines
from cutline.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_is_read_with_or_without_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_bytes("Một chú chó\r\n🐕".encode(encoding))
    assert read_text(tmp_path / "a.txt") == "Một chú chó\r\n🐕"


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("one\ntwo\nün chien\n".encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_text(path)
    assert str(caught.value) == f"{path}, line 3: not UTF-8 text; save the file as UTF-8"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no.txt"
    with pytest.raises(DataError) as caught:
        read_text(path)
    reason = "No such file or directory"
    message = f"{path}: cannot be read ({reason}); check the path and its permissions"
    assert str(caught.value) == message


def test_lines_are_stripped_and_blank_ones_dropped() -> None:
    assert split_lines(" a dog\r\n\n \t\na\u2028cat") == ("a dog", "a\u2028cat")


def test_invalid_json_is_located() -> None:
    with pytest.raises(DataError) as caught:
        parse_json("[1, x]", "a.json, line 3")
    message = "a.json, line 3: not JSON (Expecting value at column 5); correct or remove it"
    assert str(caught.value) == message
