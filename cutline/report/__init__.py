"""Self-contained HTML reports: one file with its images, charts and tables, for any browser.

The `render_*` functions return HTML in which all text is escaped, and `write_report` puts them on a
page. The page loads nothing and runs no scripts: its content security policy forbids both.
"""

from cutline.report.charts import render_curve, render_histogram, render_reliability
from cutline.report.elements import (
    THUMBNAIL_SIZE,
    Card,
    format_interval,
    render_gallery,
    render_key_figures,
    render_paragraph,
    render_table,
)
from cutline.report.page import write_report
from cutline.report.word_maps import (
    WordMapCard,
    WordOverlay,
    render_word_map_card,
    render_word_maps,
)

__all__ = [
    "THUMBNAIL_SIZE",
    "Card",
    "WordMapCard",
    "WordOverlay",
    "format_interval",
    "render_curve",
    "render_gallery",
    "render_histogram",
    "render_key_figures",
    "render_paragraph",
    "render_reliability",
    "render_table",
    "render_word_map_card",
    "render_word_maps",
    "write_report",
]
