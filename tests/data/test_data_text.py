"""Text files in several encodings, and broken ones."""

from pathlib import Path

import pytest

from cutline.data.text import iter_lines, parse_json, read_text, split_lines
from cutline.data.tolerant import raise_errors
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


def test_repeated_keys_are_named_with_their_line() -> None:
    text = '[\n{"a": {}, "b": "}\\""},\n{"c": 1, "c\\u0061": 2, "ca": 3}\n]'
    with pytest.raises(DataError) as caught:
        parse_json(text, "a.json")
    message = "a.json, line 3: the key `ca` occurs twice in an object; remove or rename one"
    assert str(caught.value) == message
    with pytest.raises(DataError, match=r"^row 7: the key `a\\nb` occurs twice"):
        parse_json('{"a\\nb": 1, "a\\nb": 1}', "row 7")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000])
def test_json_that_python_cannot_parse_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match="not JSON that can be parsed"):
        parse_json(text, "a.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_are_those_of_the_text(tmp_path: Path, encoding: str) -> None:
    text = "a\r\nb\u2028c\n\n" + "d" * 100_000
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    lines = raise_errors(iter_lines(tmp_path / "a.txt"))
    assert [line.removesuffix("\n") for line in lines] == text.split("\n")


def test_a_line_that_is_too_long_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cutline.data.text.MAX_LINE_BYTES", 1000)
    (tmp_path / "a.txt").write_text(f"{'x' * 998}\n{'x' * 1000}\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2: longer than"):
        list(raise_errors(iter_lines(tmp_path / "a.txt")))


def test_utf32_is_not_taken_for_utf16(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("a dog".encode("utf-32"))
    with pytest.raises(DataError, match="not UTF-8 text"):
        read_text(tmp_path / "a.txt")
