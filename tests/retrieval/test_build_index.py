"""Make and update indexes of real images: what is embedded, and what is refused."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from index_files import read_index
from PIL import Image

import cutline
from cutline.bulk.record import Failure
from cutline.config import InferenceConfig, MatcherOptions, SourceConfig
from cutline.data.sample import stamp_image
from cutline.errors import ConfigError, DataError
from cutline.matcher import Matcher
from cutline.retrieval import (
    ImageSources,
    IndexListener,
    IndexSettings,
    IndexSummary,
    build_index,
    update_index,
)


def test_the_index_holds_what_the_matcher_computes(
    photos: Path, indexed: IndexSummary, matcher: Matcher
) -> None:
    assert (indexed.count, indexed.counts.embedded, indexed.failures) == (12, 12, ())
    assert indexed.folder == photos / ".cutline" / "index"
    embeddings = read_index(indexed.folder)
    assert list(embeddings)[-2:] == ["sub/scene-000010.png", "sub/scene-000011.png"]
    expected = matcher.embed_images([photos / name for name in embeddings])
    np.testing.assert_allclose(list(embeddings.values()), expected, atol=1e-6)


def test_an_update_embeds_only_what_is_new(
    photos: Path, scenes: list[Path], matcher_folder: Path, tmp_path: Path
) -> None:
    """After any changes, the index is that of the folder as it is now."""
    rng = random.Random(5)
    for step in range(5):
        before = {path: stamp_image(str(path)) for path in photos.rglob("*.png")}
        for path in rng.sample(sorted(before), 2):
            path.unlink()
        for path in rng.sample(sorted(photos.rglob("*.png")), 2):
            shutil.copy(rng.choice(scenes), path)
            os.utime(path, ns=(step, step))
        for number in range(2):
            shutil.copy(rng.choice(scenes), photos / f"new-{step}-{number}.png")
        summary = build_index(photos, matcher_folder, precision="fp32")
        kept = sum(stamp_image(str(path)) == stamp for path, stamp in before.items())
        if step == 0:
            assert summary.counts.embedded == 12
            continue
        assert summary.counts.unchanged == kept
        assert summary.counts.embedded == summary.count - kept == 4
        assert summary.counts.removed == 2
    again = build_index(photos, matcher_folder, tmp_path / "again", precision="fp32")
    assert again.counts.embedded == 12
    updated, new = read_index(photos / ".cutline" / "index"), read_index(again.folder)
    assert list(updated) == list(new)
    np.testing.assert_allclose(list(updated.values()), list(new.values()), atol=1e-6)


def test_nothing_is_loaded_or_written_if_nothing_has_changed(
    photos: Path, indexed: IndexSummary, matcher_folder: Path
) -> None:
    files = {path: path.stat().st_mtime_ns for path in indexed.folder.glob("*-*")}
    again = build_index(photos, matcher_folder)
    assert (again.counts.unchanged, again.counts.embedded) == (12, 0)
    assert {path: path.stat().st_mtime_ns for path in indexed.folder.glob("*-*")} == files


def test_images_that_cannot_be_read_are_listed(photos: Path, matcher_folder: Path) -> None:
    bad, empty = photos / "bad.png", photos / "empty.jpg"
    bad.write_bytes(b"no image")
    empty.touch()
    summary = build_index(photos, matcher_folder)
    assert (summary.count, summary.counts.failed) == (12, 2)
    assert [failure.id for failure in summary.failures] == ["bad.png", "empty.jpg"]
    assert all(failure.kind == "image" for failure in summary.failures)
    lines = (summary.folder / "failed.jsonl").read_text().splitlines()
    assert [Failure(**json.loads(line)) for line in lines] == list(summary.failures)
    bad.unlink()
    shutil.copy(photos / "scene-000001.png", empty)
    assert build_index(photos, matcher_folder).count == 13
    assert not (summary.folder / "failed.jsonl").exists()


def test_an_image_that_breaks_is_removed(
    photos: Path, indexed: IndexSummary, matcher_folder: Path
) -> None:
    (photos / "scene-000003.png").write_bytes(b"broken")
    summary = build_index(photos, matcher_folder)
    assert (summary.count, summary.counts.failed, summary.counts.removed) == (11, 1, 1)
    assert "scene-000003.png" not in read_index(summary.folder)


def test_a_source_that_cannot_be_read_whole_keeps_its_images(
    photos: Path, matcher_folder: Path, tmp_path: Path
) -> None:
    """What is missing may be there again tomorrow."""
    table = photos / "data.jsonl"
    rows = [json.dumps({"file_name": f"scene-{number:06}.png"}) for number in range(5)]
    table.write_text("\n".join(rows))
    build_index(table, matcher_folder, tmp_path / "index")
    table.write_text("\n".join([rows[0], "{broken", rows[2]]))
    summary = build_index(table, matcher_folder, tmp_path / "index")
    assert (summary.counts.unreadable, summary.counts.unchanged) == (1, 2)
    assert (summary.count, summary.counts.removed) == (5, 0)
    table.write_text("\n".join([rows[0], rows[2]]))
    summary = build_index(table, matcher_folder, tmp_path / "index")
    assert (summary.count, summary.counts.removed) == (2, 3)


def test_odd_names_are_indexed_and_found(
    scenes: list[Path], matcher_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["a\nb.png", "tab\t.png", os.fsdecode(b"\xff\xfe.png"), "“ä”.png", "[a]*.png", "-k.png"]
    for name, scene in zip(names, scenes, strict=False):
        shutil.copy(scene, folder / name)
    summary = build_index(folder, matcher_folder)
    assert set(read_index(summary.folder)) == set(names)
    assert build_index(folder, matcher_folder).counts.unchanged == len(names)
    index = cutline.SearchIndex.open(folder)
    for name in names:
        (hit,) = index.search(folder / name, k=1)
        assert hit.image == str(folder / name)


def test_another_matcher_is_refused_unless_the_index_is_made_again(
    photos: Path, indexed: IndexSummary, other_matcher: Path
) -> None:
    before = read_index(indexed.folder)
    with pytest.raises(ConfigError, match=r"made with another matcher, .*matcher; .*--new-index"):
        build_index(photos, other_matcher)
    assert read_index(indexed.folder) == before
    again = build_index(photos, other_matcher, new_index=True)
    assert again.counts.embedded == 12
    assert read_index(indexed.folder) != before


def test_other_images_are_refused(
    photos: Path, indexed: IndexSummary, matcher_folder: Path, scenes: list[Path]
) -> None:
    with pytest.raises(ConfigError, match=r"an index of other images .*--new-index"):
        build_index(scenes[0].parent, matcher_folder, indexed.folder)
    with pytest.raises(ConfigError, match=r"other images"):
        build_index([photos, *scenes[:2]], matcher_folder, indexed.folder)
    settings = IndexSettings(MatcherOptions(str(matcher_folder)))
    with pytest.raises(ConfigError, match=r"read in another way"):
        update_index(ImageSources([str(photos)], SourceConfig(recursive=False)), settings)


@pytest.mark.parametrize("damage", ["embeddings", "images", "index.json"])
def test_a_damaged_index_is_refused_and_can_be_made_again(
    photos: Path, indexed: IndexSummary, matcher_folder: Path, damage: str
) -> None:
    (path,) = indexed.folder.glob(f"{damage}*")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"damaged; make it again with `cutline index"):
        build_index(photos, matcher_folder)
    assert build_index(photos, matcher_folder, new_index=True).counts.embedded == 12
    assert build_index(photos, matcher_folder).counts.unchanged == 12


def test_a_folder_of_other_files_is_not_overwritten(photos: Path, matcher_folder: Path) -> None:
    files = set(photos.rglob("*"))
    with pytest.raises(DataError, match="not an index; name a new folder"):
        build_index(photos, matcher_folder, photos)
    assert set(photos.rglob("*")) - files <= {photos / "lock"}


@pytest.mark.parametrize("problem", ["no images", "no matcher", "no folder"])
def test_a_run_that_cannot_begin_leaves_no_trace(
    photos: Path, matcher_folder: Path, tmp_path: Path, problem: str
) -> None:
    if problem == "no images":
        for path in photos.rglob("*.png"):
            path.unlink()
    folder = tmp_path / "nowhere" if problem == "no folder" else photos
    matcher = tmp_path / "none" if problem == "no matcher" else matcher_folder
    with pytest.raises(cutline.CutlineError):
        build_index(folder, matcher)
    assert not (photos / ".cutline").exists()
    assert not (tmp_path / "nowhere").exists()


def test_two_writers_are_kept_apart(
    photos: Path, indexed: IndexSummary, matcher_folder: Path
) -> None:
    with (
        FileLock(indexed.folder / "lock"),
        pytest.raises(DataError, match="another run writes there"),
    ):
        build_index(photos, matcher_folder)
    assert build_index(photos, matcher_folder).counts.unchanged == 12


def test_a_folder_that_cannot_be_written_is_named(photos: Path, matcher_folder: Path) -> None:
    (photos / ".cutline").touch()  # which keeps even the superuser from making the folder
    with pytest.raises(DataError, match=r"index cannot be written there .*name another folder"):
        build_index(photos, matcher_folder)


def test_images_named_twice_are_embedded_once(
    photos: Path, matcher_folder: Path, tmp_path: Path
) -> None:
    names = [photos, photos / "scene-000001.png", photos / "sub"]
    summary = build_index(names, matcher_folder, tmp_path / "index")
    assert (summary.count, summary.counts.repeated) == (12, 3)


def test_rows_of_a_table_are_indexed(photos: Path, matcher_folder: Path, tmp_path: Path) -> None:
    table = photos / "data.jsonl"
    rows = [
        {"id": f"photo {number}", "file_name": f"scene-{number:06}.png", "caption": "x"}
        for number in (3, 1, 1, 99)
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = build_index(table, matcher_folder, tmp_path / "index")
    assert list(read_index(summary.folder)) == ["scene-000003.png", "scene-000001.png"]
    assert (summary.counts.failed, summary.count) == (1, 2)


def test_parquet_and_shards_are_indexed(
    scenes: list[Path], matcher_folder: Path, matcher: Matcher, tmp_path: Path
) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in scenes[:3]]
    pq.write_table(pa.table({"image": images, "text": ["a", "b", "c"]}), tmp_path / "t.parquet")
    summary = build_index(tmp_path / "t.parquet", matcher_folder, tmp_path / "i", precision="fp32")
    expected = matcher.embed_images(scenes[:3])
    np.testing.assert_allclose(list(read_index(summary.folder).values()), expected, atol=1e-6)
    assert build_index(tmp_path / "t.parquet", matcher_folder, tmp_path / "i").counts.unchanged == 3
    index = cutline.SearchIndex.open(tmp_path / "i", precision="fp32")
    hits = index.search("two", rerank=3)
    assert all(hit.match is not None for hit in hits)


def test_an_interrupted_run_goes_on(
    photos: Path, matcher_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the middle loses nothing either."""
    settings = IndexSettings(
        MatcherOptions(str(matcher_folder)), inference=InferenceConfig(batch_size=1)
    )

    class UnexpectedError(Exception):
        pass

    def fail(counts: cutline.retrieval.IndexCounts) -> None:
        if counts.embedded == 7:
            raise UnexpectedError

    with pytest.raises(UnexpectedError):
        update_index(ImageSources([str(photos)]), settings, IndexListener(fail))
    with pytest.raises(DataError, match="not finished; the same `cutline index` command"):
        cutline.search(photos, "two")
    counts = build_index(photos, matcher_folder).counts
    assert (counts.unchanged, counts.embedded) == (7, 5)


def test_a_full_disk_leaves_the_index_as_it_was(
    photos: Path,
    indexed: IndexSummary,
    matcher_folder: Path,
    limit_file_size: Callable[[int | None], None],
) -> None:
    before = read_index(indexed.folder)
    Image.new("RGB", (50, 50), "red").save(photos / "new.png")
    limit_file_size(100)
    with pytest.raises(OSError, match="File too large"):
        build_index(photos, matcher_folder)
    limit_file_size(None)
    assert read_index(indexed.folder) == before
    assert build_index(photos, matcher_folder).count == 13
