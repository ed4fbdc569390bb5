"""Beam search, greedy search and sampling, independent of model and tokenizer."""

from cutline.generation.generate import (
    NewRequests,
    check_prompt_length,
    generate,
    generate_stream,
    make_search,
)
from cutline.generation.interfaces import Hypothesis, Prompts, Step

__all__ = [
    "Hypothesis",
    "NewRequests",
    "Prompts",
    "Step",
    "check_prompt_length",
    "generate",
    "generate_stream",
    "make_search",
]
