"""Caption generation: beam search, greedy search and sampling, without model or tokenizer."""

from cutline.generation.generate import (
    NewRequests,
    check_prompt_length,
    generate,
    generate_stream,
    make_search,
)
from cutline.generation.interfaces import Hypothesis, Prompts

__all__ = [
    "Hypothesis",
    "NewRequests",
    "Prompts",
    "check_prompt_length",
    "generate",
    "generate_stream",
    "make_search",
]
