"""METEOR for real, where there is Java; and what is said where something is missing or fails."""

import json
import os
import shutil
import stat
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from cutline.errors import ConfigError, CutlineError
from cutline.metrics import bootstrap, check_extra_metrics, collect_stats, java, measure

HERE = bool(shutil.which("java")) and find_spec("pycocoevalcap") is not None
needs_java = pytest.mark.skipif(not HERE, reason="needs Java and pip install 'cutline[coco]'")


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Puts a program called java first on the PATH, written in Python; the package seems to lie in `tmp_path`."""
    for metric in ("meteor", "spice/lib"):
        (tmp_path / "package" / metric).mkdir(parents=True)
    monkeypatch.setattr(java, "_folder", lambda metric: tmp_path / "package" / metric)

    def write(program: str) -> Path:
        path = tmp_path / "bin" / "java"
        path.parent.mkdir()
        path.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{program}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
        return tmp_path

    return write


@pytest.mark.slow  # ten seconds, most of them for a table of paraphrases
@needs_java
def test_golden_meteor(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    golden = json.loads((shared / "fixtures" / "metrics_golden.json").read_text(encoding="utf-8"))
    pictures = list(golden["candidates"])
    found = collect_stats(
        [golden["candidates"][key] for key in pictures],
        [golden["references"][key] for key in pictures],
        extra=["meteor"],
    )
    assert found.whole().meteor == pytest.approx(golden["scores"]["METEOR"], abs=1e-9)
    assert [one.meteor for one in found.each()] == pytest.approx(
        [golden["per_image"][key]["METEOR"] for key in pictures], abs=1e-9
    )
    low, high = bootstrap(found, 200)["meteor"]
    assert low < golden["scores"]["METEOR"] < high
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_java
def test_meteor_of_odd_captions() -> None:
    """Empty ones, separators inside a text, letters beyond ASCII."""
    texts = ["", "a dog", "a dog ||| runs", "ein schöner größerer hund", "a dog"]
    references = [
        ["a dog"],
        [""],
        ["a dog ||| runs"],
        ["ein schöner größerer hund"],
        ["two cats", "a dog"],
    ]
    corpus, each = java.meteor(
        [text.split() for text in texts],
        [[one.split() for one in of_picture] for of_picture in references],
    )
    assert each[:2] == [0, 0]
    assert each[2:] == pytest.approx([1, 1, 1])
    assert 0 < corpus < 1


def test_meteor_s_arithmetic() -> None:
    """By hand: of 4 words (1 a function word) 3 match (1 of them), in 2 chunks, and of the reference's 5 (1) likewise."""
    row = np.zeros(23)
    row[:4] = 4, 5, 1, 1
    row[4:8] = 2, 2, 1, 1
    row[20:] = 2, 3, 3
    precision, recall = (0.75 * 2 + 0.25) / (0.75 * 3 + 0.25), (0.75 * 2 + 0.25) / (0.75 * 4 + 0.25)
    mean = 1 / (0.15 / precision + 0.85 / recall)
    assert java.meteor_of_rows(row) == pytest.approx(mean * (1 - 0.6 * (2 / 3) ** 0.2))
    assert java.meteor_of_rows(np.zeros((2, 23))).tolist() == [0, 0]
    assert java.meteor_of_rows(np.stack([row, row]).sum(0)) == pytest.approx(
        float(java.meteor_of_rows(row))
    )


def test_meteor_of_a_fake_program(fake_java) -> None:  # type: ignore[no-untyped-def]
    """One line goes out per image and one comes back."""
    fake_java(
        "for line in sys.stdin:\n    assert line.startswith('SCORE ||| ')\n    print(' '.join(['1.0'] * 23))"
    )
    assert (
        java.meteor_rows([["a"], ["b", "c"]], [[["a"]], [["b"], ["c"]]]).tolist()
        == [[1.0] * 23] * 2
    )


@pytest.mark.parametrize(
    ("program", "told"),
    [
        (
            "sys.stderr.write('Error: Unable to access jarfile\\n'); sys.exit(1)",
            r"METEOR failed in Java \(Error: Unable to access jarfile\)",
        ),
        ("sys.exit(134)", r"METEOR failed in Java \(no reason given\)"),
        ("print('hello')", "METEOR answered 2 captions with"),
        ("print(' '.join(['1.0'] * 23))", "METEOR answered 2 captions with"),
    ],
)
def test_a_program_that_fails_is_an_error_in_one_sentence(
    fake_java, program: str, told: str, capfd: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    fake_java(program)
    with pytest.raises(CutlineError, match=told) as error:
        measure(["a dog", "a cat"], [["a dog"], ["a cat"]], extra=["meteor"])
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_a_program_that_hangs_is_stopped(fake_java, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    folder = fake_java(
        "path = os.path.join(os.path.dirname(__file__), 'pid')\nopen(path, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    monkeypatch.setattr(java, "PATIENCE", 0.0)
    started = time.monotonic()
    with pytest.raises(CutlineError, match="METEOR gave no answer in 1 seconds and was stopped"):
        java.meteor([["a"]], [[["a"]]])
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "bin" / "pid").read_text()), 0)


def test_a_java_that_cannot_be_run(fake_java) -> None:  # type: ignore[no-untyped-def]
    (fake_java("") / "bin" / "java").write_bytes(b"\x7fno program")
    with pytest.raises(CutlineError, match="METEOR cannot be run"):
        java.meteor([["a"]], [[["a"]]])


def test_what_is_missing_is_named_with_the_way_out(
    fake_java, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    fake_java("")
    check_extra_metrics([])
    check_extra_metrics(["meteor"])
    with pytest.raises(
        ConfigError,
        match=r"SPICE needs stanford-corenlp-3.6.0.jar and stanford-corenlp-3.6.0-models.jar in .*lib",
    ):
        check_extra_metrics(["meteor", "spice"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="METEOR runs in Java, which is not here"):
        check_extra_metrics(["meteor"])
    monkeypatch.undo()
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"SPICE needs a package that is not here: pip install 'cutline\[coco\]'"
    ):
        check_extra_metrics(["spice"])


SPICE = """
words = sys.argv[1:]
asked, answered = words[words.index('-out') - 1], words[words.index('-out') + 1]
images = json.load(open(asked))
assert images[1]['test'] == 'a cat' and images[1]['refs'] == ['two cats', 'a cat']
print('noise')
rows = [{'image_id': one['image_id'], 'scores': {'All': {'f': FIRST + one['image_id'] / 10}}} for one in reversed(images)]
json.dump(rows, open(answered, 'w'))
"""


def give_parser(folder: Path) -> None:
    for name in ("", "-models"):
        (folder / "package" / "spice" / "lib" / f"stanford-corenlp-3.6.0{name}.jar").touch()


def test_spice_of_a_fake_program(fake_java, capfd: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    """The parser's models are too large for a test; what goes to the program and comes from it is not."""
    give_parser(fake_java(SPICE.replace("FIRST", "0.1")))
    whole, each = measure(["a dog", "A cat."], [["a dog"], ["Two cats", "a cat"]], extra=["spice"])
    assert [one.spice for one in each] == pytest.approx([0.1, 0.2])
    assert whole.spice == pytest.approx(0.15)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "program",
    [
        "",
        SPICE.replace("FIRST", "0.1").replace("'All'", "'Other'"),
        "open(sys.argv[-2], 'w').write('{')",
    ],
)
def test_spice_without_scores(fake_java, program: str) -> None:  # type: ignore[no-untyped-def]
    give_parser(fake_java(program))
    with pytest.raises(CutlineError, match="SPICE wrote no scores that can be read"):
        java.spice([["a", "dog"], ["a", "cat"]], [[["a"]], [["two", "cats"], ["a", "cat"]]])
