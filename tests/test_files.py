"""Files are replaced completely or not at all."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cutline.errors import CutlineError
from cutline.files import atomic_write, check_writable, remove_partial, write_text


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


@pytest.mark.skipif(os.name == "nt", reason="links need privileges on Windows")
def test_links_and_devices_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "disk" / "file.txt"
    link.symlink_to(target)
    write_text(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"
    null = tmp_path / "null"
    null.symlink_to(os.devnull)
    write_text(null, "text")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)  # noqa: PTH116
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link.txt", "null"]


def test_only_temporary_files_of_the_named_files_are_removed(tmp_path: Path) -> None:
    names = [".a.txt.123.tmp", ".b.txt.123.tmp", ".a.txt.old.tmp", ".a.txt.1.tmp.tmp", "a.txt"]
    for name in names:
        (tmp_path / name).touch()
    remove_partial([tmp_path / "a.txt", tmp_path / "no-folder" / "a.txt"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


@pytest.mark.parametrize("name", ["a.txt", "new", "new/folder/a.txt", "old.txt", "."])
def test_checking_changes_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "old.txt").write_text("old")
    check_writable(tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CutlineError, match=r"file/a\.txt: cannot be written \(Not a directory\)"):
        check_writable(tmp_path / "file" / "a.txt")
    if Path("/proc/version").exists():  # a file system that is read-only even for root
        with pytest.raises(CutlineError, match=r"version: cannot be written"):
            check_writable("/proc/version")
