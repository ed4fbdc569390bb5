"""Running a model as fast as the processor allows; the numbers stay the same."""

from cutline.engine.prepare import prepare
from cutline.engine.recorded import RecordedStep

__all__ = ["RecordedStep", "prepare"]
