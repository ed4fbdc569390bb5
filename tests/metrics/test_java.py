"""METEOR, if Java is installed, and errors of missing or failing Java programs."""

import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cutline.errors import ConfigError, CutlineError
from cutline.metrics import (
    bootstrap_intervals,
    check_extra_metrics,
    collect_stats,
    compute_metrics,
    java,
)

IS_INSTALLED = bool(shutil.which("java")) and find_spec("pycocoevalcap") is not None
needs_java = pytest.mark.skipif(
    not IS_INSTALLED, reason="needs Java and pip install 'cutline[coco]'"
)
FakeJava = Callable[[str], Path]


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJava:
    """Return a function that installs a Python program as `java`, first on the PATH.

    The programs of the metrics appear to be in `tmp_path`.
    """
    for metric in ("meteor", "spice/lib"):
        (tmp_path / "package" / metric).mkdir(parents=True)
    monkeypatch.setattr(java, "_find_program", lambda metric: tmp_path / "package" / metric)

    def install(program: str) -> Path:
        path = tmp_path / "bin" / "java"
        path.parent.mkdir()
        path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{program}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return tmp_path

    return install


@pytest.mark.slow  # ten seconds, most of them for a table of paraphrases
@needs_java
def test_golden_meteor(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    golden = json.loads((shared / "fixtures" / "metrics_golden.json").read_text(encoding="utf-8"))
    keys = list(golden["candidates"])
    stats = collect_stats(
        [golden["candidates"][key] for key in keys],
        [golden["references"][key] for key in keys],
        extra_metrics=["meteor"],
    )
    assert stats.score_corpus().meteor == pytest.approx(golden["scores"]["METEOR"], abs=1e-9)
    assert [image.meteor for image in stats.score_images()] == pytest.approx(
        [golden["per_image"][key]["METEOR"] for key in keys], abs=1e-9
    )
    low, high = bootstrap_intervals(stats, 200)["meteor"]
    assert low < golden["scores"]["METEOR"] < high
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_java
def test_meteor_of_unusual_captions() -> None:
    """Empty captions, METEOR's separator inside a text, and letters beyond ASCII."""
    captions = ["", "a dog", "a dog ||| runs", "ein schöner größerer hund", "a dog"]
    references = [*([text] for text in ("a dog", "", *captions[2:4])), ["two cats", "a dog"]]
    counts = java.count_meteor_matches(
        [text.split() for text in captions],
        [[text.split() for text in texts] for texts in references],
    )
    scores = java.compute_meteor(counts).tolist()
    assert scores[:2] == [0, 0]
    assert scores[2:] == pytest.approx([1, 1, 1])
    assert 0 < float(java.compute_meteor(counts.sum(0))) < 1


def test_meteor_by_hand() -> None:
    """Of 4 words, 1 of them a function word, 3 match, 1 of them a function word, in 2 chunks.

    The reference has 5 words, 1 of them a function word.
    """
    counts = np.zeros(23)
    counts[:4] = 4, 5, 1, 1
    counts[4:8] = 2, 2, 1, 1
    counts[20:] = 2, 3, 3
    precision = (0.75 * 2 + 0.25) / (0.75 * 3 + 0.25)
    recall = (0.75 * 2 + 0.25) / (0.75 * 4 + 0.25)
    mean = 1 / (0.15 / precision + 0.85 / recall)
    score = float(java.compute_meteor(counts))
    assert score == pytest.approx(mean * (1 - 0.6 * (2 / 3) ** 0.2))
    assert java.compute_meteor(np.zeros((2, 23))).tolist() == [0, 0]
    assert java.compute_meteor(np.stack([counts, counts]).sum(0)) == pytest.approx(score)


def test_one_line_is_sent_and_one_received_per_image(fake_java: FakeJava) -> None:
    fake_java(
        "for line in sys.stdin:\n"
        "    assert line.startswith('SCORE ||| ')\n"
        "    print(' '.join(['1.0'] * 23))"
    )
    counts = java.count_meteor_matches([["a"], ["b", "c"]], [[["a"]], [["b"], ["c"]]])
    assert counts.tolist() == [[1.0] * 23] * 2


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "sys.stderr.write('Error: Unable to access jarfile\\n'); sys.exit(1)",
            r"METEOR failed in Java \(Error: Unable to access jarfile\)",
        ),
        ("sys.exit(134)", r"METEOR failed in Java \(no reason given\)"),
        ("print('hello')", r"METEOR returned \['hello'\] for 2 captions"),
        ("print(' '.join(['1.0'] * 23))", "METEOR returned .* for 2 captions"),
    ],
)
def test_failing_program_is_an_error_in_one_sentence(
    fake_java: FakeJava, program: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_java(program)
    with pytest.raises(CutlineError, match=message) as error:
        compute_metrics(["a dog", "a cat"], [["a dog"], ["a cat"]], extra_metrics=["meteor"])
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_hanging_program_is_killed(fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fake_java(
        "path = os.path.join(os.path.dirname(__file__), 'pid')\n"
        "open(path, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)"
    )
    monkeypatch.setattr(java, "TIMEOUT", 0.0)
    started = time.monotonic()
    with pytest.raises(CutlineError, match="METEOR did not finish in 1 seconds"):
        java.count_meteor_matches([["a"]], [[["a"]]])
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "bin" / "pid").read_text()), 0)


def test_java_that_cannot_be_run(fake_java: FakeJava) -> None:
    (fake_java("") / "bin" / "java").write_bytes(b"\x7fno program")
    with pytest.raises(CutlineError, match="METEOR cannot be run"):
        java.count_meteor_matches([["a"]], [[["a"]]])


def test_missing_programs_are_named_with_the_fix(
    fake_java: FakeJava, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java("")
    check_extra_metrics([])
    check_extra_metrics(["meteor"])
    parser = (
        r"SPICE needs stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar in .*lib"
    )
    with pytest.raises(ConfigError, match=parser):
        check_extra_metrics(["meteor", "spice"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="METEOR needs Java, which is not installed"):
        check_extra_metrics(["meteor"])
    monkeypatch.undo()
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    package = (
        r"SPICE needs pycocoevalcap, which is not installed: run pip install 'cutline\[coco\]'"
    )
    with pytest.raises(ConfigError, match=package):
        check_extra_metrics(["spice"])


SPICE = """
arguments = sys.argv[1:]
option = arguments.index('-out')
images = json.load(open(arguments[option - 1]))
assert images[1]['test'] == 'a cat' and images[1]['refs'] == ['two cats', 'a cat']
print('noise')
ids = [image['image_id'] for image in reversed(images)]
rows = [{'image_id': id, 'scores': {'All': {'f': 0.1 + id / 10}}} for id in ids]
json.dump(rows, open(arguments[option + 1], 'w'))
"""


def add_parser(folder: Path) -> None:
    """Create empty files in place of the parser, whose models are too large for a test."""
    for name in ("", "-models"):
        (folder / "package" / "spice" / "lib" / f"stanford-corenlp-3.6.0{name}.jar").touch()


def test_spice_scores_are_read_from_the_program(
    fake_java: FakeJava, capfd: pytest.CaptureFixture[str]
) -> None:
    add_parser(fake_java(SPICE))
    scores, image_scores = compute_metrics(
        ["a dog", "A cat."], [["a dog"], ["Two cats", "a cat"]], extra_metrics=["spice"]
    )
    assert [image.spice for image in image_scores] == pytest.approx([0.1, 0.2])
    assert scores.spice == pytest.approx(0.15)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "program", ["", SPICE.replace("'All'", "'Other'"), "open(sys.argv[-2], 'w').write('{')"]
)
def test_missing_spice_scores_are_an_error(fake_java: FakeJava, program: str) -> None:
    add_parser(fake_java(program))
    with pytest.raises(CutlineError, match="SPICE wrote no scores that can be read"):
        java.compute_spice([["a", "dog"], ["a", "cat"]], [[["a"]], [["two", "cats"], ["a", "cat"]]])
