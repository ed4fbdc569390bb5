"""Beam search, greedy search and sampling, independent of model and tokenizer."""

from cutline.generation.batch import Batch, NewRequests, check_prompt_length
from cutline.generation.generate import generate
from cutline.generation.interfaces import Hypothesis, Progress, Prompts, Step
from cutline.generation.logits_processors import LogitsProcessor

__all__ = [
    "Batch",
    "Hypothesis",
    "LogitsProcessor",
    "NewRequests",
    "Progress",
    "Prompts",
    "Step",
    "check_prompt_length",
    "generate",
]
