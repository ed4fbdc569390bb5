"""Text files beside images or in a folder: never lost, never written twice."""

import json
import os
from pathlib import Path

import pytest
from fake_engine import FakeEngine, caption_text
from hypothesis import given
from hypothesis import strategies as st

from cutline.bulk.manifest import Manifest
from cutline.bulk.record import Record
from cutline.bulk.run import CaptionRun
from cutline.bulk.state import remove_state
from cutline.bulk.text_names import has_namesake, path_for_id
from cutline.bulk.text_output import TextOutput
from cutline.config import Existing
from cutline.data import Sample
from cutline.errors import ConfigError


def run(
    images: Path,
    existing: Existing = "skip",
    engine: FakeEngine | None = None,
    folder: Path | None = None,
    extension: str = ".txt",
) -> CaptionRun:
    """Caption the .jpg and .png files of a folder."""
    paths = sorted(path for path in images.rglob("*") if path.suffix in (".jpg", ".png"))
    samples = [Sample(str(path), (), path.relative_to(images).as_posix()) for path in paths]
    state = (folder or images) / ".cutline"
    with Manifest(state) as manifest:
        caption_run = CaptionRun(manifest, TextOutput(folder, images, extension, existing))
        caption_run.run(samples, engine or FakeEngine())
        return caption_run


def texts(folder: Path, pattern: str = "*.txt") -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob(pattern))
    }


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("a.jpg", "b.jpg", "sub/c.jpg", "d.v2.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def line(name: str) -> str:
    return caption_text(name.encode()) + "\n"


def test_writes_beside_images_and_in_a_folder_like_theirs(images: Path, tmp_path: Path) -> None:
    run(images)
    expected = {f"{n}.txt": line(f"{n}.jpg") for n in ("a", "b", "d.v2", "sub/c")}
    assert texts(images) == expected
    run(images, folder=tmp_path / "out")
    assert texts(tmp_path / "out") == expected
    run(images, extension=".caption", folder=tmp_path / "other")
    assert len(texts(tmp_path / "other", "*.caption")) == 4


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        ("skip", "by hand\nagain\n"),
        ("overwrite", line("a.jpg")),
        ("append", "by hand\nagain\n" + line("a.jpg")),
        ("prepend", line("a.jpg") + "by hand\nagain\n"),
    ],
)
def test_existing_files(images: Path, existing: Existing, expected: str) -> None:
    (images / "a.txt").write_text("by hand\nagain\n")
    counts = run(images, existing).counts
    assert (images / "a.txt").read_text() == expected
    assert counts.existing == (existing == "skip")
    for _ in range(2):  # once is enough
        engine = FakeEngine()
        run(images, existing, engine)
        assert (images / "a.txt").read_text() == expected
        assert engine.ids == []


@pytest.mark.parametrize("existing", ["append", "prepend"])
def test_a_changed_image_replaces_its_own_line_only(images: Path, existing: Existing) -> None:
    (images / "a.txt").write_text("by hand")
    run(images, existing)
    (images / "a.jpg").write_bytes(b"changed")
    run(images, existing)
    lines = ["by hand", caption_text(b"changed")]
    assert (images / "a.txt").read_text().split("\n")[:-1] == lines[
        :: 1 if existing == "append" else -1
    ]


def test_a_recorded_name_stays_when_another_image_joins(images: Path) -> None:
    run(images)
    (images / "a.png").write_bytes(b"a.png")
    run(images)
    assert texts(images)["a.txt"] == line("a.jpg")
    assert texts(images)["a.png.txt"] == line("a.png")
    (images / "a.jpg").write_bytes(b"changed")
    run(images, "overwrite")
    assert texts(images)["a.txt"] == caption_text(b"changed") + "\n"
    assert "a.jpg.txt" not in texts(images)


def test_a_removed_text_is_written_again_without_captioning(images: Path) -> None:
    run(images)
    expected = texts(images)
    (images / "b.txt").unlink()
    engine = FakeEngine()
    run(images, engine=engine)
    assert engine.ids == []
    assert texts(images) == expected


@pytest.mark.parametrize("existing", ["overwrite", "append", "prepend"])
@pytest.mark.parametrize("changed", [False, True])
def test_a_killed_run_changes_files_later_once(
    images: Path, existing: Existing, changed: bool
) -> None:
    """Records are committed, and the process ends before any of the files is changed."""
    (images / "a.txt").write_text("by hand\n")
    with Manifest(images / ".cutline") as manifest:
        output = TextOutput(None, images, ".txt", existing)
        output.resume(manifest)
        for name in ("a.jpg", "b.jpg"):
            sample = Sample(str(images / name), (), name)
            status = (images / name).stat()
            stamp = f"{status.st_size}-{status.st_mtime_ns}"
            edit = output.plan_edit(sample, [caption_text(name.encode())])
            manifest.add(Record(name, stamp, {"caption": edit.text}, edit=edit))
        manifest.commit()
    if changed:
        (images / "a.txt").write_text("by hand, later\n")
    for _ in range(2):
        run(images, existing)
    expected = {"overwrite": "{c}", "append": "by hand\n{c}", "prepend": "{c}by hand\n"}[existing]
    text = "by hand, later\n" if changed else expected.format(c=line("a.jpg"))
    assert (images / "a.txt").read_text() == text  # what somebody changed is theirs
    assert (images / "b.txt").read_text() == line("b.jpg")


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("before", ["by hand", "by hand\nagain\n", "\ufeffby hand\r\n"])
def test_a_new_run_undoes_what_the_last_one_wrote(
    images: Path, existing: Existing, before: str
) -> None:
    (images / "a.txt").write_bytes(before.encode())
    run(images, existing)
    (images / "b.txt").write_text("corrected by hand\n")
    remove_state(images / ".cutline", TextOutput(None, images, ".txt", existing).forget)
    assert (images / "a.txt").read_bytes() == before.encode()
    assert list(texts(images)) == ["a.txt", "b.txt"]
    assert (images / "b.txt").read_text() == "corrected by hand\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_text_in_another_encoding_can_be_overwritten(images: Path, encoding: str) -> None:
    (images / "a.txt").write_text("café", encoding)
    assert run(images, "overwrite").counts.failed == 0
    (images / "a.jpg").write_bytes(b"changed")
    assert run(images, "overwrite").counts.failed == 0
    expected = caption_text(b"changed") + "\n"
    assert (images / "a.txt").read_text() == expected
    remove_state(images / ".cutline", TextOutput(None, images, ".txt", "overwrite").forget)
    assert texts(images) == {"a.txt": expected}  # what was there cannot be restored


def test_lines_in_utf_16_are_kept(images: Path) -> None:
    (images / "a.txt").write_text("café\nau lait", "utf-16")
    run(images, "append")
    (images / "a.jpg").write_bytes(b"changed")
    run(images, "append")
    assert texts(images)["a.txt"] == f"café\nau lait\n{caption_text(b'changed')}\n"


def test_text_that_is_not_utf_8_is_left_alone_and_listed(images: Path) -> None:
    (images / "a.txt").write_bytes(b"caf\xe9")
    caption_run = run(images, "append")
    assert caption_run.counts.failed == 1
    assert (images / "a.txt").read_bytes() == b"caf\xe9"
    assert len(texts(images / "sub")) == 1


def test_an_image_without_a_file_has_no_place_beside_it(images: Path) -> None:
    output = TextOutput(None, Path("images"), ".txt", "skip")
    with pytest.raises(ConfigError, match="name a folder or a file as output"):
        output.skips(Sample(b"bytes", (), "shard.tar/0"))


def test_names_never_overwrite_an_image(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.PNG", "b.jpg", "odd.txt", "c.jpg.jpg", "c.jpg"):
        (tmp_path / name).touch()
    assert {
        name: has_namesake(str(tmp_path / name), ".txt")
        for name in ("a.jpg", "a.PNG", "b.jpg", "odd.txt", "c.jpg.jpg", "c.jpg")
    } == {
        "a.jpg": True,  # a.jpg.txt
        "a.PNG": True,
        "b.jpg": False,  # b.txt
        "odd.txt": True,
        "c.jpg.jpg": True,
        "c.jpg": False,
    }


characters = st.characters(exclude_categories=())  # lone surrogates, too


@given(st.text(characters, min_size=1), st.text(characters, min_size=1))
def test_paths_stand_for_ids_and_stay_in_their_folder(one: str, other: str) -> None:
    for id in (one, f"../{one}", f"/{one}", f"https://host/{one}?q", one * 300):
        path = path_for_id(id)
        assert not path.is_absolute()
        assert ".." not in path.parts
        os.fsencode(path)
        assert "\0" not in str(path)
        assert all(len(part.encode("utf-8", "surrogateescape")) < 230 for part in path.parts)
    assert (path_for_id(one) == path_for_id(other)) == (one == other)


def test_rows_name_the_text(images: Path) -> None:
    run(images)
    part = next((images / ".cutline").glob("part-*.jsonl")).read_text().splitlines()[0]
    assert json.loads(part)["edit"]["original"] == ""


def test_a_changed_image_is_captioned_again_though_its_text_exists(images: Path) -> None:
    run(images)
    (images / "b.txt").write_text("corrected by hand\n")
    for name in ("a.jpg", "b.jpg"):
        (images / name).write_bytes(f"changed {name}".encode())
    counts = run(images).counts
    assert (counts.captioned, counts.existing) == (1, 1)
    assert (images / "a.txt").read_text() == line("changed a.jpg")
    assert (images / "b.txt").read_text() == "corrected by hand\n"
    remove_state(images / ".cutline", TextOutput(None, images, ".txt", "skip").forget)
    assert list(texts(images)) == ["b.txt"]


def test_folders_can_be_moved_and_named_from_elsewhere(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(Path("images"))
    expected = texts(images)
    images.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    (tmp_path / "moved" / "a.txt").unlink()
    engine = FakeEngine()
    run(Path(), engine=engine)
    assert engine.ids == []
    assert texts(tmp_path / "moved") == expected


def test_a_text_that_cannot_be_written_is_listed_and_the_others_are_written(
    images: Path,
) -> None:
    (images / "a.txt").mkdir()
    caption_run = run(images, "append")
    assert caption_run.counts.failed == 1
    assert sorted(path.name for path in images.rglob("*.txt") if path.is_file()) == [
        "b.txt",
        "c.txt",
        "d.v2.txt",
    ]


def test_ids_that_are_no_paths_keep_their_extension(images: Path, tmp_path: Path) -> None:
    a, b = (str(images / name) for name in ("a.jpg", "b.jpg"))
    samples = [Sample(a, (), "1.png"), Sample(b, (), "1.jpg")]
    with Manifest(tmp_path / "state") as manifest:
        output = TextOutput(tmp_path / "out", images, ".txt", "skip")
        CaptionRun(manifest, output).run(samples, FakeEngine())
    assert texts(tmp_path / "out") == {"1.jpg.txt": line("b.jpg"), "1.png.txt": line("a.jpg")}
