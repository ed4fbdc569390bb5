"""Searching for captions; knows neither the model nor the tokenizer."""

from cutline.generation.generate import generate, require_room
from cutline.generation.roles import Hypothesis, Prompts

__all__ = ["Hypothesis", "Prompts", "generate", "require_room"]
