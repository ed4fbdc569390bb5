"""Evaluate a captioner or a matcher on a dataset, or compare two caption files."""

from cutline.evaluation.coco_scores import make_coco_scores
from cutline.evaluation.comparison import ComparedImage, Comparison, compare_captions
from cutline.evaluation.comparison_report import write_comparison_report
from cutline.evaluation.evaluation import EvaluatedImage, Evaluation, evaluate, select_samples
from cutline.evaluation.evaluation_report import write_evaluation_report
from cutline.evaluation.evaluation_tables import make_score_rows
from cutline.evaluation.given_captions import evaluate_captions
from cutline.evaluation.retrieval import MatchEvaluation, evaluate_matcher

__all__ = [
    "ComparedImage",
    "Comparison",
    "EvaluatedImage",
    "Evaluation",
    "MatchEvaluation",
    "compare_captions",
    "evaluate",
    "evaluate_captions",
    "evaluate_matcher",
    "make_coco_scores",
    "make_score_rows",
    "select_samples",
    "write_comparison_report",
    "write_evaluation_report",
]
