"""How transformers generates captions of a Hugging Face folder: generation_config.json."""

from dataclasses import asdict
from typing import Any

from cutline.config import CaptionConfig, GenerationConfig
from cutline.config.huggingface import GenerateConfig
from cutline.tokenizer import Tokenizer

SAMPLING = ("temperature", "top_k", "top_p")
"""arguments that transformers warns of, unless it samples"""


def make_generation_config(config: CaptionConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """Make the content of a generation_config.json with the defaults of cutline.

    Lengths count the start token and the prompt in transformers as well, because the text decoder
    gets both as its input. BLIP's class reads the file, but its text decoder, which generates, does
    not: see `format_usage`.
    """
    defaults = GenerationConfig()
    max_length = min(defaults.max_length, config.text.max_positions)
    limited = GenerationConfig(
        max_length=max_length, min_length=min(defaults.min_length, max_length)
    )
    arguments = asdict(GenerateConfig.from_generation_config(limited))
    return {
        **{name: x for name, x in arguments.items() if x is not None and name not in SAMPLING},
        "early_stopping": False,  # as in beam_scoring="huggingface"
        "bos_token_id": tokenizer.dec_id,
        "eos_token_id": tokenizer.sep_id,
        "pad_token_id": tokenizer.pad_id,
    }
