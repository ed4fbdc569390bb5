"""`SearchIndex`: an index and its matcher, ready for any number of questions."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cutline.config import DeviceConfig, Engine, InferencePrecision, MatcherOptions
from cutline.config.validation import require, require_count
from cutline.data.names import is_image
from cutline.errors import ConfigError, ImageError
from cutline.files import ImageRef
from cutline.image import ImageSource
from cutline.matcher import Matcher, MatchScores
from cutline.messages import format_text
from cutline.retrieval.embedding import matcher_from_checkpoint, read_matcher
from cutline.retrieval.image_index import Array, ImageIndex, open_image_index
from cutline.retrieval.info import locate_index
from cutline.retrieval.sources import find_images, join_path


@dataclass(frozen=True)
class SearchHit:
    """An image that was found."""

    image: str
    """path of the image, or the id of one that is not a file of its own; it may have been removed
    since it was indexed"""
    score: float
    """cosine of the embeddings of question and image"""
    match: float | None = None
    """match probability, with re-ranking; None for images that were not re-ranked, or cannot be
    read any more"""
    row: int = 0
    """row of the image in the index"""


class SearchIndex:
    """An index and its matcher, ready for any number of questions.

    Attributes:
        images: The index.
        matcher: The matcher that it was made with.
    """

    def __init__(self, images: ImageIndex, matcher: Matcher) -> None:
        self.images, self.matcher = images, matcher

    @classmethod
    def open(
        cls,
        folder: str | Path,
        matcher: str | Path | MatcherOptions = "",
        device: str = "auto",
        precision: InferencePrecision = "auto",
        *,
        engine: Engine = "auto",
    ) -> Self:
        """Open an index and load its matcher.

        Args:
            folder: An index, or the folder of images that it belongs to.
            matcher: Where the matcher is now (default: where it was when the index was made).
            device: As for `cutline.load`.
            precision: As for `cutline.load`.
            engine: As for `cutline.load`.

        Raises:
            DataError: There is no index, or it is not finished, or damaged.
            CheckpointError: The matcher cannot be read.
            ConfigError: The matcher is another one than that of the index, or a setting is invalid.
        """
        config = DeviceConfig(device, precision, engine)
        images = open_image_index(locate_index(folder))
        options = matcher if isinstance(matcher, MatcherOptions) else MatcherOptions(str(matcher))
        return cls(images, load_index_matcher(images, options, config))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def search(self, question: str | ImageSource, k: int = 20, rerank: int = 0) -> list[SearchHit]:
        """Return the images that are nearest to a question, best first.

        Args:
            question: A text, or an image; a string is an image if it is the path of an image file.
            k: Number of images; all are returned if there are fewer.
            rerank: Number of the first images to put in the order of `match`; see `rerank`.

        Raises:
            ConfigError: The question is empty, or an image that shall be re-ranked by.
            ImageError: The question is an image that cannot be read.
        """
        check_counts(k, rerank)
        question = find_question(question)
        text = require_text(question) if rerank else ""
        hits = self._find_nearest(self._embed(question), max(k, rerank))
        if rerank:
            hits = self.rerank(text, hits[:rerank]) + hits[rerank:]
        return hits[:k]

    def _embed(self, question: str | ImageSource) -> Array:
        if isinstance(question, str):
            embeddings = self.matcher.embed_texts(question)
        else:
            embeddings = self.matcher.embed_images(question)
        array: Array = embeddings.numpy()[0]
        return array

    def _find_nearest(self, question: Array, k: int) -> list[SearchHit]:
        found = self.images.nearest(question, k)
        return [SearchHit(self._locate(row), score, row=row) for row, score in found]

    def _locate(self, row: int) -> str:
        image = self.images.image(row)
        if not image.is_file:
            return image.name
        folder = join_path(self.images.folder, self.images.info.sources.folder)
        return join_path(folder, image.name)

    def rerank(self, text: str, hits: Sequence[SearchHit]) -> list[SearchHit]:
        """Sort images by match probability (image-text matching).

        They are encoded again: each takes as long as it took to index it. Those that cannot be read
        any more come last.
        """
        images = enumerate(self.find(hits))
        known = [(number, image) for number, image in images if image is not None]
        scores = self.matcher.stream((image, [text]) for _, image in known)
        matches = {
            number: score.itm[0]
            for (number, _), score in zip(known, scores, strict=True)
            if isinstance(score, MatchScores)
        }
        ranked = [replace(hit, match=matches.get(number)) for number, hit in enumerate(hits)]
        return sorted(ranked, key=lambda hit: -1 if hit.match is None else hit.match, reverse=True)

    def find(self, hits: Sequence[SearchHit]) -> list[str | bytes | ImageRef | None]:
        """Return where images can be read; None for those that the sources do not contain any more.

        Those that are not files of their own are looked for in the sources.
        """
        images = [self.images.image(hit.row) for hit in hits]
        return find_images(self.images.folder, self.images.info.sources, images)


def load_index_matcher(
    images: ImageIndex, options: MatcherOptions, device: DeviceConfig
) -> Matcher:
    """Load the matcher of an index.

    Args:
        images: The index.
        options: Where the matcher is now; without a path, where it was when the index was made.
        device: Where it runs.

    Raises:
        ConfigError: It is another matcher.
        CheckpointError: It cannot be read.
    """
    options = options if options.matcher else images.info.matcher
    checkpoint = read_matcher(options)
    if checkpoint.fingerprint() != images.info.fingerprint:
        raise ConfigError(
            f"{images.folder}: made with another matcher than {format_text(options.matcher)}; "
            "name that one with --matcher, or index the images again with --new-index"
        )
    return matcher_from_checkpoint(checkpoint, device)


def check_counts(k: int, rerank: int) -> None:
    """Raise ConfigError unless `k` images can be found, and `rerank` of them re-ranked."""
    require_count("k", k, 1)
    require_count("rerank", rerank, 0)


def find_question(question: str | ImageSource) -> str | ImageSource:
    """Return a question as it is meant: text as `str`, an image in any other type.

    Raises:
        ConfigError: It is empty, or several questions.
        ImageError: It looks like the path of an image file, but there is none.
    """
    require(not isinstance(question, list | tuple), "ask one question: a text, or an image")
    if not isinstance(question, str):
        return question
    require(bool(question.strip()), "the question is empty; describe what is in the image")
    if not is_image(question):
        return question
    path = os.path.expanduser(question)  # noqa: PTH111
    if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises if the name is too long
        return Path(path)
    raise ImageError(
        f"{format_text(question)}: no such image; check the path, or leave out the ending to "
        "search for this text"
    )


def require_text(question: str | ImageSource) -> str:
    """Return a question that is a text.

    Raises:
        ConfigError: It is an image.
    """
    if isinstance(question, str):
        return question
    raise ConfigError(
        "re-ranking asks whether a text belongs to an image, and the question is an image; "
        "leave out the re-ranking, or ask with a text"
    )


def search(
    folder: str | Path,
    question: str | ImageSource,
    k: int = 20,
    rerank: int = 0,
    *,
    matcher: str | Path = "",
    device: str = "auto",
    precision: InferencePrecision = "auto",
) -> list[SearchHit]:
    """Find the images that a text describes, or that resemble an image.

    It loads the index and its matcher. For several questions, open a `SearchIndex` once.

    Args:
        folder: An index, or the folder of images that it belongs to: see `build_index`.
        question: A text, or an image; a string is an image if it is the path of an image file.
        k: Number of images; all are returned if there are fewer.
        rerank: Number of the first images that are sorted by match probability (image-text
            matching), for which they are encoded again.
        matcher: Where the matcher is now (default: where it was when the index was made).
        device: As for `cutline.load`.
        precision: As for `cutline.load`.

    Returns:
        The images, best first: those with the highest cosine, exactly.

    Raises:
        DataError: There is no index, or it is not finished, or damaged.
        CheckpointError: The matcher cannot be read.
        ConfigError: The matcher is another one than that of the index, or a setting is invalid.
        ImageError: The question is an image that cannot be read.
    """
    index = SearchIndex.open(folder, matcher, device, precision)
    return index.search(question, k, rerank)
