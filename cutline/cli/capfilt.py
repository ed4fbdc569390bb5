"""`cutline capfilt`."""

from dataclasses import dataclass, field
from typing import Annotated

from tyro.conf import arg

from cutline.cli.caption import SourceFlags
from cutline.cli.filter import (
    FilteredData,
    SelectionOutputFlags,
    run_selection,
)
from cutline.cli.flags import Flags, MatcherFlags, select_settings
from cutline.config import (
    CaptionerOptions,
    GenerationConfig,
    InferenceConfig,
    MatcherOptions,
    MatchFilterConfig,
    RunConfig,
)
from cutline.config.capfilt import NUCLEUS
from cutline.errors import ConfigError


@dataclass(frozen=True)
class MatchFilterFlags(MatcherFlags):
    """Matcher: which checkpoint scores the texts."""

    filter: Annotated[MatchFilterConfig, Flags] = field(default_factory=MatchFilterConfig)


@dataclass(frozen=True)
class CaptionerFlags(CaptionerOptions):
    """Captioner: which checkpoint writes synthetic texts."""

    captioner: Annotated[str, arg(metavar="CAPTIONER")] = ""
    """captioner that writes synthetic texts: hub id, .pth, Hugging Face folder, cutline folder or
    training run"""
    prompt: str | None = None
    """prompt of synthetic texts, which is cut from them (default: that of each image in the data,
    else the captioner's own)"""


def capfilt_command(
    data: FilteredData,
    *,
    captioner: Annotated[CaptionerFlags, Flags] = CaptionerFlags(),
    matcher: Annotated[MatchFilterFlags, Flags] = MatchFilterFlags(),
    outputs: Annotated[SelectionOutputFlags, Flags] = SelectionOutputFlags(),
    source: Annotated[SourceFlags, Flags] = SourceFlags(),
    run: Annotated[RunConfig, Flags] = RunConfig(),
    generation: Annotated[GenerationConfig, Flags] = NUCLEUS,
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
) -> int:
    """Clean the captions of a dataset, and add synthetic ones: BLIP's CapFilt.

    A captioner writes texts for each image (by nucleus sampling, as in the paper), a matcher scores
    these and those of the data, and what reaches the threshold is kept. Images need no captions.
    The column `origin` of what is written is web or synthetic; `captioner` and `matcher` are the
    fingerprints of the models.

    The same command goes on where it was stopped or killed. What is kept can be read again as a
    dataset, by `cutline train` too.

    Examples:
        cutline capfilt web.jsonl --captioner runs/captioner --matcher runs/matcher -o clean.jsonl

        cutline capfilt 'shards/*.tar' --captioner C --matcher M -o clean/ --num-captions 2

        cutline capfilt photos --captioner C --matcher M -o clean.csv --report report.html
    """
    from cutline.capfilt import FilterJob

    if not captioner.captioner:
        raise ConfigError(
            "name the captioner that writes texts, such as --captioner runs/captioner; "
            "`cutline filter` needs none"
        )
    job = FilterJob(
        select_settings(MatcherOptions, matcher),
        matcher.filter,
        inference,
        select_settings(CaptionerOptions, captioner),
        generation,
        captioner.prompt,
    )
    return run_selection(data, job, outputs, source, run)
