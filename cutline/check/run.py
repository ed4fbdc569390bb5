"""Run a check: inspect every image and read every caption."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from cutline.check.captions import TokenCheck, check_captions, check_tokens, count_scripts
from cutline.check.duplicates import find_duplicates
from cutline.check.findings import CheckResult, Finding, ImageSize
from cutline.check.images import ImageInfo, ImageInfos, ImageProblem, inspect_images
from cutline.check.kinds import KINDS
from cutline.check.split import check_split
from cutline.config import CaptionConfig, CaptionText, DataSource
from cutline.data import Sample, group_by_image, open_data, open_related_data
from cutline.metrics import Histogram
from cutline.progress import Progress, no_progress
from cutline.tokenizer import Tokenizer

Data = DataSource | str | Path | Sequence[Sample]
"""a dataset: its path, a `DataSource`, or its samples"""
Split = Callable[[Sequence[Sample]], tuple[Sequence[Sample], Sequence[Sample]]]
"""divides a dataset into training and validation data"""

MIN_SIDE = 32
"""shorter side, in pixels, below which an image is very small"""
MAX_ASPECT = 4
"""ratio of the longer to the shorter side above which the aspect ratio is extreme: resizing to a
square distorts the image too much"""
_KIND_ORDER = {kind: position for position, kind in enumerate(KINDS)}


def check_data(
    source: Data,
    *,
    against: Data | None = None,
    split: Split | None = None,
    text: CaptionText = CaptionText(),  # noqa: B008  # frozen
    prompt: str = CaptionConfig.prompt,
    tokenizer: Tokenizer | None = None,
    num_workers: int = 0,
    progress: Progress = no_progress,
) -> CheckResult:
    """Check every image and every caption of a dataset.

    Args:
        source: A dataset: its path, a `DataSource`, or its samples.
        against: Another dataset that must not share images with the first, such as the validation
            data. Its images and captions are compared with those of the first, and not checked. If
            it lacks the columns of its `DataSource`, the default names are tried.
        split: How training holds out validation data, if there is no other dataset (default: the
            dataset is not divided).
        text: How training cleans and truncates captions.
        prompt: Prompt of samples that have none of their own; its tokens count toward
            `text.max_tokens`.
        tokenizer: Tokenizer of the model (default: tokens are not checked).
        num_workers: Processes that open images (0: threads of this process).
        progress: Shows how many images are done.

    Returns:
        The findings, and statistics of the images and captions.

    Raises:
        DataError: A dataset cannot be read, or contains no images.
    """
    samples, others = _read_data(source), _read_other_data(against)
    images, other_images = group_by_image(samples), group_by_image(others)
    train, held_out = split(images) if split and not others else (images, [])
    infos = _inspect([*images, *other_images], num_workers, progress)
    duplicates = find_duplicates(images, other_images, infos)
    caption_findings, words = check_captions(images, text)
    tokens = check_tokens(samples, text, prompt, tokenizer) if tokenizer else TokenCheck()
    findings = [
        *_check_images(images, infos),
        *_check_other_images(other_images, infos),
        *duplicates.findings,
        *check_split(train, other_images or held_out, text, one_dataset=bool(held_out)),
        *caption_findings,
        *tokens.findings,
    ]
    sizes = _list_sizes(images, infos)
    other_sizes = _list_sizes(other_images, infos)
    return CheckResult(
        samples=images,
        findings=sorted(findings, key=lambda finding: _KIND_ORDER[finding.kind]),
        num_readable=len(sizes),
        smallest=min(sizes, key=_order_by_area, default=None),
        largest=max(sizes, key=_order_by_area, default=None),
        sizes={size.image: size for size in (*other_sizes, *sizes)},
        attributes=_count_attributes(images, infos),
        captions=Histogram.from_values(len(sample.captions) for sample in images),
        words=words,
        tokens=tokens.lengths,
        text=text,
        scripts=count_scripts(images),
        unknown_words=tokens.unknown_words,
        unknown_characters=tokens.unknown_characters,
        duplicates=duplicates.exact,
        near_duplicates=duplicates.near,
        num_other_images=len(other_images),
        num_other_readable=len(other_sizes),
        num_held_out=len(held_out),
    )


def _read_data(source: Data) -> Sequence[Sample]:
    return open_data(source) if isinstance(source, DataSource | str | Path) else source


def _read_other_data(against: Data | None) -> Sequence[Sample]:
    if isinstance(against, DataSource):
        return open_related_data(against)
    return _read_data(against) if against is not None else []


def _inspect(samples: Sequence[Sample], num_workers: int, progress: Progress) -> ImageInfos:
    """Inspect the image of each sample once."""
    sources = list(dict.fromkeys(sample.image for sample in samples))
    with closing(inspect_images(sources, num_workers)) as infos:
        return dict(zip(sources, progress(infos, len(sources), "checking images"), strict=True))


def _check_images(samples: Sequence[Sample], infos: ImageInfos) -> Iterator[Finding]:
    """Yield the findings about images by themselves."""
    for sample in samples:
        info = infos[sample.image]
        if isinstance(info, ImageProblem):
            yield Finding(info.kind, sample.name, info.message)
            continue
        size = f"{info.width} x {info.height} pixels"
        shorter, longer = sorted((info.width, info.height))
        if shorter < MIN_SIDE:
            yield Finding("tiny", sample.name, size)
        if longer > MAX_ASPECT * shorter:
            yield Finding("extreme_aspect", sample.name, size)


def _check_other_images(samples: Sequence[Sample], infos: ImageInfos) -> Iterator[Finding]:
    """Yield a finding if no image of the other dataset is readable: then none was compared."""
    problems = [info for sample in samples if isinstance(info := infos[sample.image], ImageProblem)]
    if problems and len(problems) == len(samples):
        detail = f"none of its {len(problems):,} images was compared; the first error: "
        yield Finding("unreadable_other_set", "", detail + problems[0].message)


def _select_readable(
    samples: Sequence[Sample], infos: ImageInfos
) -> Iterator[tuple[Sample, ImageInfo]]:
    """Yield the samples whose images are readable, with facts about the images."""
    for sample in samples:
        if isinstance(info := infos[sample.image], ImageInfo):
            yield sample, info


def _list_sizes(samples: Sequence[Sample], infos: ImageInfos) -> list[ImageSize]:
    return [
        ImageSize(sample.name, info.width, info.height)
        for sample, info in _select_readable(samples, infos)
    ]


def _count_attributes(samples: Sequence[Sample], infos: ImageInfos) -> dict[str, int]:
    """Count the unusual attributes of image files, most frequent first."""
    counts = Counter(
        name for _, info in _select_readable(samples, infos) for name in info.attributes
    )
    return dict(counts.most_common())


def _order_by_area(size: ImageSize) -> tuple[int, str]:
    return size.width * size.height, size.image
