"""The evaluation of a matcher during its training."""

from collections.abc import Sequence

from cutline.config import Recipe
from cutline.data import Sample
from cutline.evaluation import MatchEvaluation, evaluate_matcher
from cutline.matcher import Matcher
from cutline.model import MatchModel, VisionTextModel
from cutline.progress import Progress
from cutline.tokenizer import Tokenizer
from cutline.training.tasks.task import TaskEvaluation, device_of


def evaluate_matches(
    recipe: Recipe,
    model: MatchModel,
    tokenizer: Tokenizer,
    samples: Sequence[Sample],
    progress: Progress,
) -> TaskEvaluation:
    """Measure a matcher as the recipe says."""
    evaluation = evaluate_matcher(
        wrap_model(model, tokenizer),
        samples,
        k_test=recipe.match.k_test,
        batch_size=recipe.eval.batch_size,
        clean=recipe.data.clean,
        max_words=recipe.data.max_words,
        progress=progress,
    )
    metrics = flatten_evaluation(evaluation)
    return TaskEvaluation(metrics, evaluation.reranked.mean, evaluation.skipped)


def flatten_evaluation(evaluation: MatchEvaluation) -> dict[str, float]:
    """Return the metrics of a matcher by their names in the log."""
    metrics = {
        f"{direction}_r{cutoff.removeprefix('at')}": value
        for direction, recall in vars(evaluation.reranked).items()
        for cutoff, value in vars(recall).items()
    }
    metrics |= {
        "recall_mean": evaluation.reranked.mean,
        "recall_mean_by_index": evaluation.reranked_by_index.mean,
        "recall_mean_cosine": evaluation.cosine.mean,
        "itm_accuracy": evaluation.itm_accuracy,
    }
    if evaluation.itm_auroc is not None:
        metrics["itm_auroc"] = evaluation.itm_auroc
    return metrics


def wrap_model(model: VisionTextModel, tokenizer: Tokenizer) -> Matcher:
    """Return a matcher with the network, on its device."""
    assert isinstance(model, MatchModel)
    return Matcher(model, tokenizer, device_of(model), "fp32")
