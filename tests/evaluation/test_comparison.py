"""Comparing two files of captions."""

import csv
import json
from pathlib import Path

import pytest
from caption_rows import Rows, Write

import cutline
from cutline.cli.main import run_command
from cutline.config import DataSource, MetricConfig
from cutline.evaluation import Comparison, compare_captions
from cutline.metrics import Difference, collect_stats, compare_stats, compute_metrics, java

WRONG = "a dog"
FAST = MetricConfig(resamples=20)


def test_better_captions_win(references: Path, rows: Rows, write: Write) -> None:
    worse = write("worse.jsonl", [{**row, "caption": WRONG} for row in rows])
    better = write("better.jsonl", rows)
    metrics = MetricConfig(resamples=500)
    comparison = compare_captions(worse, better, references, metrics=metrics)
    assert comparison.left_out == []
    assert comparison.names == ("worse", "better")
    assert comparison.verdict.startswith("better is better in BLEU-1 (+")
    assert "no significant difference" not in comparison.verdict
    texts = [json.loads(line)["captions"] for line in references.read_text().splitlines()]
    captions = [row["caption"] for row in rows]
    first, second = collect_stats([WRONG] * 12, texts), collect_stats(captions, texts)
    assert comparison.differences == compare_stats(first, second, 500)
    cider = compute_metrics(captions, texts)[0].cider
    assert comparison.differences["cider"].second == cider
    swapped = compare_captions(better, worse, references, metrics=metrics)
    assert swapped.verdict.startswith("better is better in BLEU-1 (+")


def test_file_does_not_differ_from_itself(references: Path, rows: Rows, write: Write) -> None:
    path = write("a.jsonl", rows)
    comparison = compare_captions(path, path, references, metrics=FAST)
    assert comparison.verdict == (
        "No significant difference in BLEU-1, BLEU-2, BLEU-3, BLEU-4, ROUGE-L or CIDEr."
    )


def test_formats_are_equivalent_and_order_does_not_matter(
    references: Path, rows: Rows, write: Write
) -> None:
    rows[0]["caption"] = 'a "red", large\ncircle'
    jsonl, table = write("a.jsonl", rows), write("a.csv", rows[::-1])
    comparison = compare_captions(jsonl, table, references, metrics=FAST)
    assert [difference.value for difference in comparison.differences.values()] == [0] * 6
    assert comparison.names == ("a.jsonl", "a.csv")
    assert len(comparison.images) == 12


def test_verdict_names_the_better_file_and_the_metrics() -> None:
    differences = {
        "cider": Difference(1.0, 1.05, (0.02, 0.08), 0.003),
        "bleu4": Difference(0.3, 0.31, (-0.01, 0.02), 0.4),
    }
    assert Comparison(("A", "B"), differences, [], []).verdict == (
        "B is better in CIDEr (+0.05, p = 0.003); no significant difference in BLEU-4."
    )
    differences |= {
        "bleu1": Difference(0.5, 0.4, (-0.2, -0.1), 0.0001),
        "rouge_l": Difference(0.5, 0.6, (0, 1), 0.049),
    }
    assert Comparison(("A", "B"), differences, [], []).verdict == (
        "B is better in CIDEr (+0.05, p = 0.003) and ROUGE-L (+0.1, p = 0.049); "
        "A is better in BLEU-1 (+0.1, p < 0.001); no significant difference in BLEU-4."
    )


def test_images_that_one_file_lacks_are_left_out(
    references: Path, rows: Rows, write: Write
) -> None:
    first = write("a.jsonl", [*rows[:8], {"image": "gone.png", "caption": WRONG}])
    second = write("b.jsonl", rows[2:9])
    comparison = compare_captions(first, second, references, metrics=FAST)
    names = [Path(image.sample.name).name for image in comparison.images]
    assert names == [Path(row["image"]).name for row in rows[2:8]]
    assert comparison.left_out == [
        f"{first}: gone.png has no references",
        *(f"{second}: no caption for {row['image']}" for row in rows[:2]),
        f"{first}: no caption for {rows[8]['image']}",
    ]
    assert comparison.num_uncaptioned == 3
    with pytest.raises(cutline.DataError, match="no image with references in common"):
        compare_captions(write("a.jsonl", rows[:2]), second, references)


def test_result_can_be_stored_as_json(references: Path, rows: Rows, write: Write) -> None:
    path = write("first.jsonl", rows)
    second = write("second.jsonl", rows[::-1])
    comparison = compare_captions(path, second, DataSource(str(references)), metrics=FAST)
    values = json.loads(json.dumps(comparison.to_dict()))
    keys = ["a", "b", "num_pictures", "differences", "verdict", "left_out", "num_untouched"]
    assert list(values) == keys
    assert (values["a"], values["num_pictures"], values["left_out"]) == ("first", 12, [])
    cider = values["differences"]["cider"]
    assert list(cider) == ["a", "b", "difference", "interval", "p_value"]
    assert cider["difference"] == comparison.differences["cider"].value


def test_number_of_resamples_is_checked(references: Path, rows: Rows, write: Write) -> None:
    path = write("a.jsonl", rows)
    with pytest.raises(cutline.ConfigError, match="resamples must be at least 1, not 0"):
        compare_captions(path, path, references, metrics=MetricConfig())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("compare gone.jsonl b.jsonl --references DATA", 1, "gone.jsonl: cannot be read"),
        (
            "compare a.txt b.jsonl --references DATA",
            1,
            "a.txt: captions must be in a .jsonl, .csv or .parquet file, or COCO results (.json)",
        ),
        ("compare a.jsonl b.jsonl --references gone", 1, "gone: no such file or folder"),
        (
            "compare a.jsonl b.jsonl --references DATA --resamples 0",
            2,
            "resamples must be at least 1, not 0",
        ),
        (
            "compare a.jsonl b.jsonl --references DATA --seed -1",
            2,
            "seed must be at least 0, not -1",
        ),
        (
            "compare a.jsonl b.jsonl --references DATA --metrics spice",
            2,
            "SPICE needs pycocoevalcap, which is not installed",
        ),
        ("evaluate DATA --resamples -1", 2, "resamples must be at least 0, not -1"),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(
    references: Path,
    arguments: str,
    code: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    assert run_command(arguments.replace("DATA", str(references)).split()) == code
    stdout, stderr = capsys.readouterr()
    assert (stdout, stderr.count("\n")) == ("", 1)
    assert message in stderr


def test_part_of_the_data_can_be_compared(
    references: Path, rows: Rows, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write("a.jsonl", rows[:4]), write("b.jsonl", rows[:4])
    values, report = tmp_path / "values.json", tmp_path / "report.html"
    arguments = ["compare", first, second, "--references", references, "--resamples", 20]
    arguments += ["--json", values, "--report", report]
    assert run_command([*map(str, arguments)]) == 0
    sentence = "8 images with references have no caption in either file"
    assert capsys.readouterr().err == f"cutline: {sentence}\n"
    assert json.loads(values.read_text())["num_untouched"] == 8
    assert sentence in report.read_text()


def test_references_with_unusual_columns(
    references: Path, rows: Rows, write: Write, tmp_path: Path
) -> None:
    with (tmp_path / "references.csv").open("w", newline="") as file:
        table = [["photo", "said"], *([row["image"], row["caption"]] for row in rows)]
        csv.writer(file).writerows(table)
    path = str(write("a.jsonl", rows))
    arguments = ["compare", path, path, "--references", str(tmp_path / "references.csv")]
    arguments += ["--resamples", "20"]
    assert run_command(arguments) == 1
    assert run_command([*arguments, "--image-column", "photo", "--caption-column", "said"]) == 0
