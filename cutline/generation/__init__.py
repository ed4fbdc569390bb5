"""Beam search, greedy search and sampling, independent of model and tokenizer."""

from cutline.generation.batch import Batch, NewRequests, check_prompt_length
from cutline.generation.generate import generate
from cutline.generation.interfaces import Hypothesis, Progress, Prompts, Step

__all__ = [
    "Batch",
    "Hypothesis",
    "NewRequests",
    "Progress",
    "Prompts",
    "Step",
    "check_prompt_length",
    "generate",
]
