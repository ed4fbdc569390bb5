"""The report of a search: what was found, in its order, with scores."""

from dataclasses import replace
from pathlib import Path

import pytest
from index_files import random_embeddings, write_index
from PIL import Image
from random_matcher import make_matcher

from cutline.report import About, Figures, Gallery, Text
from cutline.retrieval import SearchHit, SearchIndex, write_search_report
from cutline.retrieval.report import make_search_report

NUM_IMAGES = 12


def make_index(folder: Path) -> SearchIndex:
    """Index drawn images in a folder, one of which has been removed since."""
    names = [f"<{number:02}>.png" for number in range(NUM_IMAGES)]
    for number, name in enumerate(names[:-1]):
        Image.new("RGB", (48, 40), (120, 20 * number, 90)).save(folder / name)
    index = write_index(folder / "index", random_embeddings(NUM_IMAGES, 16), names)
    return SearchIndex(index, make_matcher())


def find_hits(index: SearchIndex, num_ranked: int = 4) -> list[SearchHit]:
    """Return all images as hits, of which some are re-ranked."""
    hits = index._find_nearest(random_embeddings(1, 16, seed=1)[0], NUM_IMAGES)
    ranked = [replace(hit, match=0.9 - number / 10) for number, hit in enumerate(hits[:num_ranked])]
    return ranked + hits[num_ranked:]


def write_example_report(path: Path) -> None:
    """Write a report of a dozen drawn images."""
    index = make_index(path.parent)
    about = About("photos", others={"Matcher": "runs/match"}, settings={"k": 20, "rerank_top": 4})
    question = path.parent / "<03>.png"
    write_search_report(path, index, question, find_hits(index, 0), about)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> SearchIndex:
    return make_index(tmp_path_factory.mktemp("search"))


def test_hits_are_shown_in_their_order(index: SearchIndex) -> None:
    hits = find_hits(index)
    report = make_search_report(index, "two <stars>", hits, About("photos"))
    assert report.title == "“two <stars>” in photos"
    figures, gallery = report.sections[0].blocks
    assert isinstance(figures, Figures)
    assert [number for number, _ in figures.figures] == ["12", "12", "4"]
    assert isinstance(gallery, Gallery)
    assert [column.name for column in gallery.columns] == ["rank", "cosine", "match"]
    for rank, (card, hit) in enumerate(zip(gallery.cards, hits, strict=True), 1):
        assert card.numbers == [rank, hit.score, hit.match]
        assert card.name == Path(hit.image).name
        assert card.file == card.image == hit.image


def test_the_best_are_shown_of_many(index: SearchIndex, tmp_path: Path) -> None:
    hits = find_hits(index, 0)
    report = make_search_report(index, "two stars", hits, About(), num_images=3)
    _, text, gallery = report.sections[0].blocks
    assert text == Text("The best 3 of 12 images.")
    assert isinstance(gallery, Gallery)
    assert [card.file for card in gallery.cards] == [hit.image for hit in hits[:3]]
    assert [column.name for column in gallery.columns] == ["rank", "cosine"]
    assert make_search_report(index, "none", [], About()).sections[0].blocks


@pytest.mark.parametrize("as_bytes", [False, True])
def test_an_image_that_is_the_question_is_shown(
    index: SearchIndex, tmp_path: Path, as_bytes: bool
) -> None:
    path = tmp_path / "question.png"
    Image.new("RGB", (48, 40), "red").save(path)
    question = path.read_bytes() if as_bytes else path
    report = make_search_report(index, question, find_hits(index), About("photos"))
    name = "this one" if as_bytes else "question.png"
    assert report.title == f"Images like {name} in photos"
    (gallery,) = report.sections[0].blocks
    assert isinstance(gallery, Gallery)
    assert [(card.image, card.name) for card in gallery.cards] == [(question, name)]
    write_search_report(tmp_path / "report.html", index, question, find_hits(index))
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/") == NUM_IMAGES  # one of these is not there, and the question
