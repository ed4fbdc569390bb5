"""Comparing two files of captions."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import cutline
from cutline.cli.main import run_command
from cutline.data import Sample, write_captions
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.evaluation import Comparison, compare_captions, sheet, write_comparison_report
from cutline.evaluation.caption_file import CaptionRow, read_captions
from cutline.evaluation.matching import join_references, match_captions
from cutline.metrics import Difference, collect_stats, compare_stats, java, measure

WORSE = "a dog"


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn scenes with captions."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(12, seed=5))


@pytest.fixture
def rows(references: Path) -> list[dict[str, Any]]:
    """A good caption of each."""
    known = [json.loads(line) for line in references.read_text().splitlines()]
    return [
        {"image": str(references.parent / row["file_name"]), "caption": row["captions"][0]}
        for row in known
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    write_captions(path, rows)
    return path


def test_the_better_captions_win(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    worse = write(tmp_path / "worse.jsonl", [{**row, "caption": WORSE} for row in rows])
    better = write(tmp_path / "better.jsonl", rows)
    found = compare_captions(worse, better, references, resamples=500)
    assert found.left_out == []
    assert found.names == ("worse", "better")
    assert found.verdict().startswith("better is better in BLEU-1 (+")
    assert "no difference" not in found.verdict()
    known = [json.loads(line)["captions"] for line in references.read_text().splitlines()]
    first, second = (
        collect_stats([WORSE] * 12, known),
        collect_stats([row["caption"] for row in rows], known),
    )
    assert found.differences == compare_stats(first, second, 500)
    assert (
        found.differences["cider"].second
        == measure([row["caption"] for row in rows], known)[0].cider
    )
    back = compare_captions(better, worse, references, resamples=500)
    assert back.verdict().startswith("better is better in BLEU-1 (+")


def test_a_file_is_as_good_as_itself(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", rows)
    found = compare_captions(path, path, references, resamples=20)
    assert (
        found.verdict()
        == "No difference in BLEU-1, BLEU-2, BLEU-3, BLEU-4, ROUGE-L or CIDEr can be told."
    )


def test_csv_is_as_good_as_json_lines_and_order_does_not_matter(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    rows[0]["caption"] = 'a "red", large\ncircle'
    lines, table = write(tmp_path / "a.jsonl", rows), write(tmp_path / "a.csv", rows[::-1])
    found = compare_captions(lines, table, references, resamples=20)
    assert [one.value for one in found.differences.values()] == [0] * 6
    assert found.names == ("a.jsonl", "a.csv")
    assert len(found.pictures) == 12


def test_verdict_in_words() -> None:
    cases = {
        "cider": Difference(1.0, 1.05, (0.02, 0.08), 0.003),
        "bleu4": Difference(0.3, 0.31, (-0.01, 0.02), 0.4),
    }
    assert (
        Comparison(("A", "B"), cases, [], []).verdict()
        == "B is better in CIDEr (+0.05, p = 0.003); no difference in BLEU-4 can be told."
    )
    cases |= {
        "bleu1": Difference(0.5, 0.4, (-0.2, -0.1), 0.0001),
        "rouge_l": Difference(0.5, 0.6, (0, 1), 0.049),
    }
    assert Comparison(("A", "B"), cases, [], []).verdict() == (
        "B is better in CIDEr (+0.05, p = 0.003) and ROUGE-L (+0.1, p = 0.049); A is better in BLEU-1 (+0.1, p < 0.001); "
        "no difference in BLEU-4 can be told."
    )


# ------------------------------------------------------------------------------------------------------- the matching


def known(*pairs: tuple[str, str]) -> list[Sample]:
    return [Sample(image, ("a dog",), id) for image, id in pairs]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (CaptionRow("/data/b/2.jpg", "x"), 2),  # the same path
        (CaptionRow("/data/a/../b/2.jpg", "x"), 2),
        (CaptionRow("/elsewhere/1.jpg", "x"), 0),  # the same file name
        (CaptionRow("C:\\photos\\1.jpg", "x"), 0),
        (CaptionRow("/elsewhere/9.jpg", "x", "43"), 2),  # the same id
        (CaptionRow("41", "x"), 0),
        (
            CaptionRow("/elsewhere/2.jpg", "x", "43"),
            2,
        ),  # of two with that name, the one with that id
        (CaptionRow("/elsewhere/2.jpg", "x"), None),
        (CaptionRow("/elsewhere/9.jpg", "x"), None),
    ],
)
def test_a_caption_finds_its_picture(line: CaptionRow, place: int | None) -> None:
    samples = known(("/data/a/1.jpg", "41"), ("/data/a/2.jpg", "42"), ("/data/b/2.jpg", "43"))
    found, left = match_captions([line], samples, "a.jsonl")
    assert found == ({} if place is None else {place: "x"})
    assert len(left) == (place is None)


def test_what_fits_none_or_several_is_listed() -> None:
    samples = known(("/data/a/2.jpg", "1"), ("/data/b/2.jpg", "2"))
    lines = [
        CaptionRow("9.jpg", "x"),
        CaptionRow("2.jpg", "y"),
        CaptionRow("/data/a/2.jpg", "first"),
        CaptionRow("/data/a/2.jpg", "second"),
    ]
    found, left = match_captions(lines, samples, "a.jsonl")
    assert found == {0: "first"}
    assert left == [
        "a.jsonl: 9.jpg has no references",
        "a.jsonl: 2.jpg may be any of 2 images of that name; give its whole path",
        "a.jsonl: /data/a/2.jpg has more than one caption; the first is compared",
    ]


@given(st.permutations(range(4)))
def test_a_name_takes_no_picture_that_another_row_s_path_means(order: list[int]) -> None:
    samples = known(("/data/1.jpg", "1"), ("/data/2.jpg", "2"), ("/data/3.jpg", "3"))
    lines = [
        CaptionRow("/other/1.jpg", "wrong"),
        CaptionRow("/data/1.jpg", "right"),
        CaptionRow("/x/2.jpg", "a"),
        CaptionRow("/y/2.jpg", "b"),
    ]
    found, left = match_captions([lines[place] for place in order], samples, "a")
    assert found == {0: "right"}
    assert sorted(left) == [
        "a: /other/1.jpg has no references; those of its name are of /data/1.jpg, which has a row, too",
        "a: /x/2.jpg is one of 2 that may be /data/2.jpg; give its whole path",
        "a: /y/2.jpg is one of 2 that may be /data/2.jpg; give its whole path",
    ]


def test_a_second_caption_of_a_picture_known_by_name_is_listed() -> None:
    found, left = match_captions(
        [CaptionRow("1.jpg", "first"), CaptionRow("1.jpg", "second")],
        known(("/data/1.jpg", "1")),
        "a",
    )
    assert (found, left) == (
        {0: "first"},
        ["a: 1.jpg has more than one caption; the first is compared"],
    )


@given(st.permutations(range(5)))
def test_order_does_not_matter(order: list[int]) -> None:
    samples = known(*((f"/data/{place}.jpg", str(place)) for place in range(5)))
    found, left = match_captions(
        [CaptionRow(f"/data/{place}.jpg", str(place)) for place in order], samples, "a"
    )
    assert (found, left) == ({place: str(place) for place in range(5)}, [])


def test_references_of_a_picture_under_several_prompts_are_one() -> None:
    samples = [
        Sample("a.jpg", ("one",), "1", "the left "),
        Sample("a.jpg", ("two",), "1", "the right "),
        Sample(b"x", ("three",), "2"),
    ]
    assert [sample.captions for sample in join_references(samples)] == [("one", "two"), ("three",)]
    assert match_captions([CaptionRow("2", "x")], samples, "a")[0] == {
        2: "x"
    }  # bytes have no path: by id


def test_pictures_that_one_lacks_are_listed_and_left_out(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = write(tmp_path / "a.jsonl", [*rows[:8], {"image": "gone.png", "caption": WORSE}])
    second = write(tmp_path / "b.jsonl", rows[2:9])
    found = compare_captions(first, second, references, resamples=20)
    assert [Path(str(one.sample.image)).name for one in found.pictures] == [
        Path(row["image"]).name for row in rows[2:8]
    ]
    assert found.left_out == [
        f"{first}: gone.png has no references",
        *(f"{second}: no caption of {row['image']}" for row in rows[:2]),
        f"{first}: no caption of {rows[8]['image']}",
    ]
    assert found.num_untouched == 3
    with pytest.raises(cutline.DataError, match="no image with references in common"):
        compare_captions(write(tmp_path / "a.jsonl", rows[:2]), second, references)


# ---------------------------------------------------------------------------------------------------------- the files


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.txt", "", "a.txt: captions to compare are in a .jsonl or .csv file"),
        ("a.jsonl", "\n", "a.jsonl: holds no captions"),
        ("a.jsonl", '{"image": "a.jpg", "caption": "a dog"}\n{', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", "[]", "a.jsonl, line 1: a row must be a JSON object"),
        (
            "a.jsonl",
            '{"image": "a.jpg"}',
            "a.jsonl, line 1: a row needs the image's path as `image` and one text as `caption`",
        ),
        ("a.jsonl", '{"image": "a.jpg", "captions": ["a", "b"]}', "one text as `caption`"),
        ("a.csv", "image,words\na.jpg,a dog\n", "a.csv, line 2: a row needs"),
        ("a.csv", "", "a.csv: holds no captions"),
    ],
)
def test_files_that_are_no_captions_are_named(
    tmp_path: Path, name: str, text: str, told: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(cutline.DataError, match=told) as error:
        read_captions(tmp_path / name)
    assert "\n" not in str(error.value)


@given(
    st.lists(st.tuples(st.text(min_size=1), st.text()), min_size=1, max_size=4),
    st.sampled_from([".jsonl", ".csv"]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], suffix: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"captions{suffix}"
    pairs = [tuple(text.replace("\0", "") or "a" for text in pair) for pair in pairs]  # type: ignore[misc]
    write_captions(
        path, [{"image": image, "caption": caption, "score": 0.5} for image, caption in pairs]
    )
    assert [(line.image, line.caption) for line in read_captions(path)] == pairs


def test_ids_and_other_columns(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["caption", "cider", "image_id", "file_name"], ["a dog", 1.5, 17, "a.jpg"]]
        )
    (tmp_path / "a.jsonl").write_text(
        '{"file_name": "a.jpg", "captions": ["a dog"], "image_id": 17}'
    )
    assert (
        read_captions(tmp_path / "a.csv")
        == read_captions(tmp_path / "a.jsonl")
        == [CaptionRow("a.jpg", "a dog", "17")]
    )


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("compare gone.jsonl b.jsonl --references DATA", 1, "gone.jsonl: cannot be read"),
        (
            "compare a.txt b.jsonl --references DATA",
            1,
            "a.txt: captions to compare are in a .jsonl or .csv file",
        ),
        ("compare a.jsonl b.jsonl --references gone", 1, "gone: no such file or folder"),
        ("compare a.jsonl b.jsonl --references DATA --resamples 0", 2, "resamples 0 is below 1"),
        (
            "compare a.jsonl b.jsonl --references DATA --metrics spice",
            2,
            "SPICE needs a package that is not here",
        ),
        ("evaluate DATA --bootstrap -1", 2, "resamples -1 is below 1"),
    ],
)
def test_errors_are_one_sentence_and_a_code(
    references: Path,
    words: str,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    assert run_command(words.replace("DATA", str(references)).split()) == code
    stdout, stderr = capsys.readouterr()
    assert (stdout, stderr.count("\n")) == ("", 1)
    assert told in stderr


# ---------------------------------------------------------------------------------------------------------- the sheet


def test_the_sheet_shows_where_they_differ_both_ways(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    first = write(
        tmp_path / "first.jsonl",
        [{**row, "caption": WORSE} if place < 5 else row for place, row in enumerate(rows)],
    )
    second = write(
        tmp_path / "second.jsonl",
        [{**row, "caption": WORSE} if place > 8 else row for place, row in enumerate(rows)],
    )
    found = compare_captions(first, second, references, resamples=50)
    write_comparison_report(tmp_path / "sheet.html", found)
    page = (tmp_path / "sheet.html").read_text()
    better, worse = page.index("Where second is better"), page.index("Where first is better")
    assert (page[better:worse].count("data:image"), page[worse:].count("data:image")) == (5, 3)
    assert found.verdict() in page
    write_comparison_report(tmp_path / "sheet.html", found, count=2)
    assert (tmp_path / "sheet.html").read_text().count("data:image") == 4
    numbers = json.loads(json.dumps(found.numbers()))
    assert numbers["differences"]["cider"]["difference"] == found.differences["cider"].value
    assert (numbers["num_pictures"], numbers["a"], numbers["left_out"]) == (12, "first", [])


def test_a_part_of_the_data_can_be_compared(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(tmp_path / "a.jsonl", rows[:4]), write(tmp_path / "b.jsonl", rows[:4])
    words = [
        "compare",
        str(first),
        str(second),
        "--references",
        str(references),
        "--resamples",
        "20",
    ]
    assert (
        run_command(
            [*words, "--json", str(tmp_path / "n.json"), "--report", str(tmp_path / "sheet.html")]
        )
        == 0
    )
    sentence = "8 images with references have a caption in neither file"
    assert capsys.readouterr().err == f"cutline: {sentence}\n"
    assert json.loads((tmp_path / "n.json").read_text())["num_untouched"] == 8
    assert sentence in (tmp_path / "sheet.html").read_text()


def test_pictures_need_not_be_on_this_machine(tmp_path: Path) -> None:
    samples = known(("/far/1.jpg", "1"), ("/far/2.jpg", "2"))
    first = write(
        tmp_path / "a.jsonl", [{"image": f"/far/{n}.jpg", "caption": "two cats"} for n in (1, 2)]
    )
    second = write(
        tmp_path / "b.jsonl", [{"image": f"/far/{n}.jpg", "caption": f"a dog {n}"} for n in (1, 2)]
    )
    samples[1] = Sample("/far/2.jpg", ("a red dog",), "2")
    write_comparison_report(
        tmp_path / "sheet.html", compare_captions(first, second, samples, resamples=20)
    )
    page = (tmp_path / "sheet.html").read_text()
    assert "data:image" not in page
    assert "b: a dog 1" in page


def test_the_sheet_holds_small_pictures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (1200, 900)).save(tmp_path / "1.png")
    samples = [
        Sample(str(tmp_path / "1.png"), ("a dog",), "1"),
        Sample("/far/2.jpg", ("a red dog",), "2"),
    ]
    first = write(
        tmp_path / "a.jsonl", [{"image": sample.image, "caption": "two cats"} for sample in samples]
    )
    second = write(
        tmp_path / "b.jsonl",
        [{"image": sample.image, "caption": sample.captions[0]} for sample in samples],
    )
    sizes = []
    monkeypatch.setattr(
        sheet,
        "wall",
        lambda cards: str(sizes.extend(card.image.size for card in cards if card.image)),
    )
    write_comparison_report(
        tmp_path / "sheet.html", compare_captions(first, second, samples, resamples=20)
    )
    assert sizes == [(384, 288)]


def test_columns_of_the_references(
    references: Path, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    with (tmp_path / "known.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["photo", "said"], *([row["image"], row["caption"]] for row in rows)]
        )
    path = write(tmp_path / "a.jsonl", rows)
    words = [
        "compare",
        str(path),
        str(path),
        "--references",
        str(tmp_path / "known.csv"),
        "--resamples",
        "20",
    ]
    assert run_command(words) == 1
    assert run_command([*words, "--columns.image", "photo", "--columns.caption", "said"]) == 0
