"""Searching for captions; knows neither the model nor the tokenizer."""

from cutline.generation.generate import Arrivals, begin, generate, generate_stream, require_room
from cutline.generation.roles import Hypothesis, Prompts

__all__ = ["Arrivals", "Hypothesis", "Prompts", "begin", "generate", "generate_stream", "require_room"]
