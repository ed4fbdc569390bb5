"""The table of scores that `cutline evaluate --matcher` prints."""

from typing import TYPE_CHECKING

from cutline.cli.score_table import format_score

if TYPE_CHECKING:
    from cutline.evaluation import MatchEvaluation
    from cutline.metrics import RetrievalScores


def format_match_evaluation(evaluation: "MatchEvaluation") -> list[str]:
    """Return a table of recall, one row per ranking and rule, and a line per other score."""
    header = ["", "text @1", "@5", "@10", "image @1", "@5", "@10", "mean"]
    rows = {
        "by cosine": evaluation.cosine,
        f"after re-ranking {evaluation.k_test}": evaluation.reranked,
        "by cosine, by index": evaluation.cosine_by_index,
        "re-ranked, by index": evaluation.reranked_by_index,
    }
    lines = [header, *([name, *_list_recalls(scores)] for name, scores in rows.items())]
    width = max(map(len, rows)) + 2
    table = [line[0].ljust(width) + "".join(f"{cell:>10}" for cell in line[1:]) for line in lines]
    others = {
        "itm_accuracy": evaluation.itm_accuracy,
        "itm_auroc": evaluation.itm_auroc,
        "num_images": evaluation.num_images,
        "num_texts": evaluation.num_texts,
    }
    values = {name: value for name, value in others.items() if value is not None}
    return [*table, "", *(f"{name:<14}{format_score(v)}" for name, v in values.items())]


def _list_recalls(scores: "RetrievalScores") -> list[str]:
    recalls = (scores.image_to_text, scores.text_to_image)
    values = [value for recall in recalls for value in (recall.at1, recall.at5, recall.at10)]
    return [f"{value:.4f}" for value in (*values, scores.mean)]
