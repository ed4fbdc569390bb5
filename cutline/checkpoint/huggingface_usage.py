"""Python code that uses a Hugging Face folder in transformers as cutline does."""

from pathlib import Path

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.kinds import AnyConfig, kind_of
from cutline.config import MAX_TEXT_TOKENS, CaptionConfig

IMAGE, TEXT = "photo.jpg", "a dog on grass"
"""what the code captions, or matches"""


def format_usage(folder: str | Path, checkpoint: Checkpoint[AnyConfig]) -> str:
    """Return five lines of Python that caption an image, or match it with a text.

    Transformers needs to be told what cutline takes from the model: the text decoder does not read
    generation_config.json, and prompt and start token are arguments.

    Args:
        folder: A Hugging Face folder, as `save_huggingface` writes it.
        checkpoint: The model in it.
    """
    config, path = checkpoint.config, repr(str(folder))
    names = [f"{kind_of(config).architecture} as Blip", "BlipProcessor"]
    if isinstance(config, CaptionConfig):
        prompt_length = len(checkpoint.tokenizer.encode_prompt(config.prompt))
        lines = _format_captioning(path, config.prompt, prompt_length)
        names.append("GenerationConfig")
    else:
        lines = _format_matching(config.text.max_positions, checkpoint.tokenizer.enc_id)
    head = [
        f"from transformers import {', '.join(names)}",
        f"model, processor = Blip.from_pretrained({path}), BlipProcessor.from_pretrained({path})",
    ]
    return "\n".join([*head, *lines]) + "\n"


def _format_captioning(path: str, prompt: str, prompt_length: int) -> list[str]:
    """Return the lines for a captioner; its prompt has so many tokens, with the start token."""
    text = f"text={prompt!r}, " if prompt_length > 1 else ""
    caption = f"model.generate(**batch)[0, {prompt_length}:]"
    # Like cutline, this leaves out the prefix of a first token that continues a word.
    decoded = f"processor.decode({caption}, skip_special_tokens=True).removeprefix('##')"
    return [
        f"model.text_decoder.generation_config = GenerationConfig.from_pretrained({path})",
        f"batch = processor(images={IMAGE!r}, {text}return_tensors='pt')",
        f"print({decoded})",
    ]


def _format_matching(max_positions: int, enc_id: int) -> list[str]:
    max_length = min(MAX_TEXT_TOKENS, max_positions)
    cut = f"truncation=True, max_length={max_length}"
    return [
        f"batch = processor(images={IMAGE!r}, text={TEXT!r}, {cut}, return_tensors='pt')",
        f"batch['input_ids'][:, 0] = {enc_id}  # [ENC], as in training",
        "print(model(**batch).itm_score.softmax(-1)[0, 1].item())",
    ]
