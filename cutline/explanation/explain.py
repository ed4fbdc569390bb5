"""`explain`: a heat-map over the image for each word of a caption."""

from collections.abc import Sequence
from typing import Unpack, overload

import numpy as np

from cutline.batching.inputs import check_count, to_image_list
from cutline.captioner import Captioner
from cutline.config import ExplainConfig, ExplainMethod, GenerationKwargs
from cutline.errors import CutlineError
from cutline.explanation.explainer import Explainer
from cutline.explanation.explanation import Explanation
from cutline.image import ImageSource


@overload
def explain(  # type: ignore[overload-overlap]  # a str is a sequence of str, but never meant as one
    captioner: Captioner,
    image: ImageSource,
    caption: str | None = None,
    *,
    prompt: str | None = None,
    method: ExplainMethod = "gradient",
    window: int = 0,
    stride: int = 0,
    batch_size: int = 8,
    **settings: Unpack[GenerationKwargs],
) -> Explanation: ...


@overload
def explain(
    captioner: Captioner,
    image: Sequence[ImageSource],
    caption: str | Sequence[str] | None = None,
    *,
    prompt: str | None = None,
    method: ExplainMethod = "gradient",
    window: int = 0,
    stride: int = 0,
    batch_size: int = 8,
    **settings: Unpack[GenerationKwargs],
) -> list[Explanation]: ...


def explain(
    captioner: Captioner,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Sequence[str] | None = None,
    *,
    prompt: str | None = None,
    method: ExplainMethod = "gradient",
    window: int = 0,
    stride: int = 0,
    batch_size: int = 8,
    **settings: Unpack[GenerationKwargs],
) -> Explanation | list[Explanation]:
    """Compute for each word of a caption where in the image the captioner looked.

    The methods:

    - "gradient": the cross-attention at the positions that predict the word, each weight
      multiplied by the gradient of the word's log-probability (ALBEF, Li et al., 2021, arXiv
      2107.07651). It needs engine eager in fp32: a captioner that `cutline.load` has loaded in
      another way is loaded a second time, and kept.
    - "attention": the cross-attention at the same positions, averaged over layers and heads. It
      works with any engine and precision, and is more often on another object.
    - "occlusion": how much the log-probability of the word drops when a window of the image is
      replaced by its mean color (Zeiler and Fergus, 2014, arXiv 1311.2901). It is slow, and needs
      nothing of the model but its output.

    Args:
        captioner: The captioner.
        image: An image, or a sequence of images; see `Captioner.caption`.
        caption: A caption for all images, or one per image, used as in `Captioner.score` (default:
            those that the captioner generates).
        prompt: The text before every caption, which gets no maps (default: the model's own).
        method: "gradient", "attention" or "occlusion".
        window: Side of the part that occlusion hides, in patches (0: a quarter of the image's
            side).
        stride: Patches from one hidden part to the next (0: half a window).
        batch_size: Images captioned together, and images with hidden parts that are encoded
            together.
        **settings: Fields of `GenerationConfig` for generated captions, such as num_beams=5.

    Returns:
        The explanation of an image, or a list of one per image.

    Raises:
        ImageError: An image cannot be read.
        ConfigError: A setting is invalid, a caption is too long or has no words, the numbers of
            images and captions differ, or the method needs gradients and the captioner has none.
        GenerationError: An image cannot be captioned.
    """
    config = ExplainConfig(method, window, stride)
    is_single = not isinstance(image, Sequence) or isinstance(image, str | bytes)
    is_single = is_single and not (isinstance(image, np.ndarray) and image.ndim == 4)
    image_list = to_image_list(image)
    if caption is not None and not isinstance(caption, str):
        check_count("caption", caption, len(image_list))
    explainer = Explainer(captioner, config, prompt, batch_size)
    explanations = []
    for result in explainer.stream(image_list, caption, **settings):
        if isinstance(result, CutlineError):
            raise result
        explanations.append(result.explanation)
    return explanations[0] if is_single else explanations
