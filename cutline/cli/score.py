"""`cutline score`."""

import sys
from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.flags import Flags, ModelFlags
from cutline.errors import ConfigError


def score(
    photo: Positional[Annotated[str, arg(metavar="PHOTO")]],
    captions: Positional[Annotated[list[str], arg(metavar="CAPTION [CAPTION …]")]],
    *,
    prompt: str | None = None,
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # frozen
) -> int:
    """How likely captions are, given an image: `log-likelihood<TAB>caption` lines, best first.

    Args:
        photo: the image.
        captions: the captions to compare.
        prompt: what comes before each caption and is not scored (default: the model's own).
    """
    if not captions:
        raise ConfigError("name at least one caption to score")
    scores = which.load().score(photo, captions, prompt)
    for log_prob, text in sorted(
        ((one.log_prob, text) for one, text in zip(scores, captions, strict=True)), reverse=True
    ):
        sys.stdout.write(f"{log_prob:.4f}\t{text}\n")
    return 0
