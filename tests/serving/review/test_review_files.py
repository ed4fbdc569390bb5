"""Captions files and text files under review: what is kept, what others change, what fails."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_captioner import save_captioner
from review_data import (
    FORMS,
    JSON_LINES,
    TEXTS,
    open_review,
    read_data,
    read_journal,
    write_json_lines,
    write_parquet,
    write_review_images,
    write_sidecars,
)

from cutline.cli.main import run_command
from cutline.config import Columns, DataSource
from cutline.data import open_data
from cutline.errors import DataError
from cutline.serving.review.conflicts import OwnCaptionError, StaleRowError
from cutline.serving.review.open import open_captions
from cutline.serving.review.review import Review
from cutline.serving.review.row_filter import RowFilter

ALL = RowFilter()


def list_texts(review: Review) -> list[str]:
    return [row["text"] for row in review.describe_rows(review.select(ALL))]


def find_text(review: Review, text: str) -> tuple[int, int]:
    rows = review.describe_rows(review.select(ALL))
    return next((row["row"], row["version"]) for row in rows if row["text"] == text)


@pytest.mark.parametrize("form", FORMS)
def test_only_what_was_changed_differs(form: str, tmp_path: Path) -> None:
    path = FORMS[form](tmp_path)
    before = read_data(path)
    review = open_review(path)
    assert list_texts(review) == list(TEXTS)
    assert read_data(path) == before
    review.edit(*find_text(review, "a cat"), "a gray  cat ", confirm=True)
    review.reject(*find_text(review, "no dog"), confirm=True)
    review.close()
    after = read_data(path)
    if form == "sidecars":
        assert isinstance(after, dict)
        assert isinstance(before, dict)
        assert before.keys() - after.keys() == {"5.txt"}
        changed = {name for name in after if after[name] != before[name]}
        assert (changed, after["3.txt"]) == ({"3.txt"}, b"a gray cat\n")
    elif form == "parquet":
        assert after == [
            ["a red dog"],
            ["a dog, on a “beach”"],
            ["zwei Hunde"],
            ["a gray cat"],
            ["a red dog"],
        ]
    else:
        assert isinstance(after, dict)
        assert isinstance(before, dict)
        lines = before[path.name].replace(b"a cat", b"a gray cat").splitlines(keepends=True)
        assert after[path.name] == b"".join(lines[:-1])


def test_a_parquet_file_keeps_its_types_and_images(tmp_path: Path) -> None:
    write_review_images(tmp_path)
    path = write_parquet(tmp_path)
    before = pq.read_table(path)
    review = open_review(path)
    review.reject(*find_text(review, "zwei Hunde"), confirm=True)
    review.edit(*find_text(review, "a cat"), "a dog", confirm=True)
    review.close()
    after = pq.read_table(path)
    assert after.schema == before.schema
    assert (
        after.column("image").to_pylist()
        == before.filter(pa.array([i != 2 for i in range(6)])).column("image").to_pylist()
    )
    review = open_review(path)
    number, _ = find_text(review, "zwei Hunde")
    assert review.find(number).image == (tmp_path / "2.png").read_bytes()  # in the journal
    while review.undo():
        pass
    review.close()
    assert pq.read_table(path) == before


def test_rows_of_other_names_are_read_with_flags(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"photo": "a.png", "alt": "a dog", "text": "no"}\n')
    source = DataSource(str(tmp_path / "data.jsonl"), columns=Columns("photo", "alt"))
    review = Review(open_captions(source))
    review.edit(*find_text(review, "a dog"), "a cat", confirm=True)
    review.close()
    assert json.loads((tmp_path / "data.jsonl").read_text()) == {
        "photo": "a.png",
        "alt": "a cat",
        "text": "no",
    }


def test_an_image_without_caption_gets_one(tmp_path: Path) -> None:
    write_review_images(tmp_path)
    (tmp_path / "1.jpg").write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "data.jsonl").write_text(
        '{"file_name": "0.png"}\n{"file_name": "1.png", "text": null}\n{}\n'
    )
    for path in (tmp_path / "data.jsonl", tmp_path):
        review = open_review(path)
        assert not any(list_texts(review))
        review.edit(review.select(ALL)[1], 1, "a dog")
        review.close()
    texts = (tmp_path / "data.jsonl").read_text().splitlines()
    assert texts == ['{"file_name": "0.png"}', '{"file_name": "1.png", "text": "a dog"}', "{}"]
    assert (tmp_path / "1.jpg.txt").read_text() == "a dog\n"  # there is a 1.png, too
    review = open_review(tmp_path)
    review.undo()
    assert not list(tmp_path.glob("*.txt"))
    review.close()


def test_a_folder_with_a_list_is_that_list(tmp_path: Path) -> None:
    write_review_images(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a dog"}\n')
    review = open_review(tmp_path)
    assert list_texts(review) == ["a dog"]
    review.close()
    assert read_journal(tmp_path)[0]["data"] == "metadata.jsonl"


# Changes by others


def test_a_file_that_others_changed_keeps_their_changes(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path)
    review = open_review(path)
    review.edit(*find_text(review, "a cat"), "a gray cat", confirm=True)
    review.edit(*find_text(review, "no dog"), "one dog", confirm=True)
    review.reject(*find_text(review, "zwei Hunde"), confirm=True)
    review.close()
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [
        line.replace("a gray cat", "a black cat").replace("one dog", "no dog") for line in lines
    ]
    new = '{"file_name": "9.png", "text": "new"}'
    path.write_text("\n".join([new, *lines, ""]), encoding="utf-8")
    review = open_review(path)
    rows = {row["text"]: row for row in review.describe_rows(review.select(ALL))}
    assert list(rows) == [
        "new",
        "a red dog",
        "a dog, on a “beach”",
        "zwei Hunde",
        "a black cat",
        "one dog",
    ]
    assert rows["a black cat"]["changed_outside"]
    assert rows["a black cat"]["state"] == "not reviewed"
    assert rows["one dog"]["state"] == "edited"  # the old text was back
    assert rows["zwei Hunde"]["state"] == "rejected"
    assert '"one dog"' in path.read_text(encoding="utf-8")
    assert '"a black cat"' in path.read_text(encoding="utf-8")
    undone = [review.undo(), review.undo(), review.undo()]
    assert [len(each.rows) for each in undone if each] == [1, 1, 0]
    assert list_texts(review)[3:5] == ["zwei Hunde", "a black cat"]
    review.close()


def test_a_file_that_others_change_during_a_review_keeps_their_changes(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path)
    review = open_review(path)
    number, version = find_text(review, "a cat")
    path.write_text(JSON_LINES.replace("a cat", "a black cat"), encoding="utf-8")
    with pytest.raises(StaleRowError, match="another tab or outside"):
        review.edit(number, version, "a gray cat", confirm=True)
    assert review.find(number).text == "a black cat"
    assert review.find(number).changed_outside
    review.edit(number, version + 1, "a gray cat", confirm=True)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("no dog", "one dog"), encoding="utf-8")
    review.close()
    assert '"a gray cat"' in path.read_text(encoding="utf-8")
    assert '"one dog"' in path.read_text(encoding="utf-8")


def test_text_files_that_others_change_are_not_replaced(tmp_path: Path) -> None:
    write_sidecars(tmp_path)
    review = open_review(tmp_path)
    (tmp_path / "3.txt").write_text("a black cat")
    with pytest.raises(StaleRowError) as error:
        review.edit(3, 1, "a gray cat", confirm=True)
    assert [row.text for row in error.value.rows] == ["a black cat"]
    assert review.find(3).changed_outside
    review.edit(3, 2, "a gray cat", confirm=True)
    (tmp_path / "3.txt").write_text("a white cat")
    assert review.undo() is not None
    review.close()
    assert (tmp_path / "3.txt").read_text() == "a white cat"
    (tmp_path / "1.txt").unlink()
    review = open_review(tmp_path)
    assert list_texts(review)[1:4] == ["", "zwei Hunde", "a white cat"]
    review.close()


STEPS = st.lists(st.tuples(st.sampled_from(["accept", "edit", "reject"]), st.integers(0, 5)))


@pytest.mark.parametrize("form", ["jsonl", "sidecars"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, changed=st.sets(st.integers(0, 5)), inserted=st.booleans())
def test_what_others_change_between_reviews_stays(
    form: str,
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, int]],
    changed: set[int],
    inserted: bool,
) -> None:
    folder = tmp_path_factory.mktemp("others")
    write_review_images(folder)
    if form == "jsonl":
        path = folder / "captions.jsonl"
        names = [f"{number}.png" for number in range(6)]
        rows = [json.dumps({"file_name": name, "text": f"old {name}"}) for name in names]
        path.write_text("\n".join(rows))
    else:
        path = folder
        for number in range(6):
            (folder / f"{number}.txt").write_text(f"old {number}.png")
    review = open_review(path)
    numbers = review.select(ALL)
    for action, index in steps:
        row = review.find(numbers[index])
        if action == "accept":
            review.accept(row.number, row.version)
        elif action == "edit":
            review.edit(row.number, row.version, f"new {row.name}", confirm=True)
        else:
            review.reject(row.number, row.version, confirm=True)
    before = {row["name"]: row for row in review.describe_rows(numbers)}
    review.close()
    expected = dict(before)
    for index in changed:
        name = f"{index}.png"
        if before[name]["state"] == "rejected":
            continue
        expected[name] = {"text": f"outside {name}", "state": "not reviewed"}
        file = path if form == "jsonl" else folder / f"{index}.txt"
        text = file.read_text()
        for word in ("old", "new"):
            text = text.replace(f"{word} {name}", f"outside {name}")
        file.write_text(text)
    if inserted and form == "jsonl":
        path.write_text('{"file_name": "new.png"}\n' + path.read_text())
    review = open_review(path)
    rows_after = review.describe_rows(review.select(ALL))
    after = {row["name"]: row for row in rows_after if row["name"] != "new.png"}
    assert sorted(after) == list(before)
    assert inserted or list(after) == list(before)  # else a rejected row may have moved by one
    for name, row in expected.items():
        assert (after[name]["text"], after[name]["state"]) == (row["text"], row["state"])
    while review.undo():
        pass
    review.close()
    samples = {sample.id: sample.captions for sample in open_data(path)}
    for index in changed:
        name = f"{index}.png"
        if before[name]["state"] != "rejected":
            assert samples[name] == (f"outside {name}",)


# Whose captions they are


@pytest.fixture(scope="module")
def captioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images, a captioner, and what `cutline caption` has written."""
    folder = tmp_path_factory.mktemp("captioned")
    save_captioner(folder / "model")
    (folder / "photos").mkdir()
    write_review_images(folder / "photos")
    (folder / "photos" / "0.txt").write_text("my own\n")
    flags = ["--model", str(folder / "model"), "--max-length", "6"]
    run = ["caption", str(folder / "photos"), *flags]
    assert run_command([*run, "--words", "-o", str(folder / "captions.jsonl")]) == 0
    assert run_command([*run, "-o", ".txt", "--existing", "skip"]) == 0
    return folder


@pytest.mark.parametrize("name", ["captions.jsonl", "photos"])
def test_a_caption_of_somebody_else_needs_a_confirmation(
    captioned: Path, name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(captioned, folder)
    if name == "captions.jsonl":
        lines = (folder / name).read_text().splitlines()
        first = json.loads(lines[0]) | {"caption": "my own"}
        (folder / name).write_text("\n".join([json.dumps(first), *lines[1:]]))
    review = open_review(folder / name)
    numbers = review.select(ALL)
    assert [row["is_own"] for row in review.describe_rows(numbers)] == [True] + 5 * [False]
    review.edit(numbers[1], 1, "a dog")
    with pytest.raises(OwnCaptionError, match="not written by cutline"):
        review.edit(numbers[0], 1, "a dog")
    with pytest.raises(OwnCaptionError):
        review.reject(numbers[0], 1)
    assert review.count_states()["not reviewed"] == 5
    review.accept(numbers[0], 1)
    review.edit(numbers[0], 2, "a dog", confirm=True)
    review.edit(numbers[0], 3, "a cat")
    assert review.find(numbers[2]).confidence is not None
    assert review.read_columns(numbers[2])["confidence"] == review.find(numbers[2]).confidence
    review.close()


def test_a_run_of_caption_after_a_review_loses_nothing(captioned: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(captioned, folder)
    path = folder / "captions.jsonl"
    review = open_review(path)
    review.edit(review.select(ALL)[1], 1, "a dog")
    review.reject(review.select(ALL)[2], 1)
    caption = ["caption", str(folder / "photos"), "--words", "-o", str(path), "--max-length", "6"]
    caption += ["--model", str(folder / "model")]
    assert run_command(caption) == 1  # it would not see what the review does
    review.close()
    reviewed = path.read_bytes()
    assert run_command(caption) == 0
    assert path.read_bytes() != reviewed
    open_review(path).close()
    assert path.read_bytes() == reviewed


# What cannot be done


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "cannot be reviewed; give a .jsonl"),
        ("a.json", '{"images": [], "annotations": []}', "cannot be reviewed"),
        ("a.csv", "image,note\na.png,x\n", "there is no column of captions"),
        ("a.csv", "image_name| comment\na.png| x\n", "with bars between its cells"),
        ("a.jsonl", "\ufeff".encode("utf-16-le"), "in UTF-16; save the file as UTF-8"),
        ("a.parquet", "x", "not a Parquet file that can be read"),
        ("a.tar", "x", "cannot be reviewed"),
    ],
)
def test_other_data_is_refused(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        open_captions(tmp_path / name)
    with pytest.raises(DataError, match="no such file or folder"):
        open_captions(tmp_path / "missing.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no images"):
        open_captions(tmp_path / "empty")


def test_one_review_at_a_time(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path)
    review = open_review(path)
    with pytest.raises(DataError, match="another review is open there"):
        open_captions(path)
    review.close()
    open_review(path).close()


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path)
    open_review(path).close()
    journal = tmp_path / ".cutline-review.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"time": "torn')
    open_review(path).close()
    assert journal.read_bytes() == whole
    journal.write_bytes(whole + b"damage\n" + whole)
    with pytest.raises(DataError, match=r"review\.jsonl, line 2: damaged; move the file away"):
        open_captions(path)


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path)
    (tmp_path / ".cutline-review.jsonl").mkdir()
    with pytest.raises(DataError, match=r"review\.jsonl: cannot be written \(Is a directory\)"):
        open_captions(path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataError, match=r"cannot be written \(Permission denied\)"):
            open_captions(path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("form", ["jsonl", "sidecars"])
def test_a_full_disk_loses_nothing(
    form: str, tmp_path: Path, limit_file_size: Callable[[int | None], None]
) -> None:
    path = FORMS[form](tmp_path)
    review = open_review(path)
    review.edit(*find_text(review, "a cat"), "a gray cat", confirm=True)
    before = read_data(path)
    size = (tmp_path / ".cutline-review.jsonl").stat().st_size
    limit_file_size(size + 50)
    with pytest.raises(DataError, match="File too large"):
        review.edit(*find_text(review, "no dog"), "x" * 300, confirm=True)
    assert list_texts(review)[3:] == ["a gray cat", "a red dog", "no dog"]
    assert read_data(path) == before
    limit_file_size(None)
    review.edit(*find_text(review, "no dog"), "one dog", confirm=True)
    if form == "jsonl":
        limit_file_size(100)
        with pytest.raises(DataError, match="File too large"):
            review.close()
        limit_file_size(None)
        assert read_data(path) == before
    else:
        review.close()
    open_review(path).close()
    captions = (tmp_path / "5.txt" if form == "sidecars" else path).read_text(encoding="utf-8")
    assert "one dog" in captions
