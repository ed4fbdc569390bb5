"""Heat-maps of a caption, given the pixels of its image."""

from typing import Any

from torch import Tensor

from cutline.batching import Caption
from cutline.captioner import Captioner
from cutline.config import ExplainConfig, ExplainMethod
from cutline.explanation.explainer import Explainer
from cutline.explanation.explanation import Explanation
from cutline.explanation.target import Encoded, encode_given, make_target


def encode_target(captioner: Captioner, caption: str | Caption, prompt: str) -> Encoded:
    """Return the tokens of a caption, given or generated, with its prompt.

    Raises:
        ConfigError: A given caption is too long, has no words, or has unknown ones.
    """
    if isinstance(caption, str):
        return encode_given(captioner, caption, prompt)
    prompt_ids = captioner.tokenizer.encode_prompt(prompt)
    return Encoded([*prompt_ids, *caption.token_ids], len(prompt_ids))


def explain_pixels(
    captioner: Captioner, pixels: Tensor, encoded: Encoded, method: ExplainMethod = "gradient"
) -> Explanation:
    """Return the heat-maps of a caption.

    Args:
        captioner: The captioner.
        pixels: uint8, (3, S, S).
        encoded: The tokens of the caption.
        method: As for `explain`.

    Raises:
        ConfigError: The captioner consists of ONNX graphs.
    """
    explainer = Explainer(captioner, ExplainConfig(method))
    target = make_target(captioner.tokenizer, pixels, encoded)
    size: Any = tuple(pixels.shape[1:])
    return explainer.explain_target(target, size)
