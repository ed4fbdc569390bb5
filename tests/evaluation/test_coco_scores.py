"""Scores of COCO results: those of pycocoevalcap, under the same names, of each image, too."""

import contextlib
import io
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from cutline.cli.main import run_command
from cutline.metrics import ptb

pytest.importorskip("pycocoevalcap", reason="needs pip install 'cutline[coco]'")

TEXT = "a the red dog cat's don't runs, sits \"on\" two 2 1/2 U.S. grass; (big) plane-like —"
NAMES = ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
needs_java = pytest.mark.skipif(not shutil.which("java"), reason="needs Java")


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return references without file names, as BLIP has them, and results, of 40 images."""
    rng = random.Random(5)

    def make_text() -> str:
        return " ".join(rng.choices(TEXT.split(), k=rng.randint(3, 12)))

    ids = rng.sample(range(600_000), 40)
    texts = {id: [make_text() for _ in range(rng.randint(1, 5))] for id in ids}
    pairs = [(id, text) for id in ids for text in texts[id]]
    annotations = [{"image_id": id, "caption": text, "id": n} for n, (id, text) in enumerate(pairs)]
    references = {"annotations": annotations, "images": [{"id": id} for id in ids]}
    results = [
        {"image_id": id, "caption": rng.choice([*texts[id], make_text(), make_text()])}
        for id in ids
    ]
    rng.shuffle(results)
    paths = tmp_path / "references.json", tmp_path / "results.json"
    return write_json(paths[0], references), write_json(paths[1], results)


def measure(references: Path, results: Path, *flags: str) -> dict[str, Any]:
    """Return the scores that `cutline evaluate --captions` writes."""
    scores = results.with_name("scores.json")
    words = ["evaluate", str(references), "--captions", str(results), "--json", str(scores)]
    assert run_command([*words, "--json-format", "coco", *flags]) == 0
    values: dict[str, Any] = json.loads(scores.read_text())
    return values


def evaluate_with_pycocoevalcap(
    references: Path, results: Path, use_java: bool, scorers: list[tuple[Any, Any]]
) -> Any:
    """Do what `COCOEvalCap.evaluate` does, with some of its scorers, and return it."""
    from pycocoevalcap.eval import COCOEvalCap, PTBTokenizer
    from pycocotools.coco import COCO

    def tokenize(captions: dict[int, list[dict[str, Any]]]) -> dict[int, list[str]]:
        if use_java:
            tokens: dict[int, list[str]] = PTBTokenizer().tokenize(captions)
            return tokens
        return {
            id: [" ".join(ptb.tokenize(row["caption"])) for row in rows]
            for id, rows in captions.items()
        }

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(references))
        found = coco.loadRes(str(results))
        evaluation = COCOEvalCap(coco, found)
        ids = evaluation.params["image_id"]
        gts = tokenize({id: coco.imgToAnns[id] for id in ids})
        res = tokenize({id: found.imgToAnns[id] for id in ids})
        for scorer, name in scorers:
            score, image_scores = scorer.compute_score(gts, res)
            names, score, image_scores = (
                (name, score, image_scores)
                if isinstance(name, list)
                else ([name], [score], [image_scores])
            )
            for each, value, values in zip(names, score, image_scores, strict=True):
                evaluation.setEval(value, each)
                evaluation.setImgToEvalImgs(values, gts.keys(), each)
        evaluation.setEvalImgs()
    return evaluation


def make_scorers() -> list[tuple[Any, Any]]:
    from pycocoevalcap.eval import Bleu, Cider, Rouge

    return [(Bleu(4), NAMES[:4]), (Rouge(), "ROUGE_L"), (Cider(), "CIDEr")]


def check_equal(scores: dict[str, Any], expected: Any, names: list[str]) -> None:
    assert list(scores) == ["eval", "evalImgs", "skipped", "left_out"]
    assert list(scores["eval"]) == names
    assert scores["eval"] == pytest.approx(expected.eval, abs=1e-6)
    images = {image["image_id"]: image for image in expected.evalImgs}
    assert [image["image_id"] for image in scores["evalImgs"]] == list(images)
    for image in scores["evalImgs"]:
        assert list(image) == ["image_id", *names]
        assert image == pytest.approx(images[image["image_id"]], abs=1e-6)


@pytest.mark.parametrize(
    "use_java", [False, pytest.param(True, marks=[pytest.mark.slow, needs_java])]
)
def test_scores_equal_those_of_pycocoevalcap(files: tuple[Path, Path], use_java: bool) -> None:
    expected = evaluate_with_pycocoevalcap(*files, use_java, make_scorers())
    check_equal(measure(*files), expected, NAMES)


@pytest.mark.slow
@needs_java
@pytest.mark.filterwarnings(  # of pycocoevalcap's Meteor, which does not close its pipes
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_scores_of_photographs_equal_those_of_pycocoevalcap(shared: Path, tmp_path: Path) -> None:
    """Captions that people wrote: one of each image, or of another one, against the others."""
    from pycocoevalcap.eval import Meteor

    lines = (shared / "data" / "coco-mini" / "val.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    ids = [int(Path(row["file_name"]).stem) for row in rows]
    texts = [row["captions"] for row in rows]
    pairs = [(id, text) for id, captions in zip(ids, texts, strict=True) for text in captions[1:]]
    annotations = [{"image_id": id, "caption": text, "id": n} for n, (id, text) in enumerate(pairs)]
    references = write_json(
        tmp_path / "references.json",
        {"annotations": annotations, "images": [{"id": id} for id in ids]},
    )
    results = write_json(
        tmp_path / "results.json",
        [{"image_id": id, "caption": texts[n if n % 3 else n - 1][0]} for n, id in enumerate(ids)],
    )
    scorers = make_scorers()
    scorers.insert(1, (Meteor(), "METEOR"))
    expected = evaluate_with_pycocoevalcap(references, results, True, scorers)
    scores = measure(references, results, "--metrics", "meteor")
    check_equal(scores, expected, [*NAMES[:4], "METEOR", *NAMES[4:]])
