"""Settings of HTML reports."""

from dataclasses import dataclass

from cutline.config.validation import Settings, require_at_least

REPORT_IMAGES = 1000
"""images that a report shows, unless it is told otherwise"""
MAX_REPORT_IMAGES = 10_000
"""images that a report can show; the page then has about 20 MB"""


@dataclass(frozen=True)
class ReportConfig(Settings):
    """An HTML report, and how much it shows."""

    report: str = ""
    """HTML report, one file that can be searched, filtered and sorted"""
    report_images: int = REPORT_IMAGES
    """images that the report shows, at most; fewer images are larger"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "report_images", maximum=MAX_REPORT_IMAGES)
