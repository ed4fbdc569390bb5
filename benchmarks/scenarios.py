"""Scenarios and their timing: runners are interleaved, so that other load affects all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runners import (
    CUTLINE_FP32,
    RUNNERS,
    TRANSFORMERS_BF16,
    TRANSFORMERS_FP32,
    Images,
    LoadedRunner,
    Runner,
    Search,
    TokenIds,
    load_runner,
)

from cutline.errors import CutlineError

CUTLINE_RUNNERS = (CUTLINE_FP32, "cutline int8")
ModelName = Literal["base", "large", "small"]
PACKED_RUNNERS = (CUTLINE_FP32, "cutline bf16", "cutline int8", TRANSFORMERS_FP32)


@dataclass(frozen=True)
class Scenario:
    """A task that several runners perform."""

    name: str
    title: str
    batch: int = 8
    images: int = 8
    search: Search = field(default_factory=Search)
    runners: tuple[str, ...] = tuple(runner.name for runner in RUNNERS)
    from_files: bool = False
    model: ModelName = "base"


SCENARIOS = (
    Scenario("latency-greedy", "one image, greedy", 1, 1, Search(num_beams=1)),
    Scenario("latency-beam-3", "one image, 3 beams", 1, 1),
    Scenario("batch-1", "2 images one by one", 1, 2),
    Scenario("batch-8", "a batch of 8"),
    Scenario("batch-32", "a batch of 32", 32, 32, runners=(*PACKED_RUNNERS, TRANSFORMERS_BF16)),
    Scenario(
        "tokens-40",
        "40-token captions, a batch of 8",
        search=Search(length=40),
        runners=PACKED_RUNNERS,
    ),
    Scenario(
        "beams-1", "greedy, a batch of 8", search=Search(num_beams=1), runners=CUTLINE_RUNNERS
    ),
    Scenario(
        "beams-5", "5 beams, a batch of 8", search=Search(num_beams=5), runners=CUTLINE_RUNNERS
    ),
    Scenario("images-32", "32 images in batches of 8", 8, 32, runners=CUTLINE_RUNNERS),
    Scenario(
        "files-32", "32 JPEG files in batches of 8", 8, 32, runners=CUTLINE_RUNNERS, from_files=True
    ),
    Scenario(
        "large",
        "the large model, a batch of 4",
        4,
        4,
        runners=(*CUTLINE_RUNNERS, TRANSFORMERS_FP32),
        model="large",
    ),
    Scenario(
        "small",
        "the demo's model, 64 images of 64 px in batches of 8",
        8,
        64,
        runners=(*CUTLINE_RUNNERS, TRANSFORMERS_FP32),
        model="small",
    ),
)
SHORT_SCENARIOS = (
    Scenario(
        "latency-beam-3",
        "one image, 3 beams",
        1,
        1,
        runners=(CUTLINE_FP32, "cutline int8", TRANSFORMERS_FP32, TRANSFORMERS_BF16),
    ),
    Scenario("batch-8", "a batch of 8", runners=(CUTLINE_FP32, "cutline int8", TRANSFORMERS_FP32)),
)
PROCESS_SCENARIOS = ("starts", "memory")
"""scenarios that need separate processes"""


@dataclass(frozen=True)
class Timing:
    """The runs of a runner in a scenario."""

    images: int
    batch: int
    seconds: tuple[float, ...]
    captions: tuple[TokenIds, ...] = field(repr=False)

    @property
    def per_image(self) -> float:
        """Return the seconds per image of the median run."""
        return statistics.median(self.seconds) / self.images


Outcome = Timing | str
"""the runs, or why there are none"""
Log = Callable[[str], None]


class RunnerGroup:
    """Loaded and warmed-up runners with the same weights."""

    def __init__(
        self, runners: Sequence[Runner], folder: Path, one_image: Images, limit: float, log: Log
    ) -> None:
        """Load the runners.

        Args:
            runners: The runners to load.
            folder: What `write_model` wrote.
            one_image: One image, for warming up.
            limit: A runner that takes longer, in seconds, runs only once, on a single batch.
            log: Called with progress messages.
        """
        self.limit, self.log = limit, log
        self.runners = {runner.name: runner for runner in runners}
        self.missing: dict[str, str] = {}
        self.seconds_per_image: dict[str, float] = {}
        self.loaded = {
            name: loaded
            for name, runner in self.runners.items()
            if (loaded := self._load(runner, folder, one_image))
        }

    def _load(self, runner: Runner, folder: Path, one_image: Images) -> LoadedRunner | None:
        self.log(f"loading {runner.name}")
        try:
            loaded = load_runner(runner, folder)
            loaded.caption(loaded.prepare(one_image), 1, Search(num_beams=1, length=5))
        except (CutlineError, ImportError) as error:
            self.missing[runner.name] = error_message(error)
            self.log(f"{runner.name} is not available: {error_message(error)}")
            return None
        return loaded

    def run(self, scenario: Scenario, images: Images, repeats: int) -> dict[str, Outcome]:
        """Time every runner of `scenario`, interleaved, in a new order each time."""
        outcomes: dict[str, Outcome] = {
            name: why for name, why in self.missing.items() if name in scenario.runners
        }
        names = [name for name in self.loaded if name in scenario.runners]
        for repeat in range(repeats):
            for name in rotate(names, repeat):
                before = outcomes.get(name)
                if before is None or (
                    isinstance(before, Timing)
                    and sum(before.seconds) <= self.limit * len(before.seconds)
                ):
                    outcomes[name] = self._once(name, scenario, images, before)
        return {name: outcomes[name] for name in self.runners if name in outcomes}

    def _once(
        self, name: str, scenario: Scenario, images: Images, before: Timing | None
    ) -> Outcome:
        count = before.images if before else self._count(name, scenario)
        try:
            if before is None and self.runners[name].engine != "packed":
                self._time(name, scenario, images[:count])  # may compile for a new shape
            seconds, captions = self._time(name, scenario, images[:count])
        except CutlineError as error:
            return error_message(error)
        self.seconds_per_image[name] = seconds / count
        self.log(f"{scenario.name}: {name} {seconds:.2f} s, images: {count}")
        earlier = before.seconds if before else ()
        return Timing(
            count,
            min(count, scenario.batch),
            (*earlier, seconds),
            before.captions if before else captions,
        )

    def _count(self, name: str, scenario: Scenario) -> int:
        """Return the number of images for a runner: all, or one batch if it is slow."""
        slow = self.seconds_per_image.get(name, 0.0) * scenario.images > self.limit
        return min(scenario.batch, scenario.images) if slow else scenario.images

    def _time(
        self, name: str, scenario: Scenario, images: Images
    ) -> tuple[float, tuple[TokenIds, ...]]:
        prepared = self.loaded[name].prepare(images)
        start = time.perf_counter()
        captions = self.loaded[name].caption(prepared, scenario.batch, scenario.search)
        return time.perf_counter() - start, tuple(captions)


def rotate(names: Sequence[str], by: int) -> list[str]:
    """Return `names` rotated by `by` places."""
    by %= max(1, len(names))
    return [*names[by:], *names[:by]]


def same_captions(outcome: Timing, reference: Outcome | None) -> float | None:
    """Return the fraction of equal captions among the images of both."""
    if not isinstance(reference, Timing):
        return None
    pairs = list(zip(outcome.captions, reference.captions, strict=False))
    return sum(caption == expected for caption, expected in pairs) / len(pairs)


def ratio(outcome: Timing, reference: Outcome | None) -> float | None:
    """Return the speed per image relative to `reference`."""
    return reference.per_image / outcome.per_image if isinstance(reference, Timing) else None


def to_json(
    scenario: Scenario, outcomes: Mapping[str, Outcome], minimums: Mapping[str, float | None]
) -> dict[str, object]:
    """Return a scenario's entry in the result."""
    settings = {
        "batch": scenario.batch,
        "images": scenario.images,
        "num_beams": scenario.search.num_beams,
    }
    settings |= {"max_length": scenario.search.length, "min_length": scenario.search.length}
    runners = {name: _entry(each, outcomes, minimums.get(name)) for name, each in outcomes.items()}
    return {
        "name": scenario.name,
        "title": scenario.title,
        "settings": settings,
        "runners": runners,
    }


def _entry(
    outcome: Outcome, outcomes: Mapping[str, Outcome], roofline: float | None
) -> dict[str, object]:
    if isinstance(outcome, str):
        return {"not_available": outcome}
    return {
        "images": outcome.images,
        "seconds": list(outcome.seconds),
        "median": statistics.median(outcome.seconds),
        "min": min(outcome.seconds),
        "spread": (max(outcome.seconds) - min(outcome.seconds))
        / statistics.median(outcome.seconds),
        "images_per_s": 1 / outcome.per_image,
        "ratio_fp32": ratio(outcome, outcomes.get(TRANSFORMERS_FP32)),
        "ratio_bf16": ratio(outcome, outcomes.get(TRANSFORMERS_BF16)),
        "same_captions": same_captions(outcome, outcomes.get(CUTLINE_FP32)),
        "roofline_share": roofline / outcome.per_image if roofline else None,
    }


def error_message(error: Exception) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
