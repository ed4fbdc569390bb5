"""`cutline score`."""

from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import print_result
from cutline.cli.flags import CheckpointFlags, Flags
from cutline.config import DeviceConfig
from cutline.errors import ConfigError


def score_command(
    image: Positional[Annotated[str, arg(metavar="IMAGE")]],
    captions: Positional[Annotated[list[str], arg(metavar="CAPTION [CAPTION …]")]],
    *,
    prompt: str | None = None,
    model: Annotated[CheckpointFlags, Flags] = CheckpointFlags(),
    inference: Annotated[DeviceConfig, Flags] = DeviceConfig(),
) -> int:
    """Score captions of an image: `log-likelihood<TAB>caption` lines, best first.

    Examples:
        cutline score photo.jpg "a dog on a beach" "a cat on a sofa"

    Args:
        image: Image file.
        captions: Captions to score.
        prompt: Text before each caption, which is not scored (default: the model's own prompt).
    """
    if not captions:
        raise ConfigError("name at least one caption to score")
    for caption in model.load(inference).rank(image, captions, prompt):
        print_result(f"{caption.score.log_prob:.4f}\t{caption.text}\n")
    return 0
