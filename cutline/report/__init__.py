"""Self-contained HTML reports: one file with its images, charts and tables, for any browser.

A `Report` says what a page shows, as data; `write_report` writes the page. All text is escaped, and
the page loads nothing: its content security policy allows only its own style sheet and script.
"""

from cutline.report.about import (
    About,
    describe_sources,
    flatten_settings,
    format_command,
    format_setting,
)
from cutline.report.blocks import Figures, Problem, Problems, Severity, Table, Text
from cutline.report.charts import (
    HistogramChart,
    IntervalChart,
    IntervalRow,
    LineChart,
    Marker,
    ReliabilityDiagram,
    Series,
    find_bin,
)
from cutline.report.gallery import Card, Column, Gallery, Line, Mark, Tone
from cutline.report.numbers import (
    format_fixed,
    format_interval,
    format_number,
    format_percent,
    format_scientific,
    format_signed,
)
from cutline.report.report import (
    Block,
    Report,
    Section,
    SideBySide,
    is_report,
    read_refresh,
    write_report,
)
from cutline.report.thumbnails import make_thumbnail
from cutline.report.word_maps import WordMapCard, WordMaps, WordOverlay, make_word_map_card

__all__ = [
    "About",
    "Block",
    "Card",
    "Column",
    "Figures",
    "Gallery",
    "HistogramChart",
    "IntervalChart",
    "IntervalRow",
    "Line",
    "LineChart",
    "Mark",
    "Marker",
    "Problem",
    "Problems",
    "ReliabilityDiagram",
    "Report",
    "Section",
    "Series",
    "Severity",
    "SideBySide",
    "Table",
    "Text",
    "Tone",
    "WordMapCard",
    "WordMaps",
    "WordOverlay",
    "describe_sources",
    "find_bin",
    "flatten_settings",
    "format_command",
    "format_fixed",
    "format_interval",
    "format_number",
    "format_percent",
    "format_scientific",
    "format_setting",
    "format_signed",
    "is_report",
    "make_thumbnail",
    "make_word_map_card",
    "read_refresh",
    "write_report",
]
