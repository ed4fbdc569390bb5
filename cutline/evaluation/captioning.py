"""Caption the images of samples, in shares of equal size on several processes."""

from collections.abc import Sequence
from typing import TypeAlias, Unpack

from cutline.batching import Caption
from cutline.captioner import Captioner
from cutline.config import GenerationKwargs
from cutline.data import Sample
from cutline.errors import CutlineError
from cutline.evaluation.shares import map_shares
from cutline.progress import Progress

CaptionResult: TypeAlias = Caption | CutlineError
"""the caption of an image, or why there is none"""


def caption_dataset(
    captioner: Captioner,
    samples: Sequence[Sample],
    prompt: str | None,
    batch_size: int,
    num_workers: int,
    progress: Progress,
    **settings: Unpack[GenerationKwargs],
) -> list[CaptionResult]:
    """Return the caption, or the error, of each sample; the same in every process.

    Args:
        captioner: The captioner.
        samples: The samples, the same in every process.
        prompt: Prompt of all captions (default: that of each sample, else the model's own).
        batch_size: Images captioned together.
        num_workers: Processes that decode images (0: threads of this process).
        progress: Shows how many images are captioned.
        **settings: Fields of `GenerationConfig`.
    """

    def caption_share(share: Sequence[Sample]) -> list[CaptionResult]:
        images = [sample.image for sample in share]
        prompts = [
            sample.prompt_or(captioner.config.prompt) if prompt is None else prompt
            for sample in share
        ]
        results = captioner.stream(
            images, prompts, batch_size=batch_size, num_workers=num_workers, **settings
        )
        return list(progress(results, len(images), "captioning"))

    return map_shares(caption_share, samples)
