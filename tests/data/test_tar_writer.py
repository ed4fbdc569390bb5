"""Tar files that are written: read by Python's own reader, and whole or absent."""

import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tars import write_tar

from cutline.data.tar_reader import TarSource, iter_all_members, iter_members
from cutline.data.tar_writer import create_tar
from cutline.errors import DataError

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
# Names of folders end with a slash, which tarfile strips.
MEMBERS = st.dictionaries(
    NAMES.map(lambda name: name.strip("/") or "x") | st.sampled_from(["x" * 300, "d/" * 90 + "y"]),
    st.binary(max_size=1200),
    max_size=6,
)


def read_members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


@given(members=MEMBERS, suffix=st.sampled_from([".tar", ".tar.gz"]))
def test_members_are_read_back(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("tar") / f"a{suffix}"
    for _ in range(2):
        with create_tar(path) as tar:
            for name, data in members.items():
                tar.add(name, data)
        assert read_members(path) == members
        content = path.read_bytes()
    assert path.read_bytes() == content  # the same content gives the same file
    with path.open("rb") as file:
        source = TarSource(file, seekable=suffix == ".tar")
        assert [(m.name, source.read_member(m)) for m in iter_members(source)] == [*members.items()]


def test_members_of_every_kind_are_copied_as_they_are(tmp_path: Path) -> None:
    original = tmp_path / "a.tar"
    with tarfile.open(original, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, type in enumerate((tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.REGTYPE)):
            info = tarfile.TarInfo(f"{number}" + "x" * 200 * number)
            info.type, info.linkname, info.mtime = type, "z" * 150, 1.5 + number
            info.size = 700 if type == tarfile.REGTYPE else 0
            archive.addfile(info, BytesIO(b"7" * 700))
    with original.open("rb") as file:
        members = list(iter_all_members(TarSource(file, seekable=True)))
        assert [member.is_file for member in members] == [False, False, True]
        with create_tar(tmp_path / "b.tar") as tar:
            for member in members:
                tar.copy(file, member.start, member.end)
    length = members[-1].end
    assert (tmp_path / "b.tar").read_bytes() == original.read_bytes()[: length + 1024]


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_full_disk_leaves_the_old_file(
    tmp_path: Path, limit_file_size: Callable[[int | None], None], suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    limit_file_size(20_000)
    with (
        pytest.raises(DataError, match=r"a\.tar.*: cannot be written \(File too large\)"),
        create_tar(path) as tar,
    ):
        tar.add("a", b"".join(bytes([n % 251, n % 241, n * n % 239]) for n in range(90_000)))
    limit_file_size(None)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_truncated_source_is_not_copied(tmp_path: Path) -> None:
    shard = Path(write_tar(tmp_path / "a.tar", {"a": b"x" * 5000}))
    with (
        shard.open("rb") as file,
        pytest.raises(tarfile.ReadError, match="unexpected end"),
        create_tar(tmp_path / "b.tar") as tar,
    ):
        tar.copy(file, 0, 1 << 20)
    assert not (tmp_path / "b.tar").exists()
