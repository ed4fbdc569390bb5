"""What scores texts: a matcher, or the likelihood ratio of a captioner."""

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

from cutline.bulk.inputs import open_collection
from cutline.bulk.output import Output
from cutline.bulk.random_samples import RandomSamples
from cutline.captioner import Captioner, load
from cutline.checkpoint import CheckpointSource, load_matcher_checkpoint
from cutline.config import (
    CaptionerOptions,
    DataSource,
    InferenceConfig,
    MatcherOptions,
    MatchScore,
    RatioOptions,
    SourceConfig,
    UrlPolicy,
)
from cutline.config.validation import require
from cutline.errors import CutlineError, DataError
from cutline.image import ImageSource, open_image
from cutline.likelihood_ratio import LikelihoodRatio, RatioScores
from cutline.matcher import Matcher, MatchScores, load_matcher

Scorer: TypeAlias = Matcher | LikelihoodRatio
TextScores: TypeAlias = MatchScores | RatioScores


def check_scorer(options: MatcherOptions | RatioOptions, score: MatchScore) -> None:
    """Raise ConfigError unless these options give this score."""
    if isinstance(options, MatcherOptions):
        require(
            score != "ratio",
            "ratio is the score of a captioner, not of a matcher: name --captioner in its place",
        )
        require(
            bool(options.matcher),
            "name the matcher that scores texts, such as --matcher runs/matcher",
        )
    else:
        require(
            score == "ratio",
            f"{score} is the score of a matcher, not of a captioner: name --matcher in its place, "
            "or choose --score ratio",
        )
        require(
            bool(options.captioner),
            "name the captioner that scores texts, such as --captioner runs/captioner",
        )
        require(
            bool(options.background),
            "ratio compares with other images: name some, such as the captioner's training data, "
            "as --background train.jsonl",
        )


def load_scorer(options: MatcherOptions | RatioOptions, inference: InferenceConfig) -> Scorer:
    """Load what scores texts.

    Raises:
        CheckpointError: The weights cannot be read or do not fit.
        CutlineError: The images to compare with cannot be read.
    """
    if isinstance(options, RatioOptions):
        captioner = open_captioner(options, inference)
        return LikelihoodRatio(captioner, choose_background(options), inference.batch_size)
    arguments = inference.device_arguments | options.checkpoint_options.arguments
    return load_matcher(options.matcher, **arguments)


def open_captioner(options: CaptionerOptions, inference: InferenceConfig) -> Captioner:
    """Load a captioner."""
    arguments = inference.device_arguments | options.checkpoint_options.arguments
    return load(options.captioner, **arguments)


def captioner_fingerprint(options: CaptionerOptions) -> str:
    """Return the fingerprint of a captioner's weights, and the precision of ONNX graphs."""
    arguments = options.checkpoint_options.arguments
    identity = CheckpointSource(options.captioner, **arguments).identify()
    return f"{identity.fingerprint} {identity.graph_precision}".strip()


def scorer_fingerprints(options: MatcherOptions | RatioOptions) -> Mapping[str, str]:
    """Return the fingerprint of what scores texts, by what its column is called."""
    if isinstance(options, RatioOptions):
        return {"captioner": captioner_fingerprint(options)}
    arguments = options.checkpoint_options.arguments
    return {"matcher": load_matcher_checkpoint(options.matcher, **arguments).fingerprint()}


def choose_background(options: RatioOptions) -> list[ImageSource]:
    """Return the images that texts are compared with; the same ones each time.

    Raises:
        DataError: There are none.
    """
    path = options.background
    collection = open_collection([path], SourceConfig(), DataSource(""), UrlPolicy())
    chosen, errors = RandomSamples(options.num_background), []
    for sample in collection.iter_samples(Output()):
        if isinstance(sample, CutlineError):
            errors.append(str(sample))
        else:
            chosen.add(sample)
    images: list[ImageSource] = [sample.image for sample in chosen]
    if not images:
        reason = f" ({errors[0]})" if errors else ""
        raise DataError(f"{path}: has no images for --background; name other data{reason}")
    return images


def describe_background(options: RatioOptions) -> str:
    """Return a hash of the images that texts are compared with.

    Raises:
        DataError: There are none.
        ImageError: One cannot be read.
    """
    digest = hashlib.sha256()
    for image in choose_background(options):
        digest.update(open_image(image).tobytes())
    return digest.hexdigest()
