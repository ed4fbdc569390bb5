"""METEOR and SPICE, metrics of English whose only true form are programs in Java; `cutline[coco]` brings them.

Each call starts a process, gives it all captions at once, waits, and leaves no process behind, whatever happens.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cutline.config import ExtraMetric
from cutline.errors import ConfigError, CutlineError
from cutline.metrics.bleu import Words

PARSER = "stanford-corenlp-3.6.0"
PATIENCE, PATIENCE_PER_PICTURE = 300.0, 1.0  # seconds
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
STAGES = np.array([1.0, 0.6, 0.8, 0.6])
"""what a match counts for: the same word, the same stem, a synonym, a paraphrase"""


def check_extra_metrics(metrics: Iterable[ExtraMetric]) -> None:
    """Raise ConfigError, with the way out, where something is missing that one of `metrics` needs."""
    for metric in metrics:
        folder = _folder(metric)
        if not shutil.which("java"):
            raise ConfigError(
                f"{metric.upper()} runs in Java, which is not here: install a Java runtime, such as openjdk-17-jre-headless"
            )
        if metric == "spice":
            _check_parser(folder)


# ------------------------------------------------------------------------------------------------------------- METEOR


def meteor(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]]
) -> tuple[float, list[float]]:
    """METEOR 1.5 (Denkowski and Lavie, 2014) of the corpus and of each image, from Penn Treebank tokens.

    The corpus score is that of summed counts, not the mean of the images.
    Raises ConfigError for what is not installed, CutlineError where the program fails.
    """
    rows = meteor_rows(candidates, references)
    return float(meteor_of_rows(rows.sum(0))), [float(score) for score in meteor_of_rows(rows)]


def meteor_rows(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]]
) -> NDArray[np.float64]:
    """What METEOR counts of each image against its best reference, (N, 23), to be summed over images."""
    check_extra_metrics(["meteor"])
    lines = [
        " ||| ".join(["SCORE", *map(_text, of_picture), _text(candidate)])
        for candidate, of_picture in zip(candidates, references, strict=True)
    ]
    words = ["-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    answers = _run("meteor", words, len(lines), "\n".join(lines) + "\n").splitlines()
    try:
        rows = np.array([answer.split() for answer in answers], np.float64)
    except ValueError:
        rows = np.empty(0)
    if rows.shape != (len(lines), 23):
        raise CutlineError(
            f"METEOR answered {len(lines)} captions with {answers[:1]!r}, which is not counts: leave meteor out"
        )
    return rows


def meteor_of_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """METEOR, (...), of counts or of their sums, (..., 23).

    The arithmetic, to the last digit, of `computeMetrics` in MeteorScorer.java of METEOR 1.5, with the parameters it has for
    English: a harmonic mean of weighted precision and recall, less a penalty for matches torn into chunks.
    """
    length, function = rows[..., 0:2], rows[..., 2:4]  # of candidate and reference
    stages = rows[..., 4:20].reshape(
        *rows.shape[:-1], 4, 2, 2
    )  # stage, content or function, candidate or reference
    chunks, matched = rows[..., 20], rows[..., 21:23].mean(-1)
    weighted = (stages * STAGES[:, None, None] * np.array([[DELTA], [1 - DELTA]])).sum((-3, -2))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(
            weighted / (DELTA * (length - function) + (1 - DELTA) * function), -1, 0
        )
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        torn = chunks / matched
    in_one_piece = (stages.sum((-3, -2)) == length).all(-1) & (chunks == 1)
    score = mean * (1 - GAMMA * np.where(in_one_piece, 0, torn) ** BETA)
    return np.asarray(np.maximum(np.nan_to_num(score), 0), np.float64)


def _text(words: Words) -> str:
    return " ".join(words).replace("|||", "")  # that parts the texts


# -------------------------------------------------------------------------------------------------------------- SPICE


def spice(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]]
) -> tuple[float, list[float]]:
    """SPICE (Anderson et al., 2016) of the corpus, which is the mean, and of each image.

    Raises ConfigError for what is not installed, CutlineError where the program fails.
    """
    check_extra_metrics(["spice"])
    pictures = [
        {
            "image_id": number,
            "test": " ".join(candidate),
            "refs": [" ".join(reference) for reference in of_picture],
        }
        for number, (candidate, of_picture) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "captions.json", Path(folder) / "scores.json"
        asked.write_text(json.dumps(pictures), encoding="utf-8")
        _run(
            "spice",
            ["-Xmx8G", "-jar", "spice-1.0.jar", str(asked), "-out", str(answered), "-silent"],
            len(pictures),
        )
        try:
            found = {
                row["image_id"]: float(row["scores"]["All"]["f"])
                for row in json.loads(answered.read_text(encoding="utf-8"))
            }
            each = [found[number] for number in range(len(pictures))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CutlineError(
                f"SPICE wrote no scores that can be read ({error!r}): leave spice out"
            ) from None
    return float(np.mean(each)), each


def _check_parser(folder: Path) -> None:
    missing = [
        name
        for name in (f"{PARSER}.jar", f"{PARSER}-models.jar")
        if not (folder / "lib" / name).is_file()
    ]
    if missing:
        raise ConfigError(
            f"SPICE needs {' and '.join(missing)} in {folder / 'lib'}: take them from stanford-corenlp-full-2015-12-09.zip of Stanford "
            "CoreNLP, or let `python -m pycocoevalcap.spice.get_stanford_models` fetch them"
        )


# --------------------------------------------------------------------------------------------------------------- Java


def _folder(metric: ExtraMetric) -> Path:
    """Where the metric's program lies."""
    package = find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        raise ConfigError(
            f"{metric.upper()} needs a package that is not here: pip install 'cutline[coco]'"
        )
    return Path(package.submodule_search_locations[0]) / metric


def _run(metric: ExtraMetric, words: Sequence[str], pictures: int, text: str = "") -> str:
    """What the program writes to its stdout. It is killed if it takes unreasonably long, or if we are stopped."""
    seconds = PATIENCE + PATIENCE_PER_PICTURE * pictures
    options = f"{os.environ.get('JDK_JAVA_OPTIONS', '')} --add-opens=java.base/java.lang=ALL-UNNAMED"  # SPICE was made for Java 8
    try:
        done = subprocess.run(
            [shutil.which("java") or "java", "-Dfile.encoding=UTF-8", *words],
            cwd=_folder(metric),
            input=text.encode(errors="replace"),
            capture_output=True,
            timeout=seconds,
            env={**os.environ, "JDK_JAVA_OPTIONS": options.strip()},
        )
    except subprocess.TimeoutExpired:
        raise CutlineError(
            f"{metric.upper()} gave no answer in {seconds:.0f} seconds and was stopped: leave {metric} out"
        ) from None
    except OSError as error:
        raise CutlineError(
            f"{metric.upper()} cannot be run ({error.strerror}): mend the Java runtime, or leave {metric} out"
        ) from None
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[
            -1
        ]
        raise CutlineError(f"{metric.upper()} failed in Java ({last.strip()}): leave {metric} out")
    return done.stdout.decode(errors="replace")
