"""Confidence in the outputs of `cutline caption`, and captions that are not accepted."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from bulk_outputs import Caption, Captions, find_name, read_captions, read_lines, read_table
from bulk_sources import Images
from tars import write_tar

import cutline
from cutline.confidence import Calibration
from cutline.metrics import PlattScaling

Confidences = dict[str, float]
"""by the names of images"""


@pytest.fixture
def folder(images: Images) -> Path:
    """Return a folder with the twelve images, in two subfolders."""
    images.link("photos/a", "photos/b")
    return images.folder / "photos"


@pytest.fixture(scope="module")
def confidences(scenes: list[Path], model: str) -> Confidences:
    """Return the confidence of the caption of each image."""
    captioner = cutline.load(model)
    captions = [captioner.caption(str(path), num_beams=1, max_length=12)[0] for path in scenes]
    return {path.stem: each.confidence for path, each in zip(scenes, captions, strict=True)}


@pytest.fixture(scope="module")
def threshold(confidences: Confidences) -> float:
    """Return a threshold that about half of the captions reach, and none nearly does."""
    values = sorted(confidences.values())
    gaps = [(values[i + 1] - values[i], i) for i in range(3, 8)]
    _, i = max(gaps)
    return (values[i] + values[i + 1]) / 2


@pytest.fixture(scope="module")
def accepted(confidences: Confidences, threshold: float) -> set[str]:
    """Return the names of images whose captions are accepted."""
    return {name for name, value in confidences.items() if value >= threshold}


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a table by the names of images."""
    return {find_name(row["id"]): row for row in read_table(path)}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_tables_have_confidence_and_words(
    folder: Path, caption: Caption, confidences: Confidences, suffix: str
) -> None:
    out = folder.parent / f"captions{suffix}"
    more = ("--words", "--num-beams", "2", "--num-captions", "2")
    assert caption(folder, "-o", out, *more, "--caption-template", "sks, {caption}")[0] == 0
    for row in read_table(out):
        names = list(row)
        assert names[names.index("score") + 1] == "confidence"
        if suffix == ".csv":
            row |= {name: json.loads(row[name]) for name in ("alternatives", "words")}
            row["confidence"] = float(row["confidence"])
        assert row["alternatives"][0]["confidence"] == row["confidence"]
        for each in (row, *row["alternatives"]):
            assert 0 <= each["confidence"] <= 1
            for word in each["words"]:
                assert each["caption"][word["start"] : word["end"]] == word["text"]
                assert 0 <= word["confidence"] <= 1
    assert caption(folder, "-o", out)[0] == 2  # another run
    assert caption(folder, "-o", out, "--new-run")[0] == 0
    rows = read_rows(out)
    assert {name: float(row["confidence"]) for name, row in rows.items()} == pytest.approx(
        confidences,
        rel=0.1,
        abs=1e-6,  # bf16
    )
    assert not {"words", "accepted"} & set(next(iter(rows.values())))


def is_accepted(row: dict[str, Any]) -> bool:
    value = row["accepted"]
    return value if isinstance(value, bool) else {"true": True, "false": False}[value]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_tables_mark_captions_and_may_have_another_threshold_later(
    folder: Path,
    caption: Caption,
    plain_captions: Captions,
    accepted: set[str],
    threshold: float,
    suffix: str,
) -> None:
    out = folder.parent / f"captions{suffix}"
    code, _, err = caption(folder, "-o", out, "--min-confidence", threshold, "--limit", 7)
    assert code == 0
    code, _, err = caption(folder, "-o", out, "--min-confidence", threshold)
    assert code == 0
    assert f"{12 - len(accepted)} marked as not accepted" in err
    assert "captioned by an earlier run: 7" in err
    assert read_captions(out) == plain_captions
    rows = read_rows(out)
    assert {name for name, row in rows.items() if is_accepted(row)} == accepted
    names = list(next(iter(rows.values())))
    assert names[names.index("confidence") + 1] == "accepted"
    code, _, err = caption(folder, "-o", out, "--min-confidence", "0.99")
    assert "captioned by an earlier run: 12" in err
    assert "12 marked as not accepted" in err
    assert not any(map(is_accepted, read_rows(out).values()))
    assert caption(folder, "-o", out)[0] == 0
    assert not any("accepted" in row for row in read_rows(out).values())


def test_imagefolder_leaves_captions_out(
    folder: Path, caption: Caption, plain_captions: Captions, accepted: set[str], threshold: float
) -> None:
    out = folder / "metadata.jsonl"
    code, _, err = caption(folder, "-o", out, "--min-confidence", threshold)
    assert code == 0
    assert f"{len(accepted)} captions; {12 - len(accepted)} left out" in err
    expected = {name: text for name, text in plain_captions.items() if name in accepted}
    assert read_captions(out) == expected
    assert caption(folder, "-o", out)[0] == 0
    assert read_captions(out) == plain_captions


def test_results_leave_captions_out(
    folder: Path, caption: Caption, plain_captions: Captions, accepted: set[str], threshold: float
) -> None:
    data, results = folder / "list.json", folder / "results.json"
    files = sorted(str(path) for path in folder.rglob("*.png"))
    names = [find_name(file) for file in files]
    rows = [{"id": n, "file_name": file} for n, file in enumerate(files)]
    data.write_text(json.dumps({"images": rows}))
    code, _, err = caption(data, "-o", results, "--min-confidence", threshold)
    assert code == 0
    assert f"{len(accepted)} captions; {12 - len(accepted)} left out" in err
    expected = {n: plain_captions[name] for n, name in enumerate(names) if name in accepted}
    assert {row["image_id"]: row["caption"] for row in json.loads(results.read_text())} == expected
    assert caption(data, "-o", results)[0] == 0
    assert len(json.loads(results.read_text())) == 12


def test_captions_that_are_not_accepted_are_not_printed(
    folder: Path, caption: Caption, plain_captions: Captions, accepted: set[str], threshold: float
) -> None:
    code, out, err = caption(folder, "--min-confidence", threshold)
    assert code == 0
    expected = {name: text for name, text in plain_captions.items() if name in accepted}
    assert read_lines(out) == expected
    assert err.count("cutline: not accepted: ") == 12 - len(accepted)
    assert f"not accepted, of less confidence than min_confidence: {12 - len(accepted)}" in err
    for name in plain_captions.keys() - accepted:
        assert name in err


@pytest.mark.parametrize("output", [".txt", "texts/", "shards/", "one.tar"])
def test_text_files_and_shards_have_accepted_captions_alone(
    folder: Path,
    caption: Caption,
    plain_captions: Captions,
    accepted: set[str],
    threshold: float,
    output: str,
) -> None:
    out = output if output == ".txt" else f"{folder.parent}/{output}"
    more = ["--folder-format", "shards"] if output == "shards/" else []
    command = (folder, "-o", out, *more)
    expected = {name: text for name, text in plain_captions.items() if name in accepted}
    place = folder if output == ".txt" else Path(out)
    for number in range(2):  # the second run has nothing to do
        code, _, err = caption(*command, "--min-confidence", threshold)
        assert code == 0
        assert read_captions(place) == expected
        assert (f"min_confidence: {12 - len(accepted)}" in err) == (number == 0)
    if output == "one.tar":
        with tarfile.open(place) as tar:
            images = {find_name(name) for name in tar.getnames() if not name.endswith(".txt")}
        assert images == accepted
    code, _, err = caption(*command)
    assert code == 2
    assert "min_confidence was " in err
    assert caption(*command, "--new-run")[0] == 0
    assert read_captions(place) == plain_captions


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append"])
def test_a_text_of_somebody_else_stays_where_a_caption_is_not_accepted(
    folder: Path,
    caption: Caption,
    plain_captions: Captions,
    accepted: set[str],
    threshold: float,
    existing: str,
) -> None:
    texts = {path.stem: path.with_suffix(".txt") for path in folder.rglob("*.png")}
    by_hand = min(plain_captions.keys() - accepted), min(accepted)
    for name in by_hand:
        texts[name].write_text("by hand\n")
    command = (folder, "-o", ".txt", "--min-confidence", threshold, "--existing", existing)
    assert caption(*command)[0] == 0
    assert texts[by_hand[0]].read_text() == "by hand\n"
    changed = {"skip": "by hand", "overwrite": "", "append": "by hand\n"}[existing]
    changed += "" if existing == "skip" else plain_captions[by_hand[1]]
    assert texts[by_hand[1]].read_text() == f"{changed}\n"
    for name in plain_captions.keys() - accepted - set(by_hand):
        assert not texts[name].exists()


def test_copies_of_shards_keep_all_images(
    images: Images,
    caption: Caption,
    plain_captions: Captions,
    accepted: set[str],
    threshold: float,
) -> None:
    members = {path.name: path.read_bytes() for path in images.link("photos")}
    write_tar(images.folder / "in.tar", members)
    out = images.folder / "copies"
    command = (images.folder / "in.tar", "-o", f"{out}/", "--min-confidence", threshold)
    assert caption(*command)[0] == 0
    assert read_captions(out) == {
        name: text for name, text in plain_captions.items() if name in accepted
    }
    with tarfile.open(out / "in.tar") as tar:
        assert set(members) <= set(tar.getnames())


@pytest.mark.parametrize("words", [("--min-confidence", "1.5"), ("--min-confidence", "-1")])
def test_a_threshold_is_a_probability(folder: Path, caption: Caption, words: list[str]) -> None:
    assert caption(folder, *words)[0] == 2


def test_words_need_a_table(folder: Path, caption: Caption) -> None:
    for output in ((), ("-o", ".txt"), ("-o", folder / "metadata.jsonl")):
        code, _, err = caption(folder, "--words", *output)
        assert code == 2
        assert "words has no effect on this output" in err


@pytest.mark.slow
def test_a_calibration_belongs_to_the_run(
    folder: Path, caption: Caption, model: str, confidences: Confidences
) -> None:
    """Also in processes; and a run without it is another one."""
    out, file = folder.parent / "captions.jsonl", folder.parent / "calibration.json"
    scaling = PlattScaling(0.5, 0.3)
    Calibration(caption=scaling, fingerprint=cutline.load(model).fingerprint).save(file)
    command = (folder, "-o", out, "--calibration", file)
    assert caption(*command, "--limit", 4)[0] == 0
    assert caption(*command, "--devices", "cpu")[0] == 0
    found = {name: row["confidence"] for name, row in read_rows(out).items()}
    expected = {name: value and scaling.apply(value) for name, value in confidences.items()}
    assert found == pytest.approx(expected, rel=0.1)
    code, _, err = caption(folder, "-o", out)
    assert code == 2
    assert "calibration was " in err
