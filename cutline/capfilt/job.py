"""`FilterJob`: score the texts of each image, and select those that match."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from cutline.bulk.engine import describe_generation
from cutline.bulk.job import Result, TextSelection
from cutline.bulk.record import SCORE_DIGITS
from cutline.capfilt.batches import CachedImage, batch_samples
from cutline.capfilt.scorer import (
    Scorer,
    TextScores,
    captioner_fingerprint,
    check_scorer,
    describe_background,
    load_scorer,
    open_captioner,
    scorer_fingerprints,
)
from cutline.captioner import Captioner
from cutline.config import (
    CaptionerOptions,
    FilterConfig,
    GenerationConfig,
    InferenceConfig,
    MatcherOptions,
    OutputConfig,
    RatioOptions,
)
from cutline.config.capfilt import NUCLEUS
from cutline.config.validation import require
from cutline.data import Sample
from cutline.errors import CutlineError, DataError, GenerationError
from cutline.image import ImageSource

WEB, SYNTHETIC = "web", "synthetic"
"""origins of a text: the data, or the captioner"""
BATCHES_TOGETHER = 4
"""batches that are captioned, and then scored: all that a process of a run is sent at a time"""


class FilterModels(NamedTuple):
    """What a job loads."""

    scorer: Scorer
    captioner: Captioner | None = None
    """writes synthetic texts"""


class Candidates(NamedTuple):
    """The texts of an image that are scored."""

    image: ImageSource
    texts: Sequence[str]
    num_web: int
    """number of those from the data, which come first"""


@dataclass(frozen=True)
class FilterJob:
    """Which texts of an image are kept: the same in every process.

    Texts are those of the data and, with `captioner`, synthetic ones.
    """

    scorer: MatcherOptions | RatioOptions
    """what scores texts: a matcher or, for the score `ratio`, the likelihoods of a captioner"""
    filter: FilterConfig = field(default_factory=FilterConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    captioner: CaptionerOptions = field(default_factory=CaptionerOptions)
    generation: GenerationConfig = NUCLEUS
    """how synthetic texts are made, `num_captions` of each image"""
    prompt: str | None = None
    """prompt of synthetic texts; None for that of each sample, or else the captioner's"""

    def __post_init__(self) -> None:
        require(
            not self.adds_texts or self.filter.score != "ratio",
            "ratio cannot score texts that a captioner writes, because it finds its own likely: "
            "choose the score itm or itc, and name a matcher",
        )
        check_scorer(self.scorer, self.filter.score)
        require(
            not self.generation.token_log_probs,
            "token_log_probs has no effect on texts that are filtered: remove it",
        )

    @property
    def adds_texts(self) -> bool:
        """Return whether a captioner adds synthetic texts."""
        return bool(self.captioner.captioner)

    def load(self, device: str = "") -> FilterModels:
        """Load the models, on another device than that of the settings if one is given."""
        inference = replace(self.inference, device=device or self.inference.device)
        scorer = load_scorer(self.scorer, inference)
        if not self.adds_texts:
            return FilterModels(scorer)
        return FilterModels(scorer, open_captioner(self.captioner, inference))

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """Return those of the models, by what the columns are called that have them."""
        found = {}
        if self.adds_texts:
            found["captioner"] = captioner_fingerprint(self.captioner)
        return {**found, **scorer_fingerprints(self.scorer)}

    def describe(self, outputs: OutputConfig) -> dict[str, Any]:
        """Return what the selection depends on, for the manifest."""
        values = {
            **self.fingerprints,
            "precision": self.inference.precision,
            "score": self.filter.score,
            "threshold": self.filter.minimum,
        }
        if isinstance(self.scorer, RatioOptions):
            values["background"] = describe_background(self.scorer)
        if self.adds_texts:
            values |= {"prompt": self.prompt, **describe_generation(self.generation, NUCLEUS)}
        return values

    def stream(
        self,
        models: FilterModels,
        samples: Iterator[Sample],
        batch_size: int,
        ordered: bool = False,
    ) -> Iterator[Result]:
        """Select texts of samples as they come, in order."""
        if models.captioner:
            return self._add_and_select(models.captioner, models.scorer, samples, batch_size)
        return self._select(models.scorer, samples, batch_size)

    def _select(
        self, scorer: Scorer, samples: Iterator[Sample], batch_size: int
    ) -> Iterator[Result]:
        running: dict[int, Candidates] = {}

        def read() -> Iterator[tuple[ImageSource, Sequence[str]]]:
            for index, sample in enumerate(samples):
                texts = sample.captions
                running[index] = Candidates(sample.image, texts, len(texts))
                yield sample.image, texts

        num_workers = self.inference.num_workers
        for scores in scorer.stream(read(), batch_size=batch_size, num_workers=num_workers):
            assert scores.index is not None
            yield self.select_texts(running.pop(scores.index), scores)

    def _add_and_select(
        self, captioner: Captioner, scorer: Scorer, samples: Iterator[Sample], batch_size: int
    ) -> Iterator[Result]:
        start = 0
        for batch in batch_samples(samples, BATCHES_TOGETHER * batch_size):
            found = self._add_texts(captioner, list(map(CachedImage.wrap, batch)), batch_size)
            readable = [each for each in found if isinstance(each, Candidates)]
            scores = scorer.stream(
                [(each.image, each.texts) for each in readable],
                batch_size=batch_size,
                num_workers=self.inference.num_workers,
            )
            selections = map(self.select_texts, readable, scores)
            for index, each in enumerate(found, start):
                result = each if isinstance(each, CutlineError) else next(selections)
                yield set_result_index(result, index)
            start += len(batch)

    def _add_texts(
        self, captioner: Captioner, batch: Sequence[Sample], batch_size: int
    ) -> list[Candidates | CutlineError]:
        """Return the texts of the data and synthetic ones; equal ones are scored once."""
        default = captioner.config.prompt
        captions = captioner.stream(
            [sample.image for sample in batch],
            [sample.prompt_or(default) if self.prompt is None else self.prompt for sample in batch],
            batch_size=batch_size,
            num_workers=self.inference.num_workers,
            **asdict(self.generation),
        )
        found: list[Candidates | CutlineError] = []
        for sample, caption in zip(batch, captions, strict=True):
            if isinstance(caption, CutlineError):
                found.append(caption)
                continue
            texts = dict.fromkeys(each.text for each in caption.alternatives if each.text.strip())
            new = [text for text in texts if text not in sample.captions]
            found.append(Candidates(sample.image, [*sample.captions, *new], len(sample.captions)))
        return found

    def select_texts(
        self, candidates: Candidates, scores: TextScores | CutlineError
    ) -> TextSelection | CutlineError:
        """Return which texts of an image are kept, given their scores."""
        if isinstance(scores, CutlineError):
            return scores
        error = _find_error(candidates, scores, self.adds_texts)
        if error:
            error.index = scores.index
            return error
        rows = list(self._make_rows(candidates, scores))
        name, minimum = self.filter.score, self.filter.minimum
        kept = tuple(row for row in rows if row[name] >= minimum)
        dropped = tuple(row for row in rows if row[name] < minimum)
        return TextSelection(kept, dropped, scores.index)

    def _make_rows(self, candidates: Candidates, scores: TextScores) -> Iterator[dict[str, Any]]:
        num_web = candidates.num_web
        origins = [WEB] * num_web + [SYNTHETIC] * (len(candidates.texts) - num_web)
        columns = scores.columns
        for text, origin, *values in zip(candidates.texts, origins, *columns.values(), strict=True):
            rounded = (round(value, SCORE_DIGITS) for value in values)
            yield {
                "caption": text,
                **({"origin": origin} if self.adds_texts else {}),
                **dict(zip(columns, rounded, strict=True)),
            }


def _find_error(
    candidates: Candidates, scores: TextScores, has_captioner: bool
) -> CutlineError | None:
    """Return why the texts of an image cannot be selected, if that is so."""
    name = f"image {scores.index}"  # in place of which a run says which one it is
    if not candidates.texts and has_captioner:
        return DataError(f"{name}: has no text, and the captioner writes an empty one; drop it")
    if not candidates.texts:
        return DataError(
            f"{name}: has no text to filter; `cutline caption` or `cutline capfilt` writes some"
        )
    if any(map(math.isnan, itertools.chain(*scores.columns.values()))):
        return GenerationError(
            f"{name}: its texts cannot be scored, because the model's output is NaN (are its "
            "weights damaged?)"
        )
    return None


def set_result_index(result: TextSelection | CutlineError, index: int) -> Result:
    """Return a result with the number of its image."""
    if isinstance(result, TextSelection):
        return replace(result, index=index)
    result.index = index
    return result
