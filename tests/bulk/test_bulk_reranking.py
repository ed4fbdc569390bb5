"""Captions of collections that a matcher ranks, through the command itself."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from bulk_outputs import Caption, read_captions, read_lines, read_table
from bulk_sources import Images
from random_matcher import make_matcher, save_matcher

SAMPLE = ["--precision", "fp32", "--sample", "--num-captions", "5", "--temperature", "2"]


@pytest.fixture
def folder(images: Images) -> Path:
    """Return a folder with twelve images."""
    images.link("photos")
    return images.folder / "photos"


@pytest.fixture
def rerank(matcher: str) -> list[str]:
    """Return the flags of re-ranking."""
    return [*SAMPLE, "--rerank", "itm", "--matcher", matcher]


def check_matches(rows: list[dict[str, Any]], folder: Path) -> None:
    """Check the columns `match` against the matcher itself."""
    matcher = make_matcher()
    assert len(rows) == 12
    for row in rows:
        alternatives = row.get("alternatives") or [row]
        texts = [each["caption"] for each in alternatives]
        found = [float(each["match"]) for each in alternatives]
        assert found == sorted(found, reverse=True)
        expected = matcher.match(folder / Path(row["image"]).name, texts).tolist()
        assert found == pytest.approx(expected, abs=2e-6)
        assert float(row["match"]) == found[0]
        assert row["caption"] == texts[0]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_tables_have_the_column_match(
    suffix: str, folder: Path, caption: Caption, rerank: list[str]
) -> None:
    out = folder.parent / f"captions{suffix}"
    assert caption(folder, "-o", out, *rerank)[0] == 0
    rows = read_table(out)
    assert [name for name in rows[0] if name in ("score", "match")] == ["score", "match"]
    if suffix == ".csv":
        rows = [row | {"alternatives": json.loads(row["alternatives"])} for row in rows]
    assert all(len(row["alternatives"]) == 5 for row in rows)
    check_matches(rows, folder)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_the_best_one_is_kept(
    suffix: str, folder: Path, caption: Caption, rerank: list[str]
) -> None:
    out = folder.parent / f"captions{suffix}"
    assert caption(folder, "-o", out, *rerank, "--keep", "1")[0] == 0
    rows = read_table(out)
    assert all("alternatives" not in row for row in rows)
    check_matches(rows, folder)


def test_without_a_matcher_there_is_no_column(folder: Path, caption: Caption) -> None:
    out = folder.parent / "captions.parquet"
    assert caption(folder, "-o", out, *SAMPLE)[0] == 0
    for row in read_table(out):
        assert "match" not in row
        assert "match" not in row["alternatives"][0]


def test_texts_shards_and_lines_have_the_best_caption(
    folder: Path, caption: Caption, rerank: list[str]
) -> None:
    code, stdout, _ = caption(folder, *rerank, "--keep", "1")
    assert code == 0
    best = read_lines(stdout)
    assert len(caption(folder, *rerank, "--keep", "2")[1].splitlines()) == 24
    assert caption(folder, "-o", folder.parent / "texts", *rerank)[0] == 0
    assert read_captions(folder.parent / "texts") == best
    out = folder.parent / "captions.tar"
    assert caption(folder, "-o", out, *rerank)[0] == 0
    assert read_captions(out) == best
    with tarfile.open(out) as tar:
        files = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
        check_matches([json.loads(file.read()) for file in files if file], folder)


def test_a_report(folder: Path, caption: Caption, rerank: list[str]) -> None:
    report = folder.parent / "report.html"
    assert caption(folder, *rerank, "--keep", "1", "--report", report)[0] == 0
    assert "Match probability" in report.read_text()


# Runs that go on


def test_a_run_goes_on(folder: Path, caption: Caption, rerank: list[str]) -> None:
    outs = [folder.parent / f"{name}.jsonl" for name in ("whole", "parts")]
    assert caption(folder, "-o", outs[0], *rerank)[0] == 0
    for _ in range(3):
        assert caption(folder, "-o", outs[1], *rerank, "--limit", "5")[0] == 0
    whole, parts = (read_table(out) for out in outs)
    for row, other in zip(whole, parts, strict=True):
        assert row["caption"] == other["caption"]
        assert row["match"] == pytest.approx(other["match"], abs=2e-6)


def test_other_matchers_and_settings_are_refused(
    folder: Path, caption: Caption, rerank: list[str], matcher: str
) -> None:
    out, other, same = (folder.parent / name for name in ("out.jsonl", "other", "same"))
    save_matcher(other, image_size=48)
    save_matcher(same)
    assert caption(folder, "-o", out, *rerank)[0] == 0
    before = out.read_bytes()
    for words, name in [
        ([*rerank[:-1], other], "matcher was"),
        ([*rerank, "--keep", "1"], "keep was 0, and is 1"),
        ([*rerank, "--matcher-image-size", "64"], "matcher was"),
        (SAMPLE, "matcher was"),
    ]:
        code, _, err = caption(folder, "-o", out, *words)
        assert code == 2, err
        assert name in err
    assert out.read_bytes() == before
    assert caption(folder, "-o", out, *rerank[:-1], same)[0] == 0


def test_a_run_without_a_matcher_does_not_go_on_with_one(
    folder: Path, caption: Caption, rerank: list[str]
) -> None:
    out = folder.parent / "out.jsonl"
    assert caption(folder, "-o", out, *SAMPLE)[0] == 0
    code, _, err = caption(folder, "-o", out, *rerank)
    assert code == 2
    assert "rerank was the default, and is 'itm'" in err


# Processes


def test_processes_load_both_models(folder: Path, caption: Caption, rerank: list[str]) -> None:
    assert caption(folder, "-o", folder.parent / "out.jsonl", *rerank, "--devices", "cpu")[0] == 0
    check_matches(read_table(folder.parent / "out.jsonl"), folder)


# Errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rerank", "itm"], "rerank needs a matcher"),
        (["--matcher", "m"], "add --rerank itm, or remove --matcher"),
        (["--keep", "1"], "add --rerank itm, or remove --keep"),
        (["--matcher-image-size", "64"], "matcher_image_size has no effect without a matcher"),
        (["--rerank", "itm", "--matcher", "m", "--keep", "2"], "keep 2 is above num_captions 1"),
        (["--rerank", "itm", "--matcher", "m", "--keep", "-1"], "keep must be at least 0"),
    ],
)
def test_flags_that_do_not_fit(
    words: list[str], message: str, folder: Path, caption: Caption
) -> None:
    code, stdout, err = caption(folder, *words)
    assert (code, stdout) == (2, "")
    assert message in err


def test_a_matcher_that_cannot_be_loaded(
    folder: Path, caption: Caption, model: str, rerank: list[str]
) -> None:
    for path in (folder.parent / "nowhere", model):
        for more in ([], ["-o", folder.parent / "out.jsonl"]):
            code, _, err = caption(folder, *rerank[:-1], path, *more)
            assert code in (1, 2)
            assert str(path) in err
    assert not (folder.parent / "out.jsonl").exists()
