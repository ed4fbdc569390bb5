"""Captioning a data set and measuring the captions."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from PIL import Image
from test_captioner import captioner  # a fixture

import cutline
from cutline import evaluation
from cutline.captioner import Caption, Captioner
from cutline.data import Sample
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.evaluation import evaluate, write_evaluation_report
from cutline.metrics import bootstrap, collect_stats, java, measure
from cutline.metrics.tokenizers import characters


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(6, seed=5))


def test_it_measures_the_captions_it_writes(captioner: Captioner, data: Path) -> None:
    found = evaluate(captioner, data, num_beams=2)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    captions = captioner.caption([data.parent / row["file_name"] for row in rows], num_beams=2)
    assert [one.caption.token_ids for one in found.pictures] == [
        caption.token_ids for caption in captions
    ]
    assert [one.caption.score for one in found.pictures] == pytest.approx(
        [caption.score for caption in captions], rel=1e-5
    )
    assert found.scores == measure([c.text for c in captions], [row["captions"] for row in rows])[0]
    assert found.skipped == []
    assert (found.domains, found.intervals, found.diversity.novel) == ({}, {}, None)


def test_bad_pictures_are_listed_and_not_measured(captioner: Captioner, data: Path) -> None:
    samples = [
        Sample(str(data.parent / "scene-000000.png"), ("a star",), "0"),
        Sample("/gone.png", ("a star",), "1"),
    ]
    found = evaluate(captioner, samples)
    assert len(found.pictures) == 1
    assert "/gone.png" in found.skipped[0]
    with pytest.raises(cutline.DataError, match="none of the 1 images can be read"):
        evaluate(captioner, samples[1:])
    with pytest.raises(cutline.DataError, match="no image has a caption to compare with"):
        evaluate(captioner, [Sample("/gone.png", (), "1")])


def test_a_picture_s_own_prompt_comes_before_the_model_s_and_after_the_caller_s(
    captioner: Captioner, data: Path
) -> None:
    image = str(data.parent / "scene-000001.png")
    sample = [Sample(image, ("a star",), "0", prompt="the left ")]
    assert (
        evaluate(captioner, sample).pictures[0].caption.token_ids
        == captioner.caption(image, "the left ")[0].token_ids
    )
    assert (
        evaluate(captioner, sample, "").pictures[0].caption.token_ids
        == captioner.caption(image, "")[0].token_ids
    )


def test_the_sheet_shows_best_and_worst(captioner: Captioner, data: Path, tmp_path: Path) -> None:
    found = evaluate(captioner, data)
    write_evaluation_report(tmp_path / "sheet.html", found)
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("data:image") == 6
    assert page.index("Best captions") < page.index("Worst captions")
    assert "cider" in page


def says(*texts: str) -> Captioner:
    """A captioner that says these words of one image after another."""

    def stream(images: list[object], prompts: list[str], **settings: object) -> Iterator[Caption]:
        yield from (Caption(text, 0.0, ()) for text in texts)

    return cast(Captioner, SimpleNamespace(config=SimpleNamespace(prompt=""), stream=stream))


def samples(*references: tuple[str, ...], domains: tuple[str, ...] = ()) -> list[Sample]:
    named = domains or ("",) * len(references)
    return [
        Sample(f"{place}.png", texts, str(place), domain=name)
        for place, (texts, name) in enumerate(zip(references, named, strict=True))
    ]


SAID = ("a red dog runs", "two cats", "a man on a red horse", "a dog")
TRUE = (
    ("a red dog runs fast", "a dog"),
    ("two cats sleep",),
    ("a man on a horse", "the red horse of a man"),
    ("the dog runs", "a dog"),
)


def test_a_domain_is_measured_as_if_it_were_alone() -> None:
    domains = ("near-domain", "out-domain", "near-domain", "out-domain")
    found = evaluate(says(*SAID), samples(*TRUE, domains=domains))
    assert list(found.domains) == ["near-domain", "out-domain"]
    for name, scores in found.domains.items():
        places = [place for place, domain in enumerate(domains) if domain == name]
        alone = measure([SAID[place] for place in places], [TRUE[place] for place in places])[0]
        assert asdict(scores) == pytest.approx(asdict(alone))
    assert found.scores == measure(SAID, TRUE)[0]
    assert found.domains["near-domain"].cider != pytest.approx(
        (found.pictures[0].scores.cider + found.pictures[2].scores.cider) / 2
    )


def test_pictures_without_a_domain_count_in_the_whole_alone() -> None:
    found = evaluate(says(*SAID), samples(*TRUE, domains=("", "in-domain", "", "")))
    assert {name: scores.num_pictures for name, scores in found.domains.items()} == {"in-domain": 1}
    assert found.scores.num_pictures == 4


def test_intervals_are_those_of_the_bootstrap() -> None:
    found = evaluate(says(*SAID), samples(*TRUE), resamples=50)
    assert found.intervals == bootstrap(collect_stats(SAID, TRUE), 50)


def test_captions_that_were_learned_are_not_novel() -> None:
    found = evaluate(says(*SAID), samples(*TRUE), learned=["Two cats.", "a bird"])
    assert found.diversity.novel == 3 / 4
    assert found.diversity.unique == 1
    assert found.diversity.mean_length == 14 / 4


def test_references_of_a_script_without_spaces_are_measured_by_characters() -> None:
    said, true = ("一只狗在跑", "两个人"), (("一只狗在草地上跑。",), ("两个女人站着",))
    expected = measure(said, true, characters)[0]
    assert (
        evaluate(says(*said), samples(*true)).scores
        == evaluate(says(*said), samples(*true), tokens="characters").scores
        == expected
    )
    assert (
        evaluate(says(*said), samples(*true), tokens="ptb").scores
        == measure(said, true)[0]
        != expected
    )
    assert evaluate(says(*said), samples(*true)).diversity.vocabulary == 8


def test_one_reference_an_empty_one_and_nothing_said() -> None:
    found = evaluate(says("a dog", "", "two cats"), samples(("a dog",), ("a man", ""), ("",)))
    assert [one.scores.num_pictures for one in found.pictures] == [1, 1, 1]
    assert found.pictures[0].scores.rouge_l == pytest.approx(1)
    assert found.pictures[2].scores.rouge_l == 0
    [one] = evaluate(says("a dog"), samples(("a dog",))).pictures
    assert (one.scores.bleu1, one.scores.cider) == (
        pytest.approx(1),
        0,
    )  # what is said of every image says nothing


def test_what_a_metric_lacks_is_said_before_any_captioning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    with pytest.raises(cutline.ConfigError, match="pip install"):
        evaluate(cast(Captioner, None), samples(("a dog",)), metrics=["meteor"])


def test_the_sheet_and_the_numbers_hold_all_that_was_found(data: Path, tmp_path: Path) -> None:
    images = sorted(str(path) for path in data.parent.glob("*.png"))[:4]
    pictures = [
        Sample(image, texts, image, domain="out-domain")
        for image, texts in zip(images, TRUE, strict=True)
    ]
    found = evaluate(says(*SAID), pictures, resamples=20, learned=SAID[:1])
    write_evaluation_report(tmp_path / "sheet.html", found)
    page = (tmp_path / "sheet.html").read_text()
    for text in (
        "By domain",
        "out-domain",
        "distinct2",
        "novel",
        f"{found.intervals['cider'][0]:.4g} – {found.intervals['cider'][1]:.4g}",
    ):
        assert text in page
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["scores"] == found.scores.numbers()
    assert numbers["domains"]["out-domain"] == found.scores.numbers()
    assert numbers["diversity"]["novel"] == 3 / 4
    assert numbers["intervals"]["bleu4"] == list(found.intervals["bleu4"])


def test_the_first_process_measures_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `together` brings of the first process is played to a second one."""
    brought: list[object] = []

    def note(work: Callable[[], object]) -> list[object]:
        brought.append(work())
        return [brought[-1]]

    def play(work: Callable[[], object]) -> list[object]:
        mine = work()
        return [brought[1] if mine is None else mine]

    monkeypatch.setattr(evaluation, "together", note)
    first = evaluate(says(*SAID), samples(*TRUE), resamples=5)
    monkeypatch.setattr(evaluation, "together", play)
    monkeypatch.setattr(evaluation, "is_main_process", lambda: False)
    monkeypatch.setattr(evaluation, "collect_stats", None)
    assert evaluate(says(*SAID), samples(*TRUE), resamples=5) == first


def test_resamples_are_looked_at_before_any_captioning() -> None:
    with pytest.raises(cutline.ConfigError, match="resamples -1 is below 1"):
        evaluate(cast(Captioner, None), samples(("a dog",)), resamples=-1)


def test_the_sheet_holds_small_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (900, 1200)).save(tmp_path / "1.png")
    found = evaluate(says("a dog"), [Sample(str(tmp_path / "1.png"), ("a dog",), "1")])
    sizes = []
    monkeypatch.setattr(
        evaluation, "wall", lambda cards: str(sizes.extend(card.image.size for card in cards))
    )
    write_evaluation_report(tmp_path / "sheet.html", found)
    assert sizes == [(288, 384), (288, 384)]
