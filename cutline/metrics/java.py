"""METEOR and SPICE: metrics for English whose reference implementations are Java programs.

`pip install 'cutline[coco]'` installs them. Each call starts a process, sends it all captions, and
waits for it; the process never outlives the call.
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
from cutline.metrics.bleu import Tokens

PARSER = "stanford-corenlp-3.6.0"
"""name of the parser's files, without suffix"""
TIMEOUT, TIMEOUT_PER_IMAGE = 300.0, 1.0  # seconds
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
"""parameters of METEOR for English"""
STAGE_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""METEOR's weights of an exact match, a stem, a synonym and a paraphrase"""
NUM_METEOR_COUNTS = 23
"""lengths (2), function words (2), matches (16), chunks (1) and matched words (2)"""


def check_extra_metrics(metrics: Iterable[ExtraMetric]) -> None:
    """Check that everything that `metrics` need is installed.

    Raises:
        ConfigError: Something is missing; the message says how to install it.
    """
    for metric in metrics:
        folder = _find_program(metric)
        if not shutil.which("java"):
            raise ConfigError(
                f"{metric.upper()} needs Java, which is not installed: install a Java runtime "
                "such as openjdk-17-jre-headless"
            )
        if metric == "spice":
            _check_parser(folder)


def count_meteor_matches(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> NDArray[np.float64]:
    """Return METEOR's counts of each image against its best reference.

    They are those of METEOR 1.5 (Denkowski and Lavie, 2014).

    Returns:
        An array, (N, 23), which can be summed over images.

    Raises:
        ConfigError: METEOR is not installed.
        CutlineError: The program failed.
    """
    check_extra_metrics(["meteor"])
    lines = [
        " ||| ".join(["SCORE", *map(_join_tokens, texts), _join_tokens(candidate)])
        for candidate, texts in zip(candidates, references, strict=True)
    ]
    arguments = ["-Xmx2G", "-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    replies = _run("meteor", arguments, len(lines), "\n".join(lines) + "\n").splitlines()
    try:
        counts = np.array([reply.split() for reply in replies], np.float64)
    except ValueError:
        counts = np.empty(0)
    if counts.shape != (len(lines), NUM_METEOR_COUNTS):
        raise CutlineError(
            f"METEOR returned {replies[:1]!r} for {len(lines)} captions, which cannot be read as "
            "counts: remove meteor from the metrics"
        )
    return counts


def compute_meteor(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return METEOR, (...), of counts or of sums of them over images, (..., 23).

    It is a harmonic mean of weighted precision and recall, minus a penalty for matches that are
    split into chunks: identical to the last digit to the result of `computeMetrics` in
    MeteorScorer.java of METEOR 1.5, with its parameters for English.
    """
    length, function_words = counts[..., 0:2], counts[..., 2:4]  # candidate, reference
    # (..., stage, content or function words, candidate or reference)
    stages = counts[..., 4:20].reshape(*counts.shape[:-1], 4, 2, 2)
    chunks, matched = counts[..., 20], counts[..., 21:23].mean(-1)
    word_weights = np.array([[DELTA], [1 - DELTA]])
    weighted_matches = (stages * STAGE_WEIGHTS[:, None, None] * word_weights).sum((-3, -2))
    weighted_length = DELTA * (length - function_words) + (1 - DELTA) * function_words
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = np.moveaxis(weighted_matches / weighted_length, -1, 0)
        mean = 1 / ((1 - ALPHA) / precision + ALPHA / recall)
        fragmentation = chunks / matched
    unfragmented = (stages.sum((-3, -2)) == length).all(-1) & (chunks == 1)
    score = mean * (1 - GAMMA * np.where(unfragmented, 0, fragmentation) ** BETA)
    return np.asarray(np.maximum(np.nan_to_num(score), 0), np.float64)


def _join_tokens(tokens: Tokens) -> str:
    return " ".join(tokens).replace("|||", "")  # METEOR's separator


def compute_spice(
    candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]
) -> list[float]:
    """Return the SPICE score of each image (Anderson et al., 2016); the corpus score is their mean.

    Raises:
        ConfigError: SPICE is not installed.
        CutlineError: The program failed.
    """
    check_extra_metrics(["spice"])
    images = [
        {"image_id": index, "test": " ".join(candidate), "refs": [" ".join(text) for text in texts]}
        for index, (candidate, texts) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        captions, results = Path(folder) / "captions.json", Path(folder) / "scores.json"
        captions.write_text(json.dumps(images), encoding="utf-8")
        arguments = ["-jar", "spice-1.0.jar", str(captions), "-out", str(results), "-silent"]
        _run("spice", ["-Xmx8G", *arguments], len(images))
        try:
            rows = json.loads(results.read_text(encoding="utf-8"))
            scores = {row["image_id"]: float(row["scores"]["All"]["f"]) for row in rows}
            return [scores[index] for index in range(len(images))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CutlineError(
                f"SPICE wrote no scores that can be read ({error!r}): remove spice from the metrics"
            ) from None


def _check_parser(folder: Path) -> None:
    names = (f"{PARSER}.jar", f"{PARSER}-models.jar")
    if missing := [name for name in names if not (folder / "lib" / name).is_file()]:
        raise ConfigError(
            f"SPICE needs {' and '.join(missing)} in {folder / 'lib'}: copy them from "
            "stanford-corenlp-full-2015-12-09.zip of Stanford CoreNLP, or run "
            "`python -m pycocoevalcap.spice.get_stanford_models`"
        )


def _find_program(metric: ExtraMetric) -> Path:
    """Return the folder of the metric's program."""
    package = find_spec("pycocoevalcap")
    if package is None or not package.submodule_search_locations:
        raise ConfigError(
            f"{metric.upper()} needs pycocoevalcap, which is not installed: "
            "run pip install 'cutline[coco]'"
        )
    return Path(package.submodule_search_locations[0]) / metric


def _run(metric: ExtraMetric, arguments: Sequence[str], num_images: int, text: str = "") -> str:
    """Run the metric's program on `text`, and return its stdout.

    The program is killed if it takes unreasonably long or if this process is interrupted.
    """
    name, timeout = metric.upper(), TIMEOUT + TIMEOUT_PER_IMAGE * num_images
    # SPICE was written for Java 8 and needs an additional option in later versions.
    options = [
        os.environ.get("JDK_JAVA_OPTIONS", ""),
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
    ]
    try:
        process = subprocess.run(
            [shutil.which("java") or "java", "-Dfile.encoding=UTF-8", *arguments],
            cwd=_find_program(metric),
            input=text.encode(errors="replace"),
            capture_output=True,
            timeout=timeout,
            env={**os.environ, "JDK_JAVA_OPTIONS": " ".join(options).strip()},
        )
    except subprocess.TimeoutExpired:
        raise CutlineError(
            f"{name} did not finish in {timeout:.0f} seconds: remove {metric} from the metrics"
        ) from None
    except OSError as error:
        raise CutlineError(
            f"{name} cannot be run ({error.strerror}): fix the Java runtime, or remove {metric} "
            "from the metrics"
        ) from None
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        reason = lines[-1].strip() if lines else "no reason given"
        raise CutlineError(f"{name} failed in Java ({reason}): remove {metric} from the metrics")
    return process.stdout.decode(errors="replace")
