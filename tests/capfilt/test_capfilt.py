"""`cutline capfilt`: texts of the data and synthetic ones, and where each comes from."""

import json
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from filter_data import SOURCES, Run, Texts, collect, link_images, read_table, read_texts
from random_captioner import make_captioner

from cutline.captioner import Captioner
from cutline.checkpoint import load_checkpoint, load_matcher_checkpoint
from cutline.cli.main import run_command
from cutline.data import open_data
from cutline.matcher import Matcher

ALL = ["--threshold", "0"]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


def sample_texts(captioner: Captioner, paths: list[Path], num_captions: int = 1) -> Texts:
    """Return what the captioner samples, as the paper does."""
    captions = captioner.caption(
        paths,
        sample=True,
        top_p=0.9,
        top_k=0,
        num_captions=num_captions,
        max_length=12,
    )
    return {
        path.stem: list(dict.fromkeys(each.text for each in caption.alternatives))
        for path, caption in zip(paths, captions, strict=True)
    }


@pytest.mark.parametrize("num_captions", [1, 3])
def test_texts_of_both_origins_are_scored(
    num_captions: int,
    scenes: list[Path],
    texts: Texts,
    run: Run,
    models: Path,
    captioner: Captioner,
    matcher: Matcher,
    tmp_path: Path,
) -> None:
    words = SOURCES["sidecars"](tmp_path, scenes, texts)
    out, dropped = tmp_path / "clean.jsonl", tmp_path / "dropped.jsonl"
    words += ["--num-captions", str(num_captions), "-o", str(out), "--dropped", str(dropped)]
    code, message = run("capfilt", *words, "--threshold", "0.9")
    assert (code, " web texts and " in message) == (0, True), message
    kept, others = read_table(out), read_table(dropped)
    columns = ["image", "id", "caption", "origin", "itm", "itc", "captioner", "matcher"]
    assert list(kept[0]) == list(others[0]) == columns
    rows = [*kept, *others]
    web = collect((row["id"], row["caption"]) for row in rows if row["origin"] == "web")
    synthetic = collect((row["id"], row["caption"]) for row in rows if row["origin"] == "synthetic")
    assert {key: sorted(value) for key, value in web.items()} == {
        key: sorted(value) for key, value in texts.items()
    }
    expected = sample_texts(captioner, scenes, num_captions)
    assert {key: sorted(value) for key, value in synthetic.items()} == {
        key: sorted(value) for key, value in expected.items()
    }
    images = [scenes[0].with_name(Path(row["image"]).name) for row in rows]
    scores = matcher.match(images, [row["caption"] for row in rows]).tolist()
    assert [row["itm"] for row in rows] == pytest.approx(scores, abs=1e-4)
    assert all(row["itm"] >= 0.9 for row in kept)
    assert all(row["itm"] < 0.9 for row in others)
    fingerprints = {(row["captioner"], row["matcher"]) for row in rows}
    captioner_file = load_checkpoint(models / "captioner")
    matcher_file = load_matcher_checkpoint(models / "matcher")
    assert fingerprints == {(captioner_file.fingerprint(), matcher_file.fingerprint())}
    before = out.read_bytes(), dropped.read_bytes()
    assert "filtered by an earlier run: 12" in run("capfilt", *words, "--threshold", "0.9")[1]
    assert (out.read_bytes(), dropped.read_bytes()) == before


def test_images_need_no_texts(
    scenes: list[Path], captioner: Captioner, run: Run, tmp_path: Path
) -> None:
    paths = link_images(tmp_path / "images", scenes)
    assert run("capfilt", *paths, "-o", ".txt", *ALL)[0] == 0
    assert read_texts(tmp_path / "images") == {
        name: [" ".join(text.split()) for text in texts]
        for name, texts in sample_texts(captioner, scenes).items()
    }


def test_a_synthetic_text_that_the_data_has_is_scored_once(
    scenes: list[Path], captioner: Captioner, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes, sample_texts(captioner, scenes))
    assert run("capfilt", *words, "-o", tmp_path / "clean.jsonl", *ALL)[0] == 0
    rows = read_table(tmp_path / "clean.jsonl")
    assert Counter(row["origin"] for row in rows) == {"web": len(scenes)}


def test_shards_have_the_columns_and_are_read_as_data(
    scenes: list[Path], texts: Texts, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["shards"](tmp_path, scenes, texts)
    out = tmp_path / "clean"
    assert run("capfilt", *words, "-o", out, *ALL)[0] == 0
    samples = {sample.id: sample for sample in open_data(out)}
    assert len(samples) == len(scenes)
    with tarfile.open(out / "00000.tar") as tar:
        for member in tar.getmembers():
            if not member.name.endswith(".json"):
                continue
            file = tar.extractfile(member)
            assert file
            row = json.loads(file.read())
            (sample,) = [each for key, each in samples.items() if key.endswith(member.name[:-5])]
            assert tuple(" ".join(text.split()) for text in row["captions"]) == sample.captions
            assert row["origin"][-1] == "synthetic"
            assert len(row["origin"]) == len(row["itm"]) == len(row["itc"]) == len(row["captions"])


def test_bad_images_are_listed(scenes: list[Path], texts: Texts, run: Run, tmp_path: Path) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes, texts)
    broken = tmp_path / "images" / scenes[3].name
    broken.unlink()
    broken.write_bytes(b"no image")
    out = tmp_path / "clean.jsonl"
    code, message = run("capfilt", *words, "-o", out, *ALL)
    assert (code, f"{broken}" in message) == (3, True)
    assert broken.stem not in read_texts(out)
    assert len(read_texts(out)) == len(scenes) - 1
    (failed,) = [json.loads(line) for line in Path(f"{out}.failed.jsonl").read_text().splitlines()]
    assert (Path(failed["id"]).name, failed["kind"]) == (broken.name, "image")


def test_a_captioner_is_needed(
    scenes: list[Path], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["capfilt", str(scenes[0]), "--matcher", str(models / "matcher"), "-o", "x.jsonl"]
    assert run_command(words) == 2
    assert "name the captioner" in capsys.readouterr().err


def test_another_captioner_or_seed_is_another_run(
    scenes: list[Path], texts: Texts, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes[:2], texts)
    words += ["-o", str(tmp_path / "clean.csv"), *ALL]
    assert run("capfilt", *words)[0] == 0
    code, message = run("capfilt", *words, "--seed", "1")
    assert (code, "seed was the default, and is 1" in message) == (2, True)
    code, message = run("capfilt", *words, "--no-sample", "--num-beams", "3")
    assert (code, "sample was the default, and is False" in message) == (2, True)
    code, message = run("filter", *words)
    assert (code, "captioner was" in message) == (2, True)


def test_the_report_has_both_origins(
    scenes: list[Path], texts: Texts, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["parquet of bytes"](tmp_path, scenes, texts)
    report = tmp_path / "report.html"
    words += ["-o", str(tmp_path / "clean.parquet"), "--report", str(report), "--threshold", "0.9"]
    for _ in range(2):  # the second has nothing to do, and writes it again
        assert run("capfilt", *words)[0] == 0
        page = report.read_text(encoding="utf-8")
        for words_of_page in ("share of noise", "synthetic texts", "Match probability (ITM)"):
            assert words_of_page in page
        assert page.count("data:image/") == len(scenes)
        assert "kept from 0.9<" in page
        assert all(f"{fate} · synthetic" in page for fate in ("kept", "dropped"))
        report.unlink()
