"""`cutline evaluate --matcher`."""

import json
from pathlib import Path

import pytest
from random_matcher import save_matcher

import cutline
from cutline.cli.main import run_command
from cutline.data import open_data
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.evaluation import evaluate_matcher


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a matcher."""
    folder = tmp_path_factory.mktemp("matcher") / "model"
    save_matcher(folder)
    return str(folder)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a dataset of drawn scenes."""
    return write_scenes(tmp_path / "scenes", make_scenes(12, seed=5))


def test_scores_are_printed_and_written(
    matcher: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.json"
    arguments = ["evaluate", str(data), "--matcher", matcher, "--json", str(file)]
    arguments += ["--k-test", "7", "--device", "cpu", "--precision", "fp32"]
    assert run_command(arguments) == 0
    loaded = cutline.load_matcher(matcher, "cpu", "fp32")
    expected = evaluate_matcher(loaded, open_data(data), k_test=7)
    assert json.loads(file.read_text()) == expected.to_dict()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["text", "@1", "@5", "@10", "image", "@1", "@5", "@10", "mean"]
    assert [line[:20].strip() for line in lines[1:5]] == [
        "by cosine",
        "after re-ranking 7",
        "by cosine, by index",
        "re-ranked, by index",
    ]
    assert float(lines[2].split()[-1]) == pytest.approx(expected.reranked.mean, abs=1e-4)
    assert dict(line.split() for line in lines[6:])["num_texts"] == "12"


def test_unreadable_images_are_listed(
    matcher: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with data.open("a") as file:
        file.write('{"file_name": "gone.png", "captions": ["a star"]}\n')
    assert run_command(["evaluate", str(data), "--matcher", matcher]) == 3
    assert "gone.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-m", "model", "--prompt", "a"], "--model and --prompt cannot be combined"),
        (["-o", "captions.csv"], "--output cannot be combined with --matcher"),
        (["--num-beams", "2"], "the settings of generation cannot be combined with --matcher"),
        (["--k-test", "0"], "k_test must be at least 1, not 0"),
        (["--json", "."], "a folder; name a file"),
    ],
)
def test_flags_that_do_not_fit(
    matcher: str, data: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["evaluate", str(data), "--matcher", matcher, *flags]) == 2
    assert message in capsys.readouterr().err


def test_the_flag_of_matchers_needs_one(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["evaluate", str(data), "--model", "m", "--k-test", "3"]) == 2
    assert "k_test is for matchers: name one with --matcher" in capsys.readouterr().err
