"""`Report`: what a page shows, as data; `write_report` turns it into one HTML file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cutline.files import write_text
from cutline.progress import Progress, no_progress
from cutline.report.about import About
from cutline.report.blocks import Figures, Problems, Table, Text
from cutline.report.charts import HistogramChart, IntervalChart, LineChart, ReliabilityDiagram
from cutline.report.gallery import Gallery
from cutline.report.page import render_page
from cutline.report.word_maps import WordMaps

Chart = HistogramChart | IntervalChart | LineChart | ReliabilityDiagram
_REFRESH = re.compile(rb'<body data-refresh="([0-9.]+)"')


@dataclass(frozen=True)
class SideBySide:
    """Tables and charts beside each other, or below each other where the page is narrow."""

    blocks: Sequence[Chart | Table]


Block = Chart | Figures | Gallery | Problems | SideBySide | Table | Text | WordMaps


@dataclass(frozen=True)
class Section:
    """A part of a report with its heading; charts that follow each other stand side by side."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A page."""

    title: str
    about: About
    sections: Sequence[Section]
    intro: str = ""
    """a sentence below the title"""
    refresh: float = 0
    """seconds after which the page loads itself again (0: never)"""


def write_report(path: str | Path, report: Report, progress: Progress = no_progress) -> None:
    """Write a report to one HTML file, atomically.

    Images that cannot be read are shown as such.

    Args:
        path: The HTML file.
        report: The report.
        progress: Shows how many images are done.
    """
    write_text(path, render_page(report, Path(path), progress))


def is_report(path: Path) -> bool:
    """Return whether an existing file is a report."""
    return b"<p>Made by cutline" in path.read_bytes()


def read_refresh(path: Path) -> float:
    """Return the seconds after which an existing page loads itself again; 0 if it does not."""
    match = _REFRESH.search(path.read_bytes()) if path.exists() else None
    return float(match[1]) if match else 0.0
