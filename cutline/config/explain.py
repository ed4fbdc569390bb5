"""Settings of heat-maps: the method, and how much of an image is hidden at a time."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.limits import MAX_IMAGE_SIZE
from cutline.config.validation import Settings, reject, require_at_least

ExplainMethod = Literal["attention", "gradient", "occlusion"]
"""how a heat-map is computed; see `cutline.explain`"""


@dataclass(frozen=True)
class ExplainConfig(Settings):
    """Heat-maps: which method computes them."""

    method: ExplainMethod = "gradient"
    """gradient (attention weighted by gradients; the captioner is loaded in fp32), attention (the
    raw cross-attention: faster, with any engine, more often on another object), or occlusion (hides
    one part of the image after the other: slow)"""
    window: int = 0
    """side of the part that occlusion hides, in patches (0: a quarter of the image's side)"""
    stride: int = 0
    """patches from one hidden part to the next (0: half a window)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "window", "stride", maximum=MAX_IMAGE_SIZE)
        for name in ("window", "stride"):
            if getattr(self, name) and self.method != "occlusion":
                reject(self, name, f"is for occlusion, not {self.method}: choose that, or leave it")
        if self.window and self.stride > self.window:
            reject(self, "stride", f"{self.stride} is above window {self.window}: lower it")
