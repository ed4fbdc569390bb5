"""Tar shards of the source, copied with captions."""

import gzip
import os
import random
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO

import pytest
from fake_engine import caption_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shard_runs import FinishedRun, read_all, read_shards, read_tar, run, run_killed
from tars import write_tar

from cutline.bulk.destination import Destination
from cutline.bulk.dispatch import make_output
from cutline.bulk.inputs import open_collection
from cutline.bulk.manifest import Manifest
from cutline.bulk.shard_copies import ShardCopyOutput, name_copy
from cutline.config import DataSource, Existing, OutputConfig, RunConfig, SourceConfig, UrlPolicy
from cutline.errors import ConfigError, DataError

EXTENSIONS = ["jpg", "PNG", "webp", "txt", "json", "cls", "orig.txt", "bin", "caption"]


def caption_shards(
    source: Path, out: Path, existing: Existing = "skip", stop_after: int = -1, **options: object
) -> FinishedRun:
    """Caption the shards in a folder."""
    state = out.with_name(f"{out.name}.state")
    output = ShardCopyOutput(out, ".txt", existing, is_single=out.suffix == ".tar", **options)
    return run(output, state, read_shards(source, output), stop_after=stop_after)


def write_members(path: Path, members: list[tuple[str, bytes]], format: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as archive:
        for number, (name, data) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 1000 + number, 0o640
            archive.addfile(info, BytesIO(data))


def describe(path: Path) -> list[tuple[str, float, int, bytes]]:
    """Return name, time, mode and content of the members."""
    with tarfile.open(path) as archive:
        return [
            (member.name, member.mtime, member.mode, archive.extractfile(member).read())
            for member in archive
        ]


# ----------------------------------------------------------------------------------------- members

member_lists = st.lists(
    st.tuples(
        st.sampled_from(["0", "d.x/1", "ảnh", "./2", "z" * 120]), st.sampled_from(EXTENSIONS)
    ).map(".".join)
    | st.sampled_from(["README", "d/", ".hidden"]),
    unique_by=lambda name: name.removeprefix("./").lower(),
    max_size=14,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    names=member_lists,
    existing=st.sampled_from(["skip", "overwrite", "append", "prepend"]),
    format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_all_members_are_carried_along_and_captions_come_after_images(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], existing: Existing, format: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    contents = {
        name: b"[]" if name.endswith("json") else f"content of {number}".encode()
        for number, name in enumerate(names)
    }
    write_members(folder / "in" / "a.tar", [*contents.items()], format)
    before = describe(folder / "in" / "a.tar")
    texts = {s.id: s.captions for s in read_tar(str(folder / "in" / "a.tar"))}
    caption_run = caption_shards(folder / "in", folder / "out", existing)
    assert caption_run.complete
    assert not caption_run.failures
    after = describe(folder / "out" / "a.tar")

    has_text = {n.removeprefix("./").removesuffix(".txt") for n in names if n.endswith(".txt")}
    replaced = {
        name
        for name in names
        if name.endswith(".txt")
        and not name.endswith(".orig.txt")
        and f"a.tar/{name.removeprefix('./').removesuffix('.txt')}" in texts
        and existing != "skip"
    }
    kept = [member for member in before if member[0].rstrip("/") not in replaced]
    assert [member for member in after if member in kept] == kept  # byte for byte, in order
    for sample in read_tar(str(folder / "out" / "a.tar")):
        key = sample.id.removeprefix("a.tar/")
        caption = caption_text(sample.image.read())
        original = contents.get(f"{key}.txt", contents.get(f"./{key}.txt", b"")).decode()
        if key not in has_text or existing == "overwrite":
            assert sample.captions == (caption,)
        else:
            lines = {"skip": [original], "append": [original, caption]}
            assert sample.captions == tuple(lines.get(existing, [caption, original]))
        all_members = read_all(folder / "out" / "a.tar")
        if key in has_text and existing != "skip":
            kept_text = contents.get(f"{key}.orig.txt", contents.get(f"./{key}.orig.txt"))
            name = next(n for n in all_members if n.removeprefix("./") == f"{key}.orig.txt")
            assert all_members[name] == (kept_text or original.encode())


def test_caption_is_beside_its_image(tmp_path: Path) -> None:
    members = {"./a.jpg": "A", "./a.cls": "7", "b.png": "B", "b.txt": "old", "c.json": "[]"}
    write_tar(tmp_path / "in" / "x" / "s.tar", members)
    caption_shards(tmp_path / "in", tmp_path / "out", "overwrite")
    assert read_all(tmp_path / "out" / "x" / "s.tar") == {
        "./a.jpg": b"A",
        "./a.cls": b"7",
        "./a.txt": caption_text(b"A").encode(),
        "b.png": b"B",
        "b.txt": caption_text(b"B").encode(),
        "b.orig.txt": b"old",
        "c.json": b"[]",
    }
    assert list(read_all(tmp_path / "out" / "x" / "s.tar"))[2] == "./a.txt"


def test_images_with_a_text_are_skipped_unless_told_otherwise(tmp_path: Path) -> None:
    members = {"a.jpg": "A", "a.TXT": "old", "b.jpg": "B", "b.json": '{"caption": "x"}'}
    write_tar(tmp_path / "in" / "s.tar", members)
    counts = caption_shards(tmp_path / "in", tmp_path / "out").counts
    assert (counts.captioned, counts.existing) == (1, 1)
    assert list(read_all(tmp_path / "out" / "s.tar")) == [*members, "b.txt"]
    assert caption_shards(tmp_path / "in", tmp_path / "new", "overwrite").counts.captioned == 2
    names = ["a.jpg", "a.TXT", "a.orig.txt", "b.jpg", "b.json", "b.txt"]
    assert list(read_all(tmp_path / "new" / "s.tar")) == names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"one\ntwo\n", b"one\ntwo\nNEW"),
        (b"", b"NEW"),
        (b"\xff\xfea\x00", b"a\nNEW"),  # UTF-16
        (b"caf\xe9", b"caf\xe9\nNEW"),  # of no known encoding
    ],
)
def test_line_is_added_to_texts_of_any_encoding(
    tmp_path: Path, text: bytes, expected: bytes
) -> None:
    # The decoding of captions in the source, which reports such texts, is not tested here.
    write_tar(tmp_path / "in" / "s.tar", {"a.jpg": "A", "a.text": text})
    output = ShardCopyOutput(tmp_path / "out", "text", "append")
    run(output, tmp_path / "state", read_shards(tmp_path / "in", output))
    members = read_all(tmp_path / "out" / "s.tar")
    assert members["a.text"] == expected.replace(b"NEW", caption_text(b"A").encode())
    assert members["a.orig.txt"] == text


def test_failed_samples_are_carried_along_without_a_caption(tmp_path: Path) -> None:
    write_tar(tmp_path / "in" / "s.tar", {"a.jpg": "", "b.jpg": "B", "c.txt": "no image"})
    write_tar(tmp_path / "in" / "empty.tar", {})
    caption_run = caption_shards(tmp_path / "in", tmp_path / "out")
    assert [failure.id for failure in caption_run.failures] == ["s.tar/a"]
    assert list(read_all(tmp_path / "out" / "s.tar")) == ["a.jpg", "b.jpg", "b.txt", "c.txt"]
    assert read_all(tmp_path / "out" / "empty.tar") == {}


def test_damaged_shard_is_copied_up_to_the_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard = Path(write_tar(tmp_path / "in" / "s.tar", {"a.jpg": "A", "b.jpg": b"B" * 9000}))
    packed = tmp_path / "in" / "t.tar.gz"
    write_tar(packed, {"a.jpg": "A", "b.jpg": random.Random(0).randbytes(90_000)}, "w:gz")
    os.truncate(packed, packed.stat().st_size - 50_000)
    output = ShardCopyOutput(tmp_path / "out", "txt", "skip")

    def samples():  # type: ignore[no-untyped-def]
        for path, prefix in ((shard, "s.tar"), (packed, "t.tar.gz")):
            assert output.begin_shard(str(path), prefix)
            if path == shard:
                yield from read_tar(str(path))
                os.truncate(path, 4000)  # damaged while it is captioned
            output.end_shard()

    caption_run = run(output, tmp_path / "state", samples())
    assert [failure.id for failure in caption_run.failures] == ["s.tar/b"]
    assert read_all(tmp_path / "out" / "s.tar") == {
        "a.jpg": b"A",
        "a.txt": caption_text(b"A").encode(),
    }
    assert read_all(tmp_path / "out" / "t.tar.gz") == {"a.jpg": b"A"}
    assert caplog.text.count("what follows is not copied") == 2


def test_shard_that_vanishes_is_reported_and_copied_by_a_later_run(tmp_path: Path) -> None:
    for name in "ab":
        write_tar(tmp_path / "in" / f"{name}.tar", {"0.jpg": name})
    opened = ShardCopyOutput(tmp_path / "out", "txt", "skip", open_shard=_missing("a.tar"))
    caption_run = run(opened, tmp_path / "state", read_shards(tmp_path / "in", opened))
    (failure,) = caption_run.failures
    assert failure.id == "a.tar"
    assert "cannot be read again" in failure.reason
    assert opened.describe() == [f"{tmp_path / 'out'}: 1 shard written, 1 not complete yet"]
    again = ShardCopyOutput(tmp_path / "out", "txt", "skip")
    later = run(again, tmp_path / "state", read_shards(tmp_path / "in", again))
    assert later.counts.captioned == 0
    assert sorted(read_all(tmp_path / "out" / "a.tar")) == ["0.jpg", "0.txt"]


def _missing(name: str) -> Callable[[str], IO[bytes]]:
    def open_shard(path: str) -> IO[bytes]:
        if path.endswith(name):
            raise DataError(f"{path}: no such shard")
        return Path(path).open("rb")

    return open_shard


def test_copy_with_captions_of_a_part_whose_number_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(tmp_path / "in" / "s.tar", {"a.jpg": "A"})
    for caption in ("one", "two"):
        monkeypatch.setattr("fake_engine.caption_text", lambda data, caption=caption: caption)
        assert caption_shards(tmp_path / "in", tmp_path / "out").counts.captioned == 1
        assert read_all(tmp_path / "out" / "s.tar")["a.txt"] == caption.encode()
        (part,) = (tmp_path / "out.state").glob("part-*")
        part.unlink()


def test_shard_that_is_being_built_at_the_end_is_left_to_the_next_run(tmp_path: Path) -> None:
    output = ShardCopyOutput(tmp_path / "out", "txt", "skip")
    started = threading.Event()

    def build() -> None:
        with output._create(tmp_path / "out" / "s.tar") as tar:
            while True:
                tar.add("x", b"")
                started.set()

    with Manifest(tmp_path / "state") as manifest:
        output.resume(manifest)
        for _ in range(2):  # the second one waits
            output._start_build(build)
        assert started.wait(10)
        output.close()
        for _ in range(5):  # more than may wait
            output._start_build(build)
    assert not list((tmp_path / "out").iterdir())


def test_no_shard_is_built_after_the_run(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "s.tar", {"a.txt": "no image"})
    output = ShardCopyOutput(tmp_path / "out", "txt", "skip")

    def samples():  # type: ignore[no-untyped-def]
        assert output.begin_shard(shard, "s.tar")
        yield from ()

    run(output, tmp_path / "state", samples())
    output.end_shard()
    output._start_build(partial(output._build, output._current))
    output._raise_error(wait=True)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------- files and parts


def test_compressed_and_remote_shards(tmp_path: Path) -> None:
    members = {"a.jpg": b"A", "b.jpg": b"B", "b.txt": b"old"}
    write_tar(tmp_path / "in" / "s.tar.gz", members, "w:gz")
    write_tar(tmp_path / "in" / "t.tgz", members, "w:gz")
    caption_shards(tmp_path / "in", tmp_path / "out")
    for name in ("s.tar.gz", "t.tgz"):
        assert gzip.decompress((tmp_path / "out" / name).read_bytes())
        text = caption_text(b"A").encode()
        assert read_all(tmp_path / "out" / name) == {**members, "a.txt": text}

    plain = write_tar(tmp_path / "plain.tar", members)
    data = Path(plain).read_bytes()
    output = ShardCopyOutput(
        tmp_path / "far", "txt", "append", open_shard=lambda address: BytesIO(data)
    )

    def samples():  # type: ignore[no-untyped-def]
        assert output.begin_shard("s3://bucket/s.tar", "s.tar")
        for sample in read_tar(plain):
            yield type(sample)(sample.image.read(), (), sample.id.replace("plain", "s", 1))
        output.end_shard()

    run(output, tmp_path / "far.state", samples())
    assert read_all(tmp_path / "far" / "s.tar")["b.txt"] == b"old\n" + caption_text(b"B").encode()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_remote_shard_is_fetched_once_to_be_copied(tmp_path: Path, mode: str) -> None:
    plain = write_tar(tmp_path / "s.tar", {"a.jpg": b"A", "b.jpg": b"B", "b.txt": b"old"})
    data = Path(write_tar(tmp_path / "packed.tar", read_all(Path(plain)), mode)).read_bytes()
    fetched: list[str] = []

    def fetch(address: str) -> IO[bytes]:
        fetched.append(address)
        return BytesIO(data)

    for _ in range(2):
        output = ShardCopyOutput(tmp_path / "out", "txt", "skip", open_shard=fetch)

        def samples(output: ShardCopyOutput = output):  # type: ignore[no-untyped-def]
            for name in ("1.tar", "2.tar"):
                assert output.begin_shard(f"s3://bucket/{name}", name)
                for sample in read_tar(plain):
                    yield replace(sample, id=sample.id.replace("s.tar", name))
                output.end_shard()

        run(output, tmp_path / "state", samples())
        assert not (tmp_path / "state" / "temporary").exists()
    # The second run has to look for texts again: samples with one are not recorded.
    assert fetched[:2] == ["s3://bucket/1.tar", "s3://bucket/2.tar"]
    assert len(fetched) == 4
    assert list(read_all(tmp_path / "out" / "1.tar")) == ["a.jpg", "a.txt", "b.jpg", "b.txt"]


def test_parts_have_whole_shards(tmp_path: Path) -> None:
    for number in range(12):
        write_tar(tmp_path / "in" / f"{number}.tar", {f"{n}.jpg": f"{number} {n}" for n in "ab"})
    for number in range(3):
        output = ShardCopyOutput(tmp_path / "out", "txt", "skip", part=(number, 3))
        config = RunConfig(part=f"{number}/3")
        caption_run = run(
            output, tmp_path / f"state{number}", read_shards(tmp_path / "in", output), config
        )
        assert 0 < caption_run.counts.captioned < 24
    for number in range(12):
        assert len(read_tar(str(tmp_path / "out" / f"{number}.tar"))) == 2
        assert all(sample.captions for sample in read_tar(str(tmp_path / "out" / f"{number}.tar")))


def test_single_shard_is_written_at_every_stop(tmp_path: Path) -> None:
    members = {f"{n}.jpg": f"{n}" for n in range(20)}
    write_tar(tmp_path / "in" / "s.tar", members)
    first = caption_shards(tmp_path / "in", tmp_path / "out.tar", stop_after=7)
    assert sum(bool(s.captions) for s in read_tar(str(tmp_path / "out.tar"))) == 7
    second = caption_shards(tmp_path / "in", tmp_path / "out.tar")
    assert (first.counts.captioned, second.counts.captioned) == (7, 13)
    assert all(s.captions for s in read_tar(str(tmp_path / "out.tar")))


def test_single_shard_cannot_have_the_captions_of_several(tmp_path: Path) -> None:
    shards = [write_tar(tmp_path / f"{name}.tar", {"a.jpg": "A"}) for name in "st"]
    collection = open_collection(shards, SourceConfig(), DataSource(shards[0]), UrlPolicy())
    destination = Destination("shard", tmp_path / "out.tar")
    with pytest.raises(ConfigError, match=r"out\.tar: a single shard.*name a folder"):
        make_output(destination, collection, OutputConfig(), (0, 1), print)


def test_source_is_never_replaced(tmp_path: Path) -> None:
    shard = Path(write_tar(tmp_path / "in" / "s.tar", {"a.jpg": "A"}))
    content = shard.read_bytes()
    with pytest.raises(ConfigError, match=r"s\.tar: the source; name another folder"):
        caption_shards(tmp_path / "in", tmp_path / "in")
    assert shard.read_bytes() == content


@pytest.mark.parametrize("extension", ["json", ".jpg", ".captions.json", ".orig.txt", "x.PNG"])
def test_extensions_of_other_members_are_refused(tmp_path: Path, extension: str) -> None:
    with pytest.raises(ConfigError, match="is that of other files in shards"):
        ShardCopyOutput(tmp_path, extension, "skip")


@given(st.lists(st.text(st.characters()), unique=True, max_size=30))
def test_every_shard_has_a_copy_of_its_own(prefixes: list[str]) -> None:
    names = [str(name_copy(prefix)) for prefix in [*prefixes, "a.tar", "A.TAR", "s3://b/c.tar.gz"]]
    assert len(set(names)) >= len(set(prefixes))
    for name in names:
        assert name.lower().endswith((".tar", ".tar.gz", ".tgz"))
        assert not name.startswith("/")
        assert ".." not in Path(name).parts
    assert names[-3:-1] == ["a.tar", "A.TAR"]


# -------------------------------------------------------------------------------------------- again


def test_only_what_changes_is_written_again(tmp_path: Path) -> None:
    for name in "abc":
        write_tar(tmp_path / "in" / f"{name}.tar", {f"{n}.jpg": name + n for n in "012"})
    caption_shards(tmp_path / "in", tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "a.tar").unlink()
    (tmp_path / "out" / "b.tar").write_bytes(b"damaged")
    caption_run = caption_shards(tmp_path / "in", tmp_path / "out")
    assert caption_run.counts.done_before == 9
    assert caption_run.output.describe() == [f"{tmp_path / 'out'}: 2 shards written"]
    assert (tmp_path / "out" / "c.tar").stat().st_mtime_ns == times["c.tar"]
    assert all(len(read_all(tmp_path / "out" / f"{name}.tar")) == 6 for name in "abc")

    write_tar(tmp_path / "in" / "c.tar", {"0.jpg": "c0", "new.jpg": "new", "1.cls": "1"})
    # Members without a time of change are as old as their shard.
    assert caption_shards(tmp_path / "in", tmp_path / "out").counts.captioned == 2
    assert sorted(read_all(tmp_path / "out" / "c.tar")) == [
        "0.jpg", "0.txt", "1.cls", "new.jpg", "new.txt",
    ]  # fmt: skip


def test_incomplete_shards_are_left_to_the_next_run(tmp_path: Path) -> None:
    for name in "abc":
        write_tar(tmp_path / "in" / f"{name}.tar", {f"{n}.jpg": name + str(n) for n in range(4)})
    for stop_after, written in ((3, 0), (5, 2), (-1, 3)):
        caption_shards(tmp_path / "in", tmp_path / "out", stop_after=stop_after)
        assert len(list((tmp_path / "out").glob("*.tar"))) == written


def test_full_disk_ends_the_run(
    tmp_path: Path, limit_file_size: Callable[[int | None], None]
) -> None:
    write_tar(tmp_path / "in" / "s.tar", {f"{n}.jpg": bytes([n]) * 9000 for n in range(9)})
    limit_file_size(50_000)
    with pytest.raises(DataError, match=r"out.s\.tar: cannot be written \(File too large\)"):
        caption_shards(tmp_path / "in", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
    limit_file_size(None)
    assert caption_shards(tmp_path / "in", tmp_path / "out").counts.captioned == 0
    assert len(read_all(tmp_path / "out" / "s.tar")) == 18


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 3), *(pytest.param(n, 25, marks=pytest.mark.slow) for n in (1, 2, 3))]
)
def test_killed_at_any_file_operation(tmp_path: Path, seed: int, kills: int) -> None:
    for name in "ab":
        members = {f"{n}.jpg": f"{name} {n}" for n in range(6)} | {"x.cls": "1", "0.txt": "old"}
        write_tar(tmp_path / "in" / f"{name}.tar", members)
    caption_shards(tmp_path / "in", tmp_path / "never", "append")
    rng = random.Random(seed)
    operations = iter([rng.randint(1, 40) for _ in range(kills)])
    while run_killed(
        next(operations, 0), caption_shards, tmp_path / "in", tmp_path / "out", "append"
    ):
        pass
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["a.tar", "b.tar"]  # no temporary files
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "never" / name).read_bytes()
