"""What is measured, and the measuring: runners take turns, so that whatever else the machine does hits all of them."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peers import (
    OURS,
    RUNNERS,
    THEIRS_BF16,
    THEIRS_FP32,
    Peer,
    Pictures,
    Runner,
    Search,
    TokenIds,
    load_peer,
)

from cutline.errors import CutlineError

CUTLINE = (OURS, "cutline int8")
PACKED = (OURS, "cutline bf16", "cutline int8", THEIRS_FP32)


@dataclass(frozen=True)
class Scenario:
    """One thing to do, by several runners."""

    name: str
    title: str
    batch: int = 8
    pictures: int = 8
    search: Search = field(default_factory=Search)
    runners: tuple[str, ...] = tuple(runner.name for runner in RUNNERS)
    from_files: bool = False
    large: bool = False


SCENARIOS = (
    Scenario("latency-greedy", "one image, greedy", 1, 1, Search(num_beams=1)),
    Scenario("latency-beam-3", "one image, 3 beams", 1, 1),
    Scenario("batch-1", "2 images one by one", 1, 2),
    Scenario("batch-8", "a batch of 8"),
    Scenario("batch-32", "a batch of 32", 32, 32, runners=(*PACKED, THEIRS_BF16)),
    Scenario(
        "tokens-40", "40-token captions, a batch of 8", search=Search(length=40), runners=PACKED
    ),
    Scenario("beams-1", "greedy, a batch of 8", search=Search(num_beams=1), runners=CUTLINE),
    Scenario("beams-5", "5 beams, a batch of 8", search=Search(num_beams=5), runners=CUTLINE),
    Scenario("images-32", "32 images in batches of 8", 8, 32, runners=CUTLINE),
    Scenario("files-32", "32 JPEG files in batches of 8", 8, 32, runners=CUTLINE, from_files=True),
    Scenario(
        "large", "the large model, a batch of 4", 4, 4, runners=(*CUTLINE, THEIRS_FP32), large=True
    ),
)
SHORT = (
    Scenario(
        "latency-beam-3",
        "one image, 3 beams",
        1,
        1,
        runners=(OURS, "cutline int8", THEIRS_FP32, THEIRS_BF16),
    ),
    Scenario("batch-8", "a batch of 8", runners=(OURS, "cutline int8", THEIRS_FP32)),
)
PROCESSES = ("starts", "memory")
"""scenarios that need processes of their own"""


@dataclass(frozen=True)
class Timing:
    """Runs of one runner in one scenario."""

    pictures: int
    batch: int
    seconds: tuple[float, ...]
    captions: tuple[TokenIds, ...] = field(repr=False)

    @property
    def per_picture(self) -> float:
        """Seconds, by the median run."""
        return statistics.median(self.seconds) / self.pictures


Outcome = Timing | str
"""runs, or the sentence that says why there are none"""
Say = Callable[[str], None]


class Field:
    """Runners with the same weights, loaded and warm."""

    def __init__(
        self, runners: Sequence[Runner], folder: Path, one_picture: Pictures, limit: float, say: Say
    ) -> None:
        """`limit`: a runner whose run takes more seconds than this runs only once, on as few images as the batch allows."""
        self.limit, self.say = limit, say
        self.runners = {runner.name: runner for runner in runners}
        self.missing: dict[str, str] = {}
        self.pace: dict[str, float] = {}  # seconds per image, when last measured
        self.peers = {
            name: peer
            for name, runner in self.runners.items()
            if (peer := self._load(runner, folder, one_picture))
        }

    def _load(self, runner: Runner, folder: Path, one_picture: Pictures) -> Peer | None:
        self.say(f"loading {runner.name}")
        try:
            peer = load_peer(runner, folder)
            peer.caption(peer.prepare(one_picture), 1, Search(num_beams=1, length=5))
        except (CutlineError, ImportError) as error:
            self.missing[runner.name] = sentence(error)
            self.say(f"{runner.name} is not available: {sentence(error)}")
            return None
        return peer

    def run(self, scenario: Scenario, pictures: Pictures, repeats: int) -> dict[str, Outcome]:
        """Time every runner of `scenario`, by turns and in another order each time."""
        outcomes: dict[str, Outcome] = {
            name: why for name, why in self.missing.items() if name in scenario.runners
        }
        names = [name for name in self.peers if name in scenario.runners]
        for repeat in range(repeats):
            for name in rotated(names, repeat):
                before = outcomes.get(name)
                if before is None or (
                    isinstance(before, Timing)
                    and sum(before.seconds) <= self.limit * len(before.seconds)
                ):
                    outcomes[name] = self._once(name, scenario, pictures, before)
        return {name: outcomes[name] for name in self.runners if name in outcomes}

    def _once(
        self, name: str, scenario: Scenario, pictures: Pictures, before: Timing | None
    ) -> Outcome:
        count = before.pictures if before else self._count(name, scenario)
        try:
            if before is None and self.runners[name].engine != "packed":
                self._time(name, scenario, pictures[:count])  # it may compile for every new shape
            seconds, captions = self._time(name, scenario, pictures[:count])
        except CutlineError as error:
            return sentence(error)
        self.pace[name] = seconds / count
        self.say(f"{scenario.name}: {name} {seconds:.2f} s, images: {count}")
        earlier = before.seconds if before else ()
        return Timing(
            count,
            min(count, scenario.batch),
            (*earlier, seconds),
            before.captions if before else captions,
        )

    def _count(self, name: str, scenario: Scenario) -> int:
        """How many images the runner is given: all, or one batch if it is known to be slow."""
        slow = self.pace.get(name, 0.0) * scenario.pictures > self.limit
        return min(scenario.batch, scenario.pictures) if slow else scenario.pictures

    def _time(
        self, name: str, scenario: Scenario, pictures: Pictures
    ) -> tuple[float, tuple[TokenIds, ...]]:
        prepared = self.peers[name].prepare(pictures)
        start = time.perf_counter()
        captions = self.peers[name].caption(prepared, scenario.batch, scenario.search)
        return time.perf_counter() - start, tuple(captions)


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names, another one first each time."""
    by %= max(1, len(names))
    return [*names[by:], *names[:by]]


def same_captions(outcome: Timing, reference: Outcome | None) -> float | None:
    """Share of equal captions among the images that both were given."""
    if not isinstance(reference, Timing):
        return None
    pairs = list(zip(outcome.captions, reference.captions, strict=False))
    return sum(ours == theirs for ours, theirs in pairs) / len(pairs)


def ratio(outcome: Timing, reference: Outcome | None) -> float | None:
    """How many times quicker than the reference, per image."""
    return reference.per_picture / outcome.per_picture if isinstance(reference, Timing) else None


def to_json(
    scenario: Scenario, outcomes: Mapping[str, Outcome], floors: Mapping[str, float | None]
) -> dict[str, object]:
    """A scenario's entry in the result."""
    settings = {
        "batch": scenario.batch,
        "images": scenario.pictures,
        "num_beams": scenario.search.num_beams,
    }
    settings |= {"max_length": scenario.search.length, "min_length": scenario.search.length}
    runners = {name: _entry(each, outcomes, floors.get(name)) for name, each in outcomes.items()}
    return {
        "name": scenario.name,
        "title": scenario.title,
        "settings": settings,
        "runners": runners,
    }


def _entry(
    outcome: Outcome, outcomes: Mapping[str, Outcome], floor: float | None
) -> dict[str, object]:
    if isinstance(outcome, str):
        return {"not_available": outcome}
    return {
        "images": outcome.pictures,
        "seconds": list(outcome.seconds),
        "median": statistics.median(outcome.seconds),
        "min": min(outcome.seconds),
        "spread": (max(outcome.seconds) - min(outcome.seconds))
        / statistics.median(outcome.seconds),
        "pictures_per_s": 1 / outcome.per_picture,
        "ratio_fp32": ratio(outcome, outcomes.get(THEIRS_FP32)),
        "ratio_bf16": ratio(outcome, outcomes.get(THEIRS_BF16)),
        "same_captions": same_captions(outcome, outcomes.get(OURS)),
        "floor_share": floor / outcome.per_picture if floor else None,
    }


def sentence(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
