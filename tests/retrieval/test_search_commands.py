"""`cutline index` and `cutline search`, end to end, and when they are killed."""

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest
from index_files import read_index
from stopped_runs import SLOW, stop_at_random
from web_server import WebServer, send

from cutline.cli.main import run_command
from cutline.config import MatcherOptions
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.interrupt import Interrupted
from cutline.retrieval import (
    ImageSources,
    IndexCounts,
    IndexListener,
    IndexSettings,
    SearchIndex,
    update_index,
)

NUM_IMAGES = 100
Run: TypeAlias = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command, and returns its exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        code = run_command([*map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_index_and_search(run: Run, photos: Path, matcher_folder: Path) -> None:
    code, out, err = run("index", photos, "--matcher", matcher_folder)
    assert (code, out) == (0, "")
    assert "index: 12 images; 12 embedded" in err
    code, out, err = run("search", "two red stars", "--in", photos, "-k", "5")
    assert code == 0
    assert re.search(r"searched 12 images in \d+\.\d{3} s$", err, re.M)
    lines = [line.split("\t") for line in out.splitlines()]
    hits = SearchIndex.open(photos).search("two red stars", 5)
    assert lines == [[f"{hit.score:.4f}", hit.image] for hit in hits]
    assert run("search", "two red stars", "--in", photos / ".cutline" / "index", "-k", 5)[1] == out


def test_search_with_reranking_writes_files(
    run: Run, photos: Path, matcher_folder: Path, tmp_path: Path
) -> None:
    (photos / "<b>&.png").write_bytes((photos / "scene-000001.png").read_bytes())
    assert run("index", photos, "--matcher", matcher_folder)[0] == 0
    files = ["-o", tmp_path / "hits.jsonl", "--report", tmp_path / "hits.html"]
    words = ["search", "two <i>&", "--in", photos, "-k", "13", "--rerank-top", "4", *files]
    code, out, err = run(*words)
    assert code == 0
    assert "re-ranked 4 images in " in err
    lines = [line.split("\t") for line in out.splitlines()]
    assert [line[0] == "-" for line in lines] == [False] * 4 + [True] * 9
    assert sorted(lines[:4], key=lambda line: -float(line[0])) == lines[:4]
    rows = [json.loads(line) for line in (tmp_path / "hits.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == [line[2] for line in lines]
    assert ["match" in row for row in rows] == [True] * 4 + [False] * 9
    html = (tmp_path / "hits.html").read_text()
    assert html.count("data:image/") == 13
    assert f"<h1>“two &lt;i&gt;&amp;” in {photos}</h1>" in html
    assert "\\u003cb>&.png" in html
    assert "<b>" not in html
    assert run(*words, "--report-images", "3")[0] == 0
    assert (tmp_path / "hits.html").read_text().count("data:image/") == 3
    assert [json.loads(line) for line in run(*words, "--json")[1].splitlines()] == rows


def test_an_image_can_be_the_question(run: Run, photos: Path, matcher_folder: Path) -> None:
    assert run("index", photos, "--matcher", matcher_folder)[0] == 0
    path, copy = photos / "scene-000004.png", photos / "two red stars"
    code, out, _ = run("search", path, "--in", photos, "-k", 1, "--report", photos / "r.html")
    assert (code, out) == (0, f"1.0000\t{path}\n")
    page = (photos / "r.html").read_text()
    assert page.count("data:image/") == 1  # the question is the image that was found
    assert "Images like scene-000004.png" in page
    copy.write_bytes(path.read_bytes())
    assert run("search", "--image", copy, "--in", photos, "-k", 1)[1] == out
    code, _, err = run("search", "--image", path, "--in", photos, "--rerank-top", 3)
    assert code == 2
    assert "the question is an image" in err
    assert run("search", "two", "--image", path, "--in", photos)[0] == 2
    assert run("search", "--in", photos)[0] == 2


def test_images_that_are_gone_are_named(run: Run, photos: Path, matcher_folder: Path) -> None:
    assert run("index", photos, "--matcher", matcher_folder)[0] == 0
    gone = photos / "scene-000004.png"
    gone.unlink()
    report = ["--report", photos / "r.html"]
    code, out, err = run("search", "two", "--in", photos, "--rerank-top", 12, *report)
    assert code == 0
    assert f"{gone}: not re-ranked, because it cannot be read any more" in err
    assert out.splitlines()[-1].startswith("-\t")
    html = (photos / "r.html").read_text()
    assert html.count("data:image/") == 11
    assert str(gone.name) in html


def test_names_stay_on_their_lines(run: Run, photos: Path, matcher_folder: Path) -> None:
    (photos / "a\nb\tc.png").write_bytes((photos / "scene-000001.png").read_bytes())
    assert run("index", photos, "--matcher", matcher_folder)[0] == 0
    out = run("search", "two", "--in", photos)[1]
    assert all(len(line.split("\t")) == 2 for line in out.splitlines())
    assert "a\\nb\\tc.png" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["search", "two"], "--in photos"),
        (["search", "two", "--in", "nowhere"], "nowhere: no such folder"),
        (["search", "", "--in", "."], "nothing is asked"),
        (["search", "two", "--image", "a.png", "--in", "."], "leave out one of them"),
        (["search", "two", "--in", "."], "has no index; make one with `cutline index . --matcher"),
        (["search", "two", "--in", ".", "-o", "hits.txt"], "writes hits to a .jsonl file"),
        (["search", "two", "--in", ".", "--report", "r.txt"], "a report is an HTML file"),
        (["search", "two", "--in", ".", "-k", "0"], "k must be at least 1, not 0"),
        (["search", "two", "--in", ".", "--rerank-top", "-1"], "rerank must be at least 0"),
        (["index", "."], "name the matcher that embeds them"),
        (["index", "--matcher", "m"], "name the images to index"),
        (["index", ".", "--matcher-config", "base"], "without a matcher"),
    ],
)
def test_mistakes_are_explained(
    run: Run, tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert code in (1, 2)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_search_writes_nothing_into_the_index(
    run: Run, photos: Path, matcher_folder: Path
) -> None:
    """It may be on a disk that is read-only."""
    assert run("index", photos, "--matcher", matcher_folder)[0] == 0
    times = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    for path in times:
        path.chmod(0o555 if path.is_dir() else 0o444)
    code, out, _ = run("search", "two", "--in", photos, "--rerank-top", 3)
    assert (code, len(out.splitlines())) == (0, 12)
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == times
    for path in times:
        path.chmod(0o755)


def test_images_on_the_web_are_indexed_and_ranked(
    run: Run, scenes: list[Path], matcher_folder: Path, tmp_path: Path
) -> None:
    with WebServer() as server:
        for path in scenes[:3]:
            server.answers[f"/{path.name}"] = send(path.read_bytes())
        urls = list(map(server.url, server.answers))
        (tmp_path / "urls.txt").write_text("\n".join(urls))
        index = tmp_path / "index"
        private = ["--allow-urls", "--allow-private-hosts", "127.0.0.0/8"]
        words = ["--from-list", tmp_path / "urls.txt", "--matcher", matcher_folder, *private]
        assert run("index", *words, "-o", index)[0] == 0
        out = run("search", "two", "--in", index, "--rerank-top", 3)[1]
        lines = [line.split("\t") for line in out.splitlines()]
        assert sorted(line[2] for line in lines) == urls
        assert all(line[0] != "-" for line in lines)


def test_exit_codes_tell_of_images_that_cannot_be_read(
    run: Run, photos: Path, matcher_folder: Path
) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    code, _, err = run("index", photos, "--matcher", matcher_folder)
    assert code == 3
    assert "skipped: " in err
    assert "bad.png: not an image" in err
    assert "1 of 13 images could not be read, and are not in the index; they are listed" in err
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    code, _, err = run("index", photos, "--matcher", matcher_folder, "--new-index")
    assert code == 1
    assert "no image could be indexed" in err


# Killed and stopped runs


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("kill") / "many"
    write_scenes(folder, make_scenes(NUM_IMAGES, seed=5), size=64)
    (folder / "captions.jsonl").unlink()
    (folder / "broken.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([signal.SIGKILL] * 6, id="kill"),
        pytest.param([signal.SIGKILL] * 20, id="kill 20 times", marks=pytest.mark.slow),
        pytest.param([signal.SIGINT, signal.SIGTERM] * 2, id="stop"),
    ],
)
def test_a_run_that_is_stopped_again_and_again(
    many: Path, matcher_folder: Path, tmp_path: Path, numbers: list[int]
) -> None:
    """In the end the index is that of a run that was never stopped."""
    index = tmp_path / "index"
    words = ["index", str(many), "--matcher", str(matcher_folder), "--precision", "fp32"]
    words += SLOW
    stop_at_random([*words, "-o", str(index)], index, numbers, 1)
    assert run_command([*words, "-o", str(index)]) == 3
    assert run_command([*words, "-o", str(tmp_path / "plain")]) == 3
    assert read_index(index) == read_index(tmp_path / "plain")
    assert len(read_index(index)) == NUM_IMAGES
    assert not [path for path in index.iterdir() if path.name.startswith(("part", "."))]


@pytest.mark.slow
def test_updates_that_are_killed(many: Path, matcher_folder: Path, tmp_path: Path) -> None:
    """Images come, change and go meanwhile; a search finds an index at any time."""
    folder, index = tmp_path / "photos", tmp_path / "index"
    folder.mkdir()
    paths = sorted(many.glob("scene*.png"))
    for path in paths[:40]:
        os.link(path, folder / path.name)
    words = ["index", str(folder), "--matcher", str(matcher_folder), "--precision", "fp32"]
    words += SLOW
    assert run_command([*words, "-o", str(index)]) == 0
    for step in range(4):
        for number in range(10):
            added = paths[40 + 10 * step + number]
            os.link(added, folder / added.name)
        (folder / paths[step].name).unlink()
        changed = folder / paths[20 + step].name
        changed.unlink()
        changed.write_bytes(paths[90 + step].read_bytes())
        stop_at_random([*words, "-o", str(index)], index, [signal.SIGKILL] * 2, step)
        assert len(SearchIndex.open(index, precision="fp32").search("two", k=500)) >= 36
    assert run_command([*words, "-o", str(index)]) == 0
    assert run_command([*words, "-o", str(tmp_path / "plain")]) == 0
    assert read_index(index) == read_index(tmp_path / "plain")


def test_ctrl_c_loses_nothing(
    photos: Path, matcher_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A signal in this process, as a terminal sends it."""

    def interrupt(counts: IndexCounts) -> None:
        if counts.embedded == 5:
            signal.raise_signal(signal.SIGINT)

    settings = IndexSettings(MatcherOptions(str(matcher_folder)))
    with pytest.raises(Interrupted, match="stopped after 5 images; the same command goes on"):
        update_index(ImageSources([str(photos)]), settings, IndexListener(interrupt))
    assert run_command(["index", str(photos), "--matcher", str(matcher_folder)]) == 0
    assert "12 images; 7 embedded, 5 unchanged" in capsys.readouterr().err
