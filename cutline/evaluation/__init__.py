"""Evaluate a captioner or a matcher on a dataset, or compare two caption files."""

from cutline.evaluation.comparison import ComparedImage, Comparison, compare_captions
from cutline.evaluation.comparison_report import write_comparison_report
from cutline.evaluation.evaluation import EvaluatedImage, Evaluation, evaluate
from cutline.evaluation.evaluation_report import (
    make_domain_table,
    make_score_rows,
    write_evaluation_report,
)
from cutline.evaluation.retrieval import MatchEvaluation, evaluate_matcher

__all__ = [
    "ComparedImage",
    "Comparison",
    "EvaluatedImage",
    "Evaluation",
    "MatchEvaluation",
    "compare_captions",
    "evaluate",
    "evaluate_matcher",
    "make_domain_table",
    "make_score_rows",
    "write_comparison_report",
    "write_evaluation_report",
]
