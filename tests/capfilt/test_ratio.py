"""`cutline filter --score ratio`: a captioner decides, without a matcher."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import pytest
from filter_data import FAST, SOURCES, Texts, read_table
from random_captioner import make_captioner

from cutline.bulk.engine import caption_samples
from cutline.bulk.processes import caption_in_processes
from cutline.capfilt import FilterJob
from cutline.capfilt.scorer import choose_background
from cutline.cli.main import run_command
from cutline.config import (
    CaptionerOptions,
    FilterConfig,
    InferenceConfig,
    MatcherOptions,
    RatioOptions,
)
from cutline.data import Sample
from cutline.errors import ConfigError, DataError
from cutline.likelihood_ratio import LikelihoodRatio, RatioScores


def run_filter(*words: object) -> tuple[int, str]:
    """Run `cutline filter`; return the exit code and stderr."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        code = run_command(["filter", *map(str, words), *FAST])
    return code, stderr.getvalue()


@pytest.fixture
def flags(models: Path, scenes: list[Path]) -> list[str]:
    """Return what names a captioner, and five images to compare with."""
    words = ["--score", "ratio", "--captioner", models / "captioner"]
    words += ["--background", scenes[0].parent, "--num-background", "5"]
    return list(map(str, words))


def compute_ratios(models: Path, scenes: list[Path], texts: Texts) -> dict[tuple[str, str], float]:
    """Return the ratio of each image and text."""
    folder = str(scenes[0].parent)
    options = RatioOptions(str(models / "captioner"), background=folder, num_background=5)
    background = choose_background(options)
    assert len(background) == 5
    ratio = LikelihoodRatio(make_captioner(), background)
    results = list(ratio.stream([(str(path), texts[path.stem]) for path in scenes]))
    found = {}
    for path, result in zip(scenes, results, strict=True):
        assert isinstance(result, RatioScores)
        found |= {
            (path.stem, text): value
            for text, value in zip(texts[path.stem], result.ratio, strict=True)
        }
    return found


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_texts_that_are_likelier_are_kept(
    scenes: list[Path], texts: Texts, models: Path, flags: list[str], tmp_path: Path, suffix: str
) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes, texts)
    kept, dropped = tmp_path / f"kept{suffix}", tmp_path / f"dropped{suffix}"
    report = tmp_path / "report.html"
    words += [*flags, "-o", str(kept), "--dropped", str(dropped), "--report", str(report)]
    assert run_filter(*words)[0] == 0
    rows = {name: read_table(path) for name, path in (("kept", kept), ("dropped", dropped))}
    assert list(rows["kept"][0]) == ["image", "id", "caption", "ratio", "captioner"]
    found = {
        (Path(row["image"]).stem, row["caption"]): row["ratio"]
        for part in rows.values()
        for row in part
    }
    expected = compute_ratios(models, scenes, texts)
    assert found == {key: pytest.approx(value, abs=1e-4) for key, value in expected.items()}
    assert all(row["ratio"] >= 0 for row in rows["kept"])
    assert all(row["ratio"] < 0 for row in rows["dropped"])
    assert len(rows["kept"]) > 0
    assert len(rows["dropped"]) > 0
    assert "Likelihood ratio" in report.read_text()
    code, message = run_filter(*words)
    assert (code, "filtered by an earlier run: 12" in message) == (0, True)


def test_another_threshold_or_background_is_another_run(
    scenes: list[Path], texts: Texts, flags: list[str], tmp_path: Path
) -> None:
    words = [*SOURCES["jsonl"](tmp_path, scenes, texts), *flags, "-o", str(tmp_path / "kept.csv")]
    assert run_filter(*words, "--threshold", "-100")[0] == 0
    for other in ("--threshold=-50", "--num-background=4"):
        code, message = run_filter(*words, "--threshold", "-100", other)
        assert (code, message.count("\n")) == (2, 1)
        assert "--new-run" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--score", "ratio"], "name the captioner that scores texts"),
        (["--score", "ratio", "--captioner", "C"], "name some, such as the captioner's training"),
        (["--score", "ratio", "--matcher", "M"], "ratio is the score of a captioner"),
        (["--captioner", "C", "--background", "B"], "itm is the score of a matcher"),
        (["--captioner", "C", "--matcher", "M"], "are both given"),
        (["--matcher", "M", "--background", "B"], "has no effect without a captioner"),
        (["--matcher", "M", "--num-background", "3"], "has no effect without a captioner"),
        (["--num-background", "0", "--captioner", "C"], "must be at least 1"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    words: list[str], message: str, scenes: list[Path], tmp_path: Path
) -> None:
    code, stderr = run_filter(scenes[0].parent, *words, "-o", tmp_path / "kept.jsonl")
    assert (code, stderr.count("\n")) == (2, 1)
    assert message in stderr
    assert not list(tmp_path.iterdir())


def test_a_captioner_does_not_score_what_it_writes(models: Path, scenes: list[Path]) -> None:
    captioner = str(models / "captioner")
    ratio = RatioOptions(captioner, background=str(scenes[0].parent))
    with pytest.raises(ConfigError, match="finds its own likely"):
        FilterJob(ratio, FilterConfig("ratio"), captioner=CaptionerOptions(captioner))
    with pytest.raises(ConfigError, match="ratio is the score of a captioner"):
        FilterJob(MatcherOptions("M"), FilterConfig("ratio"))


def test_images_to_compare_with_are_needed(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    options = RatioOptions(str(models / "captioner"), background=str(tmp_path / "empty.jsonl"))
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        choose_background(options)


def test_an_image_on_several_rows_is_one(
    scenes: list[Path], texts: Texts, models: Path, tmp_path: Path
) -> None:
    (data,) = SOURCES["csv"](tmp_path, scenes[:4], texts)
    options = RatioOptions(str(models / "captioner"), background=data, num_background=3)
    chosen = choose_background(options)
    assert len(set(map(str, chosen))) == len(chosen) == 3
    chosen = choose_background(replace(options, num_background=12))
    assert len(set(map(str, chosen))) == len(chosen) == 4


def test_why_no_image_can_be_compared_with(models: Path, tmp_path: Path) -> None:
    (tmp_path / "urls.jsonl").write_text('{"image": "https://example.org/x.png"}\n')
    options = RatioOptions(str(models / "captioner"), background=str(tmp_path / "urls.jsonl"))
    with pytest.raises(DataError, match=r"urls\.jsonl: has no images .*allow-urls"):
        choose_background(options)


@pytest.mark.slow
def test_processes_give_the_same(models: Path, scenes: list[Path], texts: Texts) -> None:
    job = FilterJob(
        RatioOptions(str(models / "captioner"), background=str(scenes[0].parent)),
        FilterConfig("ratio"),
        InferenceConfig("cpu", "fp32", batch_size=3),
    )
    samples = [Sample(str(path), tuple(texts[path.stem]), path.stem) for path in scenes]
    expected = {s.id: r for s, r in caption_samples(job.load(), job, iter(samples))}
    found = {s.id: r for s, r in caption_in_processes(iter(samples), job, ["cpu", "cpu"])}
    assert {name: list_rows(result) for name, result in found.items()} == {
        name: list_rows(result) for name, result in expected.items()
    }


def list_rows(result: object) -> object:
    """Return the rows of a result, kept and dropped, without the number of its image."""
    return getattr(result, "kept", result), getattr(result, "dropped", None)
