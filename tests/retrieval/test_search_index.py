"""Questions to an index: they find what the matcher says."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from tars import write_tar

import cutline
from cutline.errors import ConfigError, DataError, ImageError
from cutline.matcher import Matcher
from cutline.retrieval import IndexSummary, SearchHit, SearchIndex, build_index, search

TEXTS = ["a red circle above the blue star", "two", "Green, left of RED!"]


@pytest.fixture
def index(photos: Path, indexed: IndexSummary) -> SearchIndex:
    """Return the index of the photos."""
    return SearchIndex.open(photos, precision="fp32")


def list_images(photos: Path) -> list[str]:
    """Return the paths of the photos, in the order of the index."""
    return [str(path) for path in (*sorted(photos.glob("*.png")), *sorted(photos.glob("sub/*")))]


def names(hits: Sequence[SearchHit]) -> list[str]:
    return [hit.image for hit in hits]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_finds_what_the_matcher_says(
    index: SearchIndex, photos: Path, matcher: Matcher, text: str
) -> None:
    paths = list_images(photos)
    scores = dict(zip(paths, matcher.similarity(paths, text).tolist(), strict=True))
    hits = index.search(text, k=100)
    assert names(hits) == sorted(paths, key=lambda path: -scores[path])
    assert [hit.score for hit in hits] == pytest.approx(
        sorted(scores.values(), reverse=True), abs=1e-6
    )
    assert index.search(text, k=5) == hits[:5]
    assert index.search(text) == hits  # there are fewer than 20


def test_an_image_finds_itself_first(index: SearchIndex, photos: Path) -> None:
    for path in list_images(photos):
        for question in (path, Path(path), Path(path).read_bytes(), Image.open(path)):
            (hit,) = index.search(question, k=1)
            assert hit.image == path
            assert hit.score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rerank", [1, 5, 12, 50])
def test_reranking_gives_the_order_of_the_matcher(
    index: SearchIndex, matcher: Matcher, rerank: int
) -> None:
    first = names(index.search(TEXTS[0], k=12))
    matches = dict(zip(first, matcher.match(first, TEXTS[0]).tolist(), strict=True))
    expected = sorted(first[:rerank], key=lambda path: -matches[path]) + first[rerank:]
    hits = index.search(TEXTS[0], k=12, rerank=rerank)
    assert names(hits) == expected
    for hit in hits[:rerank]:
        assert hit.match == pytest.approx(matches[hit.image], abs=1e-5)
    assert all(hit.match is None for hit in hits[rerank:])
    assert names(index.search(TEXTS[0], k=3, rerank=rerank)) == expected[:3]


def test_an_image_that_is_gone_is_found_but_ranked_last(index: SearchIndex, photos: Path) -> None:
    hits = index.search(TEXTS[0], rerank=12)
    gone = Path(hits[0].image)
    gone.unlink()
    assert names(index.search(TEXTS[0])) == names(search(photos, TEXTS[0], precision="fp32"))
    assert str(gone) in names(index.search(TEXTS[0]))
    again = index.search(TEXTS[0], rerank=12)
    assert names(again) == [*names(hits[1:]), str(gone)]
    assert again[-1].match is None


def test_the_function_loads_and_searches(photos: Path, indexed: IndexSummary) -> None:
    hits = cutline.search(photos, TEXTS[0], 3, 6)
    assert hits == cutline.SearchIndex.open(indexed.folder).search(TEXTS[0], 3, 6)
    assert isinstance(hits[0], cutline.SearchHit)


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_refused(index: SearchIndex, question: str) -> None:
    with pytest.raises(ConfigError, match="the question is empty"):
        index.search(question)


def test_questions_that_make_no_sense_are_refused(index: SearchIndex, photos: Path) -> None:
    with pytest.raises(ImageError, match=r"dog.jpg: no such image; check the path, or leave"):
        index.search("dog.jpg")
    with pytest.raises(ImageError, match="no such image"):
        index.search("x" * 5000 + ".jpg")
    with pytest.raises(ImageError, match="not an image"):
        index.search(Path(__file__))
    with pytest.raises(ConfigError, match="re-ranking asks whether a text"):
        index.search(list_images(photos)[0], rerank=3)
    with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
        index.search("two", k=0)
    with pytest.raises(ConfigError, match="rerank must be at least 0, not -1"):
        index.search("two", rerank=-1)
    for wrong in ("3", 2.5, True):
        with pytest.raises(ConfigError, match=f"k must be an integer, not {wrong!r}"):
            index.search("two", k=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="ask one question"):
        index.search(list_images(photos)[:2])  # type: ignore[arg-type]


def test_photos_can_be_moved_with_their_index(
    photos: Path, indexed: IndexSummary, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    shutil.move(photos, moved)
    hits = search(moved, TEXTS[0], rerank=3)
    assert len(hits) == 12
    assert all(hit.match for hit in hits[:3])
    assert all(Path(hit.image).is_relative_to(moved) for hit in hits)


def test_a_matcher_that_was_moved_can_be_named(
    photos: Path, matcher_folder: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(matcher_folder, here)
    build_index(photos, here)
    hits = search(photos, "two")
    here.rename(there)
    with pytest.raises(cutline.CheckpointError, match="here"):
        search(photos, "two")
    assert search(photos, "two", matcher=there) == hits
    assert build_index(photos, there).counts.unchanged == 12  # and is recorded
    assert search(photos, "two") == hits


def test_another_matcher_is_refused(
    photos: Path, indexed: IndexSummary, other_matcher: Path
) -> None:
    with pytest.raises(ConfigError, match=r"made with another matcher than .*other"):
        search(photos, "two", matcher=other_matcher)


def test_images_in_shards_are_found_and_ranked(
    scenes: list[Path], matcher_folder: Path, matcher: Matcher, tmp_path: Path
) -> None:
    shards = [
        write_tar(
            tmp_path / f"{name}.tar",
            {f"{path.stem}.png": path.read_bytes() for path in paths},
        )
        for name, paths in [("a", scenes[:4]), ("b", scenes[4:8])]
    ]
    with pytest.raises(ConfigError, match="name a folder for the index, such as -o index"):
        build_index(shards, matcher_folder)
    index = build_index(shards, matcher_folder, tmp_path / "index", precision="fp32").folder
    expected = dict(zip(scenes, matcher.match(scenes[:8], TEXTS[0]).tolist(), strict=False))
    hits = search(index, TEXTS[0], rerank=8, precision="fp32")
    ranked = sorted(expected, key=lambda path: -expected[path])
    assert [Path(hit.image).name for hit in hits] == [path.stem for path in ranked]
    assert hits[0].image.startswith(("a.tar/", "b.tar/"))
    Path(shards[0]).unlink()  # and none of its images can be read any more
    hits = search(index, TEXTS[0], rerank=8, precision="fp32")
    assert [hit.match is None for hit in hits] == [False] * 4 + [True] * 4


def test_a_folder_without_index_says_how_to_make_one(photos: Path) -> None:
    with pytest.raises(DataError, match=r"photos: has no index; make one with `cutline index "):
        search(photos, "two")
