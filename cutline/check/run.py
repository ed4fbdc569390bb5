"""The check: every image opened, every caption read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from cutline.check.captions import CaptionRules, check_captions, check_tokens, count_scripts
from cutline.check.duplicates import find_duplicates
from cutline.check.findings import KINDS, Finding, Findings, Histogram, Size, name_of
from cutline.check.images import ImageInfo, ImageInfos, ImageProblem, inspect_images
from cutline.config import CaptionConfig, Cleaning, Columns
from cutline.data import Sample, open_captions, open_data
from cutline.errors import ConfigError
from cutline.tokenizer import Tokenizer

Data = str | Path | Sequence[Sample]
Wrap = Callable[[Iterator[ImageInfo | ImageProblem], int], Iterable[ImageInfo | ImageProblem]]

TINY = 32
"""shorter side, in pixels, below which an image shows little"""
NARROW = 4
"""longer side over shorter, above which an image is distorted beyond use when resized to a square"""


def check(
    data: Data,
    *,
    image_root: str = "",
    split: str = "",
    columns: Columns = Columns(),  # frozen
    against: Data | None = None,
    against_split: str = "",
    tokenizer: Tokenizer | None = None,
    prompt: str = CaptionConfig.prompt,
    clean: Cleaning = "blip",
    max_words: int = 30,
    max_tokens: int = 40,
    workers: int = 0,
    progress: Wrap = lambda looks, total: looks,
) -> Findings:
    """Open every image of `data` and read every caption, and say what is wrong with them.

    Args:
        data: a data set's path, or its samples.
        image_root: the folder that image paths are relative to (default: the data file's own).
        split: split of the data, as `open_data` takes it (default: all of them).
        columns: of tables, where they are called otherwise than usual.
        against: data that must not share an image with `data`, such as its validation set; read whole, but only compared. Its column of
            images may be called as `columns` says, or as usual; its captions are not read.
        against_split: split of `against`.
        tokenizer: the vocabulary to read captions with (default: tokens are not looked at).
        prompt: what stands before captions that bring no prompt of their own, counted in `max_tokens`.
        clean: how captions are cleaned: see `clean_caption`.
        max_words: words after which training cuts captions.
        max_tokens: tokens after which it does, prompt included.
        workers: processes that open images (0: threads of this process).
        progress: wraps the looks at the images as they come, given their number: for a bar.

    Raises:
        DataError: `data` or `against` cannot be read, or name no image.
        ConfigError: a limit below what can be kept.
    """
    if max_words < 1 or max_tokens < 3:
        raise ConfigError(f"max_words {max_words} is below 1, or max_tokens {max_tokens} below 3")
    given = open_data(data, image_root, split, columns) if isinstance(data, str | Path) else data
    other = (
        open_captions(against, image_root, against_split, Columns(columns.image_column))
        if isinstance(against, str | Path)
        else against or []
    )
    samples, others = _by_picture(given), _by_picture(other)
    sources = list(dict.fromkeys(sample.image for sample in [*samples, *others]))
    with closing(inspect_images(sources, workers)) as looks:
        seen = dict(zip(sources, progress(looks, len(sources)), strict=True))
    copies, reading = (
        find_duplicates(samples, others, seen),
        CaptionRules(clean, max_words, max_tokens, prompt),
    )
    about_words, words = check_captions(samples, reading)
    about_tokens, tokens, unknown, characters = (
        check_tokens(given, reading, tokenizer) if tokenizer else ([], None, Counter(), Counter())
    )
    rows = [
        *_check_pictures(samples, seen),
        *_check_others(others, seen),
        *copies.rows,
        *about_words,
        *about_tokens,
    ]
    rows += [
        Finding("unknown_word", "", f"“{word}” stands {count:,} times")
        for word, count in unknown.most_common()
    ]
    readable = [
        Size(name_of(sample), look.width, look.height) for sample, look in _readable(samples, seen)
    ]
    return Findings(
        samples=samples,
        rows=sorted(rows, key=lambda row: _RANK[row.kind]),
        num_readable=len(readable),
        smallest=min(readable, key=_area, default=None),
        largest=max(readable, key=_area, default=None),
        traits=dict(
            Counter(
                trait for _, look in _readable(samples, seen) for trait in look.traits
            ).most_common()
        ),
        captions=Histogram.of([len(sample.captions) for sample in samples]),
        words=words,
        tokens=tokens,
        max_words=max_words,
        max_tokens=max_tokens,
        scripts=count_scripts(samples),
        unknown_words=dict(unknown.most_common()),
        unknown_characters=dict(characters.most_common()),
        duplicates=copies.equal,
        near_duplicates=copies.alike,
        num_against=sum(1 for _ in _readable(others, seen)),
        num_others=len(others),
    )


_RANK = {kind: rank for rank, kind in enumerate(KINDS)}


def _by_picture(samples: Sequence[Sample]) -> list[Sample]:
    """Each image once, with all its captions: rows of different prompts are different samples."""
    rows: dict[object, Sample] = {}
    for sample in samples:
        first = rows.get(sample.image)
        rows[sample.image] = (
            replace(first, captions=first.captions + sample.captions) if first else sample
        )
    return list(rows.values())


def _readable(samples: Sequence[Sample], seen: ImageInfos) -> Iterator[tuple[Sample, ImageInfo]]:
    for sample in samples:
        if isinstance(look := seen[sample.image], ImageInfo):
            yield sample, look


def _area(size: Size) -> tuple[int, str]:
    return size.width * size.height, size.image


def _check_others(others: Sequence[Sample], seen: ImageInfos) -> Iterator[Finding]:
    """Nothing in common with images that cannot be read says nothing."""
    faults = [look for sample in others if isinstance(look := seen[sample.image], ImageProblem)]
    if faults and len(faults) == len(others):
        yield Finding(
            "blind",
            "",
            f"nothing is compared with its {len(faults):,} images; the first: {faults[0].sentence}",
        )


def _check_pictures(samples: Sequence[Sample], seen: ImageInfos) -> Iterator[Finding]:
    for sample in samples:
        name, look = name_of(sample), seen[sample.image]
        if isinstance(look, ImageProblem):
            yield Finding(look.kind, name, look.sentence)
            continue
        short, long = sorted((look.width, look.height))
        if short < TINY:
            yield Finding("tiny", name, f"{look.width} x {look.height} pixels")
        if long > NARROW * short:
            yield Finding("narrow", name, f"{look.width} x {look.height} pixels")
