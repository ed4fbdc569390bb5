"""Files are replaced completely or not at all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cutline.files import atomic_write, write_text


def test_writing_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "één")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_keeps_the_old_file_and_no_other(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_keeps_the_old_file(
    tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    limit_file_size(1000)
    with pytest.raises(OSError, match="File too large"):
        write_text(path, "x" * 100_000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_lone_surrogates_are_escaped(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", '{"caf\udce9": "é"}')
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{"caf\\udce9": "é"}'
