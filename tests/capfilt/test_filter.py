"""`cutline filter`: every source times every output keeps the same texts, once."""

import json
from pathlib import Path

import pytest
from filter_data import FILES, SOURCES, Run, Texts, Truth, collect, read_table, read_texts

from cutline.capfilt import FilterJob, filter_captions
from cutline.config import FilterConfig, InferenceConfig, MatcherOptions
from cutline.data import open_data
from cutline.errors import ConfigError
from cutline.matcher import Matcher

OUTPUTS = {
    "jsonl": ["-o", "{out}/kept.jsonl"],
    "csv": ["-o", "{out}/kept.csv"],
    "parquet": ["-o", "{out}/kept.parquet"],
    "metadata": ["-o", "{folder}/metadata.jsonl"],
    "texts": ["-o", "{out}/texts", "--folder-format", "text"],
    "shards": ["-o", "{out}/shards", "--folder-format", "shards", "--shard-size", "5"],
    "shard": ["-o", "{out}/kept.tar"],
    "txt": ["-o", ".txt"],
}
USUAL = ("jsonl", "shards", "txt")


def is_possible(source: str, output: str) -> bool:
    """Return whether an output can have the texts of a source, and is none of it."""
    if output == "txt":
        return source in ("jsonl", "csv", "parquet")
    return output != "metadata" or source in ("jsonl", "csv", "parquet", "sidecars", "imagefolder")


def read_tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sort_texts(texts: Texts) -> dict[str, list[str]]:
    return {name: texts[name] for name in sorted(texts)}


@pytest.mark.parametrize(
    "output",
    [each if each in USUAL else pytest.param(each, marks=pytest.mark.slow) for each in OUTPUTS],
)
@pytest.mark.parametrize("source", SOURCES)
def test_every_source_and_output(
    source: str,
    output: str,
    scenes: list[Path],
    texts: Texts,
    truth: Truth,
    run: Run,
    tmp_path: Path,
) -> None:
    words = SOURCES[source](tmp_path, scenes, texts)
    flags = [word.format(out=tmp_path / "out", folder=tmp_path) for word in OUTPUTS[output]]
    dropped = tmp_path / "dropped.jsonl"
    words += [*flags, "--threshold", str(truth.threshold), "--dropped", str(dropped)]
    before = read_tree(tmp_path)
    if not is_possible(source, output):
        code, message = run("filter", *words)
        assert code == 2
        assert len(message.splitlines()) == 1
        assert read_tree(tmp_path) == before
        return
    code, message = run("filter", *words)
    assert (code, before.items() <= read_tree(tmp_path).items()) == (0, True), message
    path = tmp_path / "images" if output == "txt" else Path(flags[1])
    assert sort_texts(read_texts(path)) == truth.kept
    assert sort_texts(read_texts(dropped)) == truth.dropped
    is_table = path.suffix in (".jsonl", ".csv", ".parquet")
    if path.suffix == ".tar" or output in ("shards", "txt") or (is_table and source in FILES):
        samples = [sample for sample in open_data(path) if sample.captions]
        pairs = [(sample.id, text) for sample in samples for text in sample.captions]
        assert sort_texts(collect(pairs)) == truth.kept
        assert all(Path(sample.local_path).is_file() for sample in samples if sample.local_path)
    after = read_tree(tmp_path)
    code, message = run("filter", *words)
    assert (code, "filtered by an earlier run: 12" in message) == (0, True)
    assert read_tree(tmp_path) == after


def test_rows_have_scores_and_the_fingerprint(
    scenes: list[Path], texts: Texts, truth: Truth, run: Run, matcher: Matcher, tmp_path: Path
) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes, texts)
    for suffix in (".jsonl", ".csv", ".parquet"):
        kept, dropped = tmp_path / f"kept{suffix}", tmp_path / "sub" / f"dropped{suffix}"
        run("filter", *words, "-o", kept, "--dropped", dropped, "--threshold", truth.threshold)
        rows = read_table(kept)
        assert list(rows[0]) == ["image", "id", "caption", "itm", "itc", "matcher"]
        assert len({row["matcher"] for row in rows}) == 1
        assert all(row["itm"] >= truth.threshold for row in rows)
        rows += read_table(dropped)
        pairs = (
            [scenes[0].with_name(Path(row["image"]).name) for row in rows],
            [row["caption"] for row in rows],
        )
        for name, score in (("itm", matcher.match), ("itc", matcher.similarity)):
            expected = score(*pairs).tolist()
            assert [row[name] for row in rows] == pytest.approx(expected, abs=1e-4)
        assert all(row["itm"] < truth.threshold for row in read_table(dropped))
        assert all((dropped.parent / row["image"]).is_file() for row in read_table(dropped))


def test_the_cosine_can_decide(
    scenes: list[Path], texts: Texts, run: Run, matcher: Matcher, tmp_path: Path
) -> None:
    words = SOURCES["sidecars"](tmp_path, scenes, texts)
    out = tmp_path / "kept.jsonl"
    assert run("filter", *words, "-o", out, "--score", "itc")[0] == 2
    assert run("filter", *words, "-o", out, "--score", "itc", "--threshold", "-0.05")[0] == 0
    rows = read_table(out)
    assert {row["itc"] >= -0.05 for row in rows} == {True}
    cosines = [matcher.similarity(path, texts[path.stem]) for path in scenes]
    assert len(rows) == sum(int((row >= -0.05).sum()) for row in cosines)


def test_changed_texts_and_images_are_scored_again_and_other_settings_refused(
    scenes: list[Path], texts: Texts, truth: Truth, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["sidecars"](tmp_path, scenes, texts)
    words += ["-o", str(tmp_path / "kept.jsonl"), "--threshold", str(truth.threshold)]
    assert run("filter", *words)[0] == 0
    name = next(iter(truth.kept))
    (tmp_path / "images" / f"{name}.txt").write_text("\n")
    code, message = run("filter", *words)
    assert code == 3
    assert f"{name}.png: has no text to filter" in message
    assert "filtered by an earlier run: 11" in message
    kept = read_texts(tmp_path / "kept.jsonl")
    assert kept == {key: value for key, value in truth.kept.items() if key != name}
    code, message = run("filter", *words[:-1], "0.01")
    assert (code, "threshold was" in message, "--new-run" in message) == (2, True, True)
    assert run("filter", *words[:-1], "0", "--new-run")[0] == 3
    assert len(read_table(tmp_path / "kept.jsonl")) == sum(map(len, texts.values())) - len(
        texts[name]
    )


def test_a_text_file_of_an_image_that_no_longer_matches_is_removed(
    scenes: list[Path], texts: Texts, truth: Truth, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes, texts)
    words += ["-o", str(tmp_path / "out"), "--folder-format", "text"]
    words += ["--threshold", str(truth.threshold)]
    assert run("filter", *words)[0] == 0
    name = next(name for name in truth.kept if name in truth.dropped)
    rows = [json.loads(line) for line in Path(words[0]).read_text().splitlines()]
    others = [
        row for row in rows if row["caption"] not in truth.kept[name] or name not in row["image"]
    ]
    Path(words[0]).write_text("".join(json.dumps(row) + "\n" for row in others))
    assert run("filter", *words)[0] == 0
    kept = {key: value for key, value in truth.kept.items() if key != name}
    assert sort_texts(read_texts(tmp_path / "out")) == kept
    assert not list((tmp_path / "out").rglob(f"{name}.txt"))


def test_parts_together_are_the_whole(
    scenes: list[Path], texts: Texts, truth: Truth, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["shards"](tmp_path, scenes, texts)
    words += ["-o", str(tmp_path / "kept.jsonl"), "--dropped", str(tmp_path / "dropped.csv")]
    words += ["--threshold", str(truth.threshold)]
    kept: Texts = {}
    for number in range(3):
        assert run("filter", *words, "--part", f"{number}/3")[0] == 0
        suffix = f"-{number:05}-of-00003"
        assert (tmp_path / f"dropped{suffix}.csv").is_file()
        kept |= read_texts(tmp_path / f"kept{suffix}.jsonl")
    assert sort_texts(kept) == truth.kept


def test_a_limit_and_what_comes_after_it(
    scenes: list[Path], texts: Texts, truth: Truth, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["csv"](tmp_path, scenes, texts)
    words += ["-o", str(tmp_path / "kept"), "--folder-format", "shards", "--shard-size", "3"]
    words += ["--threshold", str(truth.threshold)]
    for _ in range(4):
        assert run("filter", *words, "--limit", "3")[0] == 0
    assert sort_texts(read_texts(tmp_path / "kept")) == truth.kept
    sizes = [len(read_texts(path)) for path in sorted((tmp_path / "kept").glob("*.tar"))]
    assert sizes == [3] * (len(truth.kept) // 3) + [len(truth.kept) % 3] * bool(len(truth.kept) % 3)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["{data}"], "name the file or folder to write"),
        (["-o", "x.jsonl"], "name the data to filter"),
        (["{data}", "-o", "{data}", "--new-run"], "part of the data"),
        (["{data}", "-o", "x.jsonl", "--dropped", "{data}", "--new-run"], "part of the data"),
        (["{data}", "-o", "x.jsonl", "--dropped", "{there}"], "exists; name another file"),
        (["{data}", "-o", "{out}.jsonl", "--dropped", "{out}.jsonl"], "run writes that itself"),
        (["{data}", "-o", "{out}.csv", "--dropped", "{out}.csv.failed.jsonl"], "name another file"),
        (["{data}", "-o", "{out}.csv", "--dropped", "{out}.csv.state/a.csv"], "name another file"),
        (["{data}", "-o", "x.jsonl", "--dropped", "x.txt"], "give a .jsonl, .csv or .parquet"),
        (["{data}", "-o", "x.jsonl", "--report", "x.pdf"], "a report is an HTML file"),
        (["{data}", "-o", "x.jsonl", "--threshold", "2"], "threshold must be between 0 and 1"),
        (["{data}", "-o", "x.jsonl", "--existing", "append"], "existing has no effect"),
    ],
)
def test_wrong_usage(
    words: list[str], reason: str, scenes: list[Path], texts: Texts, run: Run, tmp_path: Path
) -> None:
    (data,) = SOURCES["jsonl"](tmp_path, scenes[:1], texts)
    there = tmp_path / "there.jsonl"
    there.write_text("mine\n")
    before = read_tree(tmp_path)
    places = {"data": data, "there": there, "out": tmp_path / "sub" / "x"}
    code, message = run("filter", *(word.format(**places) for word in words))
    assert (code, len(message.splitlines())) == (2, 1)
    assert reason in message
    assert read_tree(tmp_path) == before


def test_no_captions_at_all_fail(scenes: list[Path], run: Run, tmp_path: Path) -> None:
    code, message = run("filter", scenes[0], scenes[1], "-o", tmp_path / "kept.jsonl")
    assert code == 1
    assert message.count("has no text to filter; `cutline caption`") == 2
    assert "no image could be filtered" in message


def test_a_matcher_is_needed_and_no_captioner(scenes: list[Path], models: Path) -> None:
    with pytest.raises(ConfigError, match="name the matcher"):
        filter_captions(str(scenes[0]), FilterJob(MatcherOptions()), "x.jsonl")
    with pytest.raises(ConfigError, match="name the data to filter"):
        filter_captions([], FilterJob(MatcherOptions(str(models / "matcher"))), "x.jsonl")


def test_the_python_function_does_what_the_command_does(
    scenes: list[Path], texts: Texts, truth: Truth, models: Path, tmp_path: Path
) -> None:
    (data,) = SOURCES["jsonl"](tmp_path, scenes, texts)
    job = FilterJob(
        MatcherOptions(str(models / "matcher")),
        FilterConfig(threshold=truth.threshold),
        InferenceConfig("cpu", "fp32"),
    )
    report = tmp_path / "report.html"
    summary = filter_captions(Path(data), job, tmp_path / "kept.csv", report=report)
    assert summary.counts.captioned == len(scenes)
    assert read_texts(tmp_path / "kept.csv") == truth.kept
    assert report.is_file()
