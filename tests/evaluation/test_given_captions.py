"""Measuring captions that exist, in Python and on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from caption_rows import Rows, Write
from fake_captioner import CAPTIONS, REFERENCES, fake_captioner, make_samples

import cutline
from cutline.cli.main import run_command
from cutline.config import Columns, DataSource
from cutline.data import open_data
from cutline.evaluation import evaluate, evaluate_captions

Run = Callable[..., tuple[int, str, str]]
RESULTS = [{"image_id": n, "caption": text} for n, text in enumerate(CAPTIONS)]
GT = {
    "annotations": [
        {"image_id": n, "caption": text, "id": 0}
        for n, texts in enumerate(REFERENCES)
        for text in texts
    ],
    "images": [{"id": n} for n in range(len(REFERENCES))],
}


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs a command in a folder with references and results.

    It returns the exit code, and what was printed to stdout and stderr.
    """
    monkeypatch.chdir(tmp_path)
    Path("gt.json").write_text(json.dumps(GT))
    Path("results.json").write_text(json.dumps(RESULTS))

    def run_words(*words: str) -> tuple[int, str, str]:
        code = run_command(list(words))
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run_words


def test_captions_have_the_scores_that_they_have_when_generated() -> None:
    samples = make_samples(*REFERENCES, domains=("near", "near", "out", "out"))
    settings = {"resamples": 20, "train_captions": ["two cats"]}
    expected = evaluate(fake_captioner(*CAPTIONS), samples, **settings)
    result = evaluate_captions(RESULTS[::-1], samples, **settings)
    assert result.to_dict() == expected.to_dict()
    assert [image.scores for image in result.images] == [i.scores for i in expected.images]
    assert [image.caption.text for image in result.images] == list(CAPTIONS)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_files_and_rows_are_equivalent(
    references: Path, rows: Rows, write: Write, suffix: str
) -> None:
    expected = evaluate_captions(rows, references)
    assert evaluate_captions(write(f"captions{suffix}", rows), str(references)) == expected
    assert evaluate_captions(rows, open_data(references)) == expected
    assert expected.scores.num_images == 12
    assert (expected.skipped, expected.left_out) == ([], [])


def test_image_columns_of_references_are_named(rows: Rows, tmp_path: Path) -> None:
    path = tmp_path / "references.jsonl"
    lines = (json.dumps({"photo": row["image"], "said": row["caption"]}) for row in rows)
    path.write_text("\n".join(lines))
    source = DataSource(str(path), columns=Columns("photo", "said"))
    assert evaluate_captions(rows, source).scores.bleu4 == pytest.approx(1)


def test_split_of_karpathys_file_is_measured(tmp_path: Path) -> None:
    images = [
        {
            "filename": f"COCO_val2014_{n:012}.jpg",
            "filepath": "val2014",
            "split": "test" if n % 2 else "val",
            "cocoid": n,
            "sentences": [{"raw": text} for text in texts],
        }
        for n, texts in enumerate(REFERENCES)
    ]
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"images": images}))
    result = evaluate_captions(RESULTS, path, split="test")
    assert [image.sample.id for image in result.images] == ["1", "3"]
    assert [message.partition(" has ")[0] for message in result.left_out] == [
        "the captions: image 0",
        "the captions: image 2",
    ]


def test_captions_and_images_without_the_other_are_listed() -> None:
    rows = [*RESULTS[:2], {"image_id": 9, "caption": "a"}, {"image_id": "1", "caption": "b"}]
    result = evaluate_captions(rows, make_samples(*REFERENCES))
    expected = evaluate(fake_captioner(*CAPTIONS[:2]), make_samples(*REFERENCES[:2]))
    assert result.scores == expected.scores
    assert result.left_out == [
        "the captions: image 9 has no references",
        "the captions: image 1 has more than one caption; the first is taken",
    ]
    assert result.skipped == [f"the captions: no caption for {n}.png" for n in (2, 3)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no captions to measure"),
        ([{"image_id": 1}], "row 1: a row needs the path"),
        ([3], "row 1: a row must be a JSON object"),
        (
            [{"image_id": 77, "caption": "a"}],
            "the captions: no caption belongs to an image with references; the first caption is of "
            "image 77, the first references are of 0.png",
        ),
    ],
)
def test_bad_rows_are_refused(rows: Rows, message: str) -> None:
    with pytest.raises(cutline.DataError, match=message):
        evaluate_captions(rows, make_samples(*REFERENCES))
    with pytest.raises(cutline.DataError, match="no image has a reference caption"):
        evaluate_captions(RESULTS, make_samples(()))


def test_command_measures_results_without_images(run: Run) -> None:
    words = ["evaluate", "gt.json", "--captions", "results.json", "--resamples", "20"]
    words += ["--json", "scores.json", "--report", "report.html", "--train-captions", "gt.json"]
    code, out, err = run(*words)
    assert (code, err) == (1, run("caption", "gt.json")[2])  # which has no images to learn from
    Path("train.jsonl").write_text('{"file_name": "a.jpg", "caption": "two cats"}')
    words[-1] = "train.jsonl"
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    expected = evaluate_captions(
        "results.json", "gt.json", resamples=20, train_captions=["two cats"]
    )
    assert out.startswith(f"bleu1         {expected.scores.bleu1:.4f}  [")
    assert json.loads(Path("scores.json").read_text()) == json.loads(json.dumps(expected.to_dict()))
    page = Path("report.html").read_text()
    assert "data:image" not in page
    assert page.count("a man on a red horse") == 1


@pytest.mark.parametrize("name", ["again.json", "again.jsonl", "again.csv", "again.parquet"])
def test_captions_are_written_and_measured_again(run: Run, name: str) -> None:
    code, scores, _ = run("evaluate", "gt.json", "--captions", "results.json", "-o", name)
    assert code == 0
    assert run("evaluate", "gt.json", "--captions", name) == (0, scores, "")
    if name == "again.json":
        assert json.loads(Path(name).read_text()) == RESULTS
    words = ("compare", "results.json", name, "--references", "gt.json", "--resamples", "20")
    code, out, err = run(*words)
    assert (code, err) == (0, "")
    assert "No significant difference" in out


def test_command_lists_what_is_not_measured(run: Run) -> None:
    rows = [{"image_id": 0, "caption": " "}, {"image_id": 9, "caption": "a"}]
    Path("results.json").write_text(json.dumps(rows))
    code, _, err = run("evaluate", "gt.json", "--captions", "results.json", "--json", "s.json")
    assert code == 3
    assert err.splitlines() == [
        "cutline: left out: results.json: image 9 has no references",
        *(f"cutline: skipped: results.json: no caption for image {n}" for n in (1, 2, 3)),
        "cutline: results.json: empty captions, which are measured nevertheless: 1",
    ]
    values = json.loads(Path("s.json").read_text())
    assert (len(values["left_out"]), len(values["skipped"])) == (1, 3)


def test_thousands_of_images_without_a_caption_do_not_fill_the_terminal(run: Run) -> None:
    annotations = [{"image_id": n, "caption": "a dog"} for n in range(3000)]
    images = [{"id": n} for n in range(3000)]
    Path("gt.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    words = ("--captions", "results.json", "--json", "s.json", "--report", "report.html")
    code, _, err = run("evaluate", "gt.json", *words)
    assert code == 3
    lines = err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "cutline: skipped: 2,976 more, which --json FILE lists"
    assert len(json.loads(Path("s.json").read_text())["skipped"]) == 2996
    Path("few.json").write_text(json.dumps(RESULTS[:1]))
    Path("many.json").write_text(json.dumps(annotations))
    words = ("--references", "gt.json", "--resamples", "20")
    code, _, err = run("compare", "few.json", "many.json", *words)
    assert (code, len(err.splitlines())) == (3, 21)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("-m model", 2, "--model cannot be combined with --captions, which measures captions that"),
        ("--image-size 384", 2, "cutline: --image-size cannot be combined with --captions"),
        ("-o new.json --json new.json", 2, "new.json: named for two outputs; name two files"),
        ("--num-beams 5 --prompt a", 2, "--prompt and the settings of generation cannot be"),
        ("--device cpu --matcher m", 2, "--matcher and the settings of inference cannot be"),
        ("--k-test 9", 2, "--k-test cannot be combined with --captions"),
        ("--json-format coco", 2, "--json-format coco is the format of --json: name that file"),
        ("--json results.json", 2, "results.json: would overwrite the data that is read"),
        ("-o gt.json", 2, "gt.json: would overwrite the data that is read"),
        ("--split val", 1, "gt.json: has no split `val`; remove `--split`"),
        ("--captions gt.json", 1, "gt.json: has images and their references; give it as the ref"),
        ("--captions gone.json", 1, "gone.json: cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence(run: Run, words: str, code: int, message: str) -> None:
    found, out, err = run("evaluate", "gt.json", "--captions", "results.json", *words.split())
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_rows_have_no_numbers_that_are_not_known(run: Run) -> None:
    words = ("evaluate", "gt.json", "--captions", "results.json", "-o", "new.jsonl")
    assert run(*words)[0] == 0
    rows = [json.loads(line) for line in Path("new.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"image", "id", "caption", "cider"}] * len(RESULTS)


def test_results_are_no_references(run: Run) -> None:
    for words in (
        ["evaluate", "results.json", "--captions", "results.json"],
        ["compare", "results.json", "results.json", "--references", "results.json"],
        ["evaluate", "results.json", "-m", "no/such/model"],
        ["caption", "results.json", "-m", "no/such/model"],
    ):
        code, out, err = run(*words)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "results.json: COCO results, which are captions of images that it" in err


def test_ids_are_checked_before_captioning(run: Run) -> None:
    """The model, which does not exist, is not loaded."""
    Path("data.jsonl").write_text('{"file_name": "a.jpg", "captions": ["a dog"]}')
    code, _, err = run("evaluate", "data.jsonl", "-m", "no/such/model", "-o", "new.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "a.jpg: the id 'a.jpg' is not an integer, as `image_id` in new.json must be" in err
    Path("captions.jsonl").write_text('{"image": "b.jpg", "caption": "a dog"}')
    words = ("--captions", "captions.jsonl", "-o", "new.json")
    code, _, err = run("evaluate", "data.jsonl", *words)  # whose captions are of other images
    assert (code, err.count("\n")) == (2, 1)
    assert "a.jpg: the id 'a.jpg' is not an integer" in err
    assert run("evaluate", "data.jsonl", "--matcher", "m", "--json-format", "coco")[0] == 2
