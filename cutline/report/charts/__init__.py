"""Charts of a report: what they show, and where it is drawn; templates turn it into SVG."""

from cutline.report.charts.histogram import HistogramChart, find_bin
from cutline.report.charts.interval_chart import IntervalChart, IntervalRow
from cutline.report.charts.line_chart import LineChart, Marker, Series
from cutline.report.charts.plot import Plot
from cutline.report.charts.reliability import ReliabilityDiagram

__all__ = [
    "HistogramChart",
    "IntervalChart",
    "IntervalRow",
    "LineChart",
    "Marker",
    "Plot",
    "ReliabilityDiagram",
    "Series",
    "find_bin",
]
