"""`Job`: what a run does with the samples of a collection, and what comes of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from cutline.batching import Caption
from cutline.config import InferenceConfig, OutputConfig
from cutline.data import Sample
from cutline.errors import CutlineError


@dataclass(frozen=True, slots=True)
class TextSelection:
    """Which texts of an image are kept, and which are dropped: each with its columns."""

    kept: tuple[Mapping[str, Any], ...]
    """a `caption` each, and other columns"""
    dropped: tuple[Mapping[str, Any], ...] = ()
    """the same columns"""
    index: int = 0
    """number of the image in the input"""


Result: TypeAlias = Caption | TextSelection | CutlineError
"""what came of a sample"""


class Job(Protocol):
    """What is done with samples: the same in every process, which it is sent to."""

    @property
    def inference(self) -> InferenceConfig:
        """Return on which device it runs, and in which batches."""

    def load(self, device: str = "") -> Any:
        """Load the models, on another device than that of the settings if one is given."""

    def stream(
        self, models: Any, samples: Iterator[Sample], batch_size: int, ordered: bool = False
    ) -> Iterator[Result]:
        """Return the results of samples as they come.

        No result waits for a later sample, which may come only after it.

        Args:
            models: What `load` returned.
            samples: The samples, which a thread of its own reads.
            batch_size: Number of images that are encoded together.
            ordered: Whether to return results in the order of the samples, else as they are done.

        Returns:
            An iterator over the results; the attribute `index` of each is the number of its sample.

        Raises:
            ConfigError: A model cannot do what a setting asks for.
        """

    def describe(self, outputs: OutputConfig) -> dict[str, Any]:
        """Return what results depend on, for the manifest, in types of JSON."""
