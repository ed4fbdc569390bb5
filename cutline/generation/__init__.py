"""Searching for captions; knows neither the model nor the tokenizer."""

from cutline.generation.generate import (
    NewRequests,
    begin,
    check_prompt_length,
    generate,
    generate_stream,
)
from cutline.generation.interfaces import Hypothesis, Prompts

__all__ = [
    "Hypothesis",
    "NewRequests",
    "Prompts",
    "begin",
    "check_prompt_length",
    "generate",
    "generate_stream",
]
