"""The report of a check: findings first, groups of copies together, and what was chosen."""

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from html_reader import read_galleries, read_page
from hypothesis import given, settings
from hypothesis import strategies as st
from photos import encode, make_copies, make_photo

from cutline.check import KINDS, CheckResult, Finding, check_data, write_check_report
from cutline.check.gallery import CLEAN, COLUMNS, OTHER, mark_words
from cutline.check.report import make_check_report
from cutline.check.selection import COPIES, MAX_GROUP, ImageFindings
from cutline.cli.main import run_command
from cutline.config import CaptionText
from cutline.data import Sample
from cutline.report import About, Gallery, HistogramChart, Problem, Problems, Report
from cutline.tokenizer import Tokenizer, clean_caption

SIZE = (60, 40)
NAMES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "x")


def make_example(folder: Path) -> CheckResult:
    """Return the result of a check that finds something of most kinds."""
    captions = [f"{name} thing seen again" for name in NAMES]
    for number in range(10):
        make_photo(number, SIZE).save(folder / f"{number}.png")
    samples = [Sample(str(folder / f"{n}.png"), (captions[n],), str(n)) for n in range(10)]
    samples[1] = replace(samples[1], captions=("word " * 70, captions[1], captions[1]))
    samples[2] = replace(samples[2], captions=("...", "a caf\ufffd\x7f \x01"))
    samples[3] = replace(samples[3], captions=())
    samples[4] = replace(samples[4], captions=(captions[4], "A Café beside a thing"))
    (folder / "broken.png").write_bytes(b"no image")
    files = {
        "copy.png": encode(make_photo(5, SIZE), "PNG", compress_level=1),
        "alike.jpg": make_copies(make_photo(5, SIZE))["quality 60"],
        "tiny.png": encode(make_photo(20, (40, 9)), "PNG"),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    names = [*files, "broken.png", "gone.png"]
    samples += [Sample(str(folder / name), ("a thing",), name) for name in names]
    other = [replace(samples[6], captions=("one",))]
    (folder / "other.jpg").write_bytes(make_copies(make_photo(5, SIZE))["webp"])
    other.append(Sample(str(folder / "other.jpg"), ("one",), "other"))
    tokenizer = Tokenizer.train([" ".join(NAMES) + " thing beside a seen again word"] * 9, 100)
    return check_data(samples, against=other, tokenizer=tokenizer)


def write_example_report(path: Path) -> None:
    """Write a report with findings of most kinds, beside its images."""
    result = make_example(path.parent)
    write_check_report(path, result, About("photos/train.jsonl", others={"Recipe": "own.yaml"}))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CheckResult:
    return make_example(tmp_path_factory.mktemp("check"))


@pytest.fixture(scope="module")
def report(result: CheckResult) -> Report:
    return make_check_report(result, About("photos"), 100)


def find_problem(report: Report, name: str) -> Problem:
    [problems] = report.sections[0].blocks
    assert isinstance(problems, Problems)
    return next(each for each in problems.problems if each.tag == KINDS[name].tag)


def find_gallery(report: Report) -> Gallery:
    return next(block for block in report.sections[-1].blocks if isinstance(block, Gallery))


def test_each_kind_has_a_name_of_its_own_and_says_what_to_do() -> None:
    tags = [kind.tag for kind in KINDS.values() if kind.tag]
    assert len(set(tags)) == len(tags) == len(KINDS) - 3  # three are about whole datasets
    assert {OTHER, CLEAN}.isdisjoint(tags)
    for name, kind in KINDS.items():
        assert kind.advice.endswith("."), name
        assert kind.advice.count("`") % 2 == 0, name


def test_findings_come_first_with_severity_thumbnails_and_advice(
    report: Report, result: CheckResult
) -> None:
    assert report.title == "Check of photos"
    assert [section.heading for section in report.sections] == ["Findings", "Data", "Images"]
    [problems] = report.sections[0].blocks
    assert isinstance(problems, Problems)
    kinds = list(dict.fromkeys(finding.kind for finding in result.findings))
    assert len(kinds) > 12
    assert [problem.advice for problem in problems.problems] == [KINDS[k].advice for k in kinds]
    assert [problem.severity for problem in problems.ordered] == [KINDS[k].severity for k in kinds]
    for kind, problem in zip(kinds, problems.problems, strict=True):
        has_images = kind not in ("missing", "unreadable")
        assert bool(problem.images or problem.groups) == has_images, kind
    [row] = find_problem(report, "missing").rows
    assert row == (f"{row[0]}", "no such image; check the path")


def test_the_tag_of_each_finding_shows_its_images(report: Report, result: CheckResult) -> None:
    cards = {card.name: card for card in find_gallery(report).cards if OTHER not in card.tags}
    assert len(cards) == len(result.samples)
    for finding in result.findings:
        for name in finding.all_images:
            assert KINDS[finding.kind].tag in cards[name].tags
    unknown = [finding for finding in result.findings if finding.kind == "unknown_word"]
    assert all(finding.images for finding in unknown)
    clean = [card for card in cards.values() if card.tags == [CLEAN]]
    assert [card.note for card in clean] == [""] * len(clean)
    assert list(cards.values())[-len(clean) :] == clean


def test_images_that_cannot_be_read_are_not_opened_again(report: Report) -> None:
    cards = find_gallery(report).cards
    assert [Path(card.name).name for card in cards if card.image is None] == [
        "gone.png",
        "broken.png",
    ]


def test_copies_are_next_to_each_other_also_those_of_the_other_dataset(report: Report) -> None:
    names = [Path(card.name).name for card in find_gallery(report).cards]
    cards = dict(zip(names, find_gallery(report).cards, strict=True))
    first = names.index("5.png")
    assert set(names[first : first + 4]) == {"5.png", "copy.png", "alike.jpg", "other.jpg"}
    assert names[first + 3] == "other.jpg"
    notes = [card.note for card in find_gallery(report).cards[first : first + 4]]
    assert all(note.startswith("group 2 (4 images)") for note in notes)
    assert OTHER in cards["other.jpg"].tags
    assert KINDS["duplicate"].tag in cards["5.png"].tags  # the original, too
    assert names.count("6.png") == 2  # the same file in both datasets
    assert len(find_problem(report, "leak").groups) == 1
    assert sorted(map(len, find_problem(report, "duplicate").groups)) == [4]


def test_numbers_of_an_image(report: Report) -> None:
    numbers = {Path(card.name).name: card.numbers for card in find_gallery(report).cards}
    assert [column.name for column in COLUMNS] == ["width", "height", "captions", "words"]
    assert numbers["1.png"] == [60, 40, 3, 70]
    assert numbers["other.jpg"] == [60, 40, 1, 1]
    assert numbers["gone.png"] == [None, None, 1, 2]


def test_limits_are_lines_between_what_is_kept_and_what_is_not(report: Report) -> None:
    charts = {
        block.title: block
        for block in report.sections[1].blocks
        if isinstance(block, HistogramChart)
    }
    words = charts["Words per caption"]
    assert words.limits == {"limit 30": 30.5}
    assert words.series["captions"][60] == 1  # a caption of 70 words does not flatten the others
    assert max(words.series["captions"]) == 60
    assert words.x_label == "words; the last bar has 60 and more"
    tokens = charts["Tokens per caption, including the prompt"]
    assert list(tokens.limits) == ["limit 40"]
    aspects = charts["Longer side relative to the shorter one"]
    assert aspects.series["images"] == {15: 12, 44: 1}
    sides = charts["Shorter side of the images"]
    assert sides.series["images"] == {9: 1, 40: 12}


def test_any_character_can_be_on_the_page(result: CheckResult, tmp_path: Path) -> None:
    samples = [replace(result.samples[2], captions=("\x01\x7f\x85 caf\udce9 `a` <b>",))]
    write_check_report(tmp_path / "report.html", replace(result, samples=samples, findings=[]))
    [gallery] = read_galleries(read_page(tmp_path / "report.html"))
    assert gallery["cards"][0]["lines"] == [["", [["\x01\x7f\x85 caf\udce9 `a` <b>", ""]]]]


def test_a_long_list_of_places_is_folded_and_can_be_scrolled_with_the_keyboard(
    result: CheckResult, tmp_path: Path
) -> None:
    """Three findings are listed at once."""
    names = [sample.name for sample in result.samples]
    for count in (3, 4):
        findings = [Finding("tiny", name, "8 x 8 pixels") for name in names[:count]]
        write_check_report(tmp_path / "report.html", replace(result, findings=findings))
        page = read_page(tmp_path / "report.html")
        assert set(names[:count]) <= set(page.texts)
        label = ("aria-label", f"Where: {count} images are very small")
        assert (label in page.attributes) == (count > 3)


@settings(max_examples=50)
@given(st.text(max_size=20), st.sampled_from(["blip", "none"]), st.integers(0))
def test_marks_are_words_of_the_caption(caption: str, clean: str, number: int) -> None:
    text = CaptionText(clean=clean)
    words = clean_caption(caption, text.clean, 100).split() or [""]
    unknown = words[number % len(words)]
    marks = mark_words(caption, {unknown}, text)
    assert all(clean_caption(caption[a:b], text.clean, 1) == unknown for a, b, _ in marks)
    assert [end for _, end, _ in marks] == sorted(end for _, end, _ in marks)


def test_words_are_marked_however_they_are_written() -> None:
    for clean, marks in {
        "blip": [(2, 6, "wrong"), (8, 12, "wrong")],
        "none": [(8, 12, "wrong")],
    }.items():
        assert mark_words("A Café, café.", {"café"}, CaptionText(clean=clean)) == marks
    assert mark_words("黑狗。", {"狗"}, CaptionText()) == [(1, 2, "wrong")]


# The choice of images


def make_any_result(result: CheckResult, seed: int) -> CheckResult:
    """Return a result with any findings and groups."""
    rng = random.Random(seed)
    samples = [Sample(f"{n}.png", ("a",), str(n)) for n in range(rng.randint(1, 60))]
    others = [Sample(f"{n}.png", ("a",), str(n)) for n in range(rng.randint(0, 5))]
    own = set(map(id, samples))
    images = rng.sample([*samples, *others], len(samples) + len(others))
    ends = sorted(rng.choices(range(len(images) + 1), k=rng.randint(0, 6)))
    parts = [images[a:b] for a, b in pairwise([0, *ends])]
    groups = [
        sorted(group, key=lambda sample: id(sample) not in own)
        for group in parts
        if len(group) > 1 and own & set(map(id, group))
    ]
    kinds = rng.choices([kind for kind in KINDS if kind not in COPIES], k=rng.randint(0, 20))
    findings = [Finding(kind, rng.choice(samples).name, "so") for kind in kinds]
    findings += [Finding("near_duplicate", group[0].name, "so") for group in groups]
    findings.sort(key=lambda finding: [*KINDS].index(finding.kind))
    return replace(
        result, samples=samples, findings=findings, duplicates=groups, near_duplicates=[]
    )


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 80))
def test_the_choice_is_fair_and_keeps_groups_together(
    result: CheckResult, seed: int, num_images: int
) -> None:
    findings = ImageFindings(make_any_result(result, seed))
    chosen = findings.choose(num_images)
    ids = list(map(id, chosen))
    assert len(set(ids)) == len(ids) <= num_images
    clean = [sample for sample in findings.result.samples if not findings.list_kinds(sample)]
    num_clean = sum(not findings.list_kinds(sample) for sample in chosen)
    reserved = min(len(clean), round(num_images / 5))
    assert num_clean >= reserved
    kinds = {finding.kind for finding in findings.result.findings}
    if num_images - reserved >= MAX_GROUP * len(kinds):
        assert {kind for sample in chosen for kind in findings.list_kinds(sample)} == kinds
    for sample in chosen:
        group = findings.find_group(sample)
        if group and id(sample) in map(id, group.shown):
            places = sorted(ids.index(id(member)) for member in group.shown)
            assert places == list(range(places[0], places[0] + len(places)))


def test_a_large_group_shows_some_of_its_images_and_of_the_others(result: CheckResult) -> None:
    samples = [Sample(f"{n}.png", ("a",), str(n)) for n in range(500)]
    copies = [Sample(f"other/{n}.png", ("a",), str(n)) for n in range(100)]
    found = [Finding("leak", sample.name, "the same pixels") for sample in samples[:400]]
    groups = [[*samples[:400], *copies]]
    drawn = replace(result, samples=samples, findings=found, duplicates=groups, near_duplicates=[])
    findings = ImageFindings(drawn)
    chosen = findings.choose(30)
    assert sum(map(findings.is_other, chosen)) == MAX_GROUP // 2
    assert len(chosen) == 30
    report = make_check_report(drawn, About(), 30)
    assert report.title == "Check of a dataset"
    assert findings.list_kinds(chosen[0]) <= COPIES
    assert "24 of 500 images, and 6 copies of them in the other dataset" in str(report.sections[2])


def test_the_command_says_what_was_checked(tmp_path: Path) -> None:
    make_photo(1).save(tmp_path / "1.png")
    (tmp_path / "data.jsonl").write_text(json.dumps({"file_name": "1.png", "caption": "a thing"}))
    report = tmp_path / "report.html"
    words = ["check", str(tmp_path / "data.jsonl"), "--max-words", "9", "--report", str(report)]
    assert run_command([*words, "--report-images", "1"]) == 0
    page = read_page(report)
    assert f"Check of {tmp_path / 'data.jsonl'}" in page.texts
    settings = page.texts[page.texts.index("max_words") :]
    assert settings[:2] == ["max_words", "9"] or "9" in settings[:4]
    assert "No findings." in page.texts
    assert run_command([*words, "--report-images", "0"]) == 2
