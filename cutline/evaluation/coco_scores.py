"""The scores of an evaluation under the names that pycocoevalcap gives them."""

from typing import Any

from cutline.data.coco_results import find_image_id
from cutline.evaluation.evaluation import EvaluatedImage, Evaluation
from cutline.metrics import Scores

COCO_NAMES = {
    "bleu1": "Bleu_1",
    "bleu2": "Bleu_2",
    "bleu3": "Bleu_3",
    "bleu4": "Bleu_4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE_L",
    "cider": "CIDEr",
    "spice": "SPICE",
}
"""names of the metrics, in the order in which pycocoevalcap computes them"""


def make_coco_scores(evaluation: Evaluation) -> dict[str, Any]:
    """Return the attributes `eval` and `evalImgs` of pycocoevalcap's `COCOEvalCap`.

    Returns:
        `eval`, the scores of all images by name, `evalImgs`, those of each image with its
        `image_id`, and the messages of images and captions that were not measured.
    """
    return {
        "eval": _name_scores(evaluation.scores),
        "evalImgs": [_describe_image(image) for image in evaluation.images],
        "skipped": evaluation.skipped,
        "left_out": evaluation.left_out,
    }


def _name_scores(scores: Scores) -> dict[str, Any]:
    values = {name: getattr(scores, key) for key, name in COCO_NAMES.items()}
    return {name: value for name, value in values.items() if value is not None}


def _describe_image(image: EvaluatedImage) -> dict[str, Any]:
    image_id = find_image_id(image.sample.id, image.sample.name)
    scores = _name_scores(image.scores)
    if "SPICE" in scores:
        scores["SPICE"] = {"All": {"f": scores["SPICE"]}}
    return {"image_id": image.sample.id if image_id is None else image_id, **scores}
