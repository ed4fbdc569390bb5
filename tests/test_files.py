"""Files are replaced completely or not at all."""

import ntpath
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import start

from cutline.errors import CutlineError
from cutline.files import (
    atomic_write,
    atomic_writes,
    check_writable,
    relative_path,
    remove_partial,
    write_text,
)


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
def test_devices_are_written_to_not_replaced(tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to(os.devnull)
    write_text(null, "text")
    assert stat.S_ISCHR(null.stat().st_mode)
    assert list(tmp_path.iterdir()) == [null]


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
    with pytest.raises(CutlineError, match="cannot be written"):
        check_writable(tmp_path / ("a" * 300) / "b")
    if Path("/proc/version").exists():  # a file system that is read-only even for root
        with pytest.raises(CutlineError, match=r"version: cannot be written"):
            check_writable("/proc/version")


NAMES = ("weights", "vocabulary", "config")


def write_set(folder: Path, *texts: str) -> None:
    with atomic_writes([folder / name for name in NAMES]) as temporaries:
        for temporary, text in zip(temporaries, texts, strict=True):
            temporary.write_text(text)


def read_set(folder: Path) -> list[str]:
    """Return the contents of the files; those that are missing are empty."""
    paths = [folder / name for name in NAMES]
    return [path.read_text() if path.exists() else "" for path in paths]


def test_files_that_belong_together_are_all_replaced(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_set(tmp_path / "a", *[text] * 3)
        assert read_set(tmp_path / "a") == [text] * 3
    assert len(list((tmp_path / "a").iterdir())) == len(NAMES)


def test_a_full_disk_keeps_all_files_that_belong_together(
    tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    write_set(tmp_path, "old", "old", "old")
    limit_file_size(1000)
    with pytest.raises(OSError, match="File too large"):
        write_set(tmp_path, "new", "new", "x" * 100_000)
    assert read_set(tmp_path) == ["old"] * 3
    assert len(list(tmp_path.iterdir())) == len(NAMES)


def die_while_replacing(folder: Path, calls: int, *texts: str) -> None:
    """Write the files in a process that ends before the given call that changes the folder."""
    remaining = [calls]

    def count(function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            if not remaining[0]:
                os._exit(9)
            remaining[0] -= 1
            return function(*args, **options)

        return call

    Path.replace = count(Path.replace)  # type: ignore[assignment,method-assign]
    Path.unlink = count(Path.unlink)  # type: ignore[assignment,method-assign]
    write_set(folder, *texts)


@pytest.mark.parametrize("calls", range(10))
def test_a_killed_process_leaves_no_mixture(tmp_path: Path, calls: int) -> None:
    write_set(tmp_path, "old", "old", "old")
    start(die_while_replacing, tmp_path, calls, "new", "new", "new").join(120)
    left = read_set(tmp_path)
    assert left in (["old"] * 3, ["new"] * 3) or left[-1] == ""
    written = {
        (file.name.strip(".").split(".")[0], file.read_text()) for file in tmp_path.iterdir()
    }
    assert written.issuperset((name, "new") for name in NAMES)  # if only under temporary names


@pytest.mark.parametrize("calls", range(6))
def test_a_file_that_cannot_be_replaced_leaves_all_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    write_set(tmp_path, "old", "old", "old")
    original = Path.replace
    remaining = [calls]

    def replace(self: Path, target: Path) -> Path:
        remaining[0] -= 1
        if remaining[0] == -1:
            raise PermissionError("in use")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError):
        write_set(tmp_path, "new", "new", "new")
    assert read_set(tmp_path) == ["old"] * 3
    assert len(list(tmp_path.iterdir())) == len(NAMES)


def test_a_folder_in_the_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    write_set(tmp_path, "old", "old", "old")
    (tmp_path / "vocabulary").unlink()
    (tmp_path / "vocabulary").mkdir()
    with pytest.raises(IsADirectoryError, match="vocabulary"):
        write_set(tmp_path, "new", "new", "new")
    assert (tmp_path / "weights").read_text() == (tmp_path / "config").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == len(NAMES)


@pytest.mark.parametrize("calls", range(5))
def test_if_one_file_changes_the_set_is_always_whole(tmp_path: Path, calls: int) -> None:
    write_set(tmp_path, "old", "same", "same")
    start(die_while_replacing, tmp_path, calls, "new", "same", "same").join(120)
    assert read_set(tmp_path) in (["old", "same", "same"], ["new", "same", "same"])


def test_relative_paths_have_slashes_and_end_at_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relative_path(tmp_path / "a" / "b.jpg", tmp_path / "c") == "../a/b.jpg"
    assert relative_path(tmp_path, tmp_path) == "."
    with monkeypatch.context() as patch:
        patch.setattr(os, "path", ntpath)  # the rules of Windows
        name = relative_path("D:/photos/a.jpg", "C:/out")
    assert name.replace("\\", "/") == "D:/photos/a.jpg"
