"""Charts of one run, or of several runs, each of which is a line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutline.report import LineChart, Marker, Series, format_number
from cutline.training.run.history import RunHistory
from cutline.training.run.metric_names import (
    CHART_METRICS,
    EVALUATION_NAMES,
    REWARD_NAMES,
    SAMPLE_NAMES,
    TERM_NAMES,
)

METRIC_SPAN = 0.1
"""least range of the axis of a metric: smaller differences are noise on most validation data"""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class RunCharts:
    """Charts of runs."""

    runs: Mapping[str, RunHistory]
    """by the name of each in legends"""

    @property
    def uses_epochs(self) -> bool:
        """Return whether the x axis has epochs, because those of the runs have different steps."""
        lengths = {run.steps_per_epoch for run in self.runs.values()}
        return len(lengths) > 1 and None not in lengths

    @property
    def unit(self) -> str:
        """Return what the losses are averaged over."""
        names = {name for run in self.runs.values() for line in run.lines for name in line}
        units = [unit for unit in ("pair", "caption") if f"{unit}s_per_second" in names]
        return f"per {units[0] if units else 'token'}"

    @property
    def _val_unit(self) -> str:
        return "per token" if self.unit == "per caption" else self.unit

    def make(self) -> tuple[list[LineChart], list[LineChart]]:
        """Return charts of results and of details; those that are too few to stand alone join."""
        results = self._make_results()
        titles = {chart.title for chart in results}
        details = [chart for chart in self._make_details() if chart.title not in titles]
        return (results, details) if len(results) > 1 else ([*results, *details], [])

    def _make_results(self) -> list[LineChart]:
        """Return charts of the losses and the metrics."""
        charts = [*self._make_losses(), *map(self._make_metric, self._find_metrics())]
        return _drop_empty([*charts, self._make_rewards()])

    def _make_details(self) -> list[LineChart]:
        """Return charts of terms of the loss, learning rate, gradients, memory and speed."""
        charts = [
            self._make_line(name, title, "per token" if name == "lm" else self.unit)
            for name, title in TERM_NAMES.items()
        ]
        charts += [self._make_line(name, title) for name, title in SAMPLE_NAMES.items()]
        charts += [
            self._make_line("lr", "Learning rate", is_noisy=False, y_start=0),
            self._make_line("grad_norm", "Gradient norm", "before clipping", y_start=0),
            self._make_line("memory_gb", "Memory, peak", "GB", is_noisy=False, y_start=0),
            self._make_line("pictures_per_second", "Speed", "images per second", y_start=0),
        ]
        return _drop_empty(charts)

    def _make_losses(self) -> list[LineChart]:
        if len(self.runs) > 1 or self.unit == "per caption":  # validation is per token
            return [
                self._make_line("loss", "Training loss", self.unit),
                self._make_metric("val_loss"),
            ]
        [run] = self.runs.values()
        name, title = "loss", "Loss"
        if run.settings["caption.bag_of_words_weight"]:  # which validation leaves out
            name, title = "lm", TERM_NAMES["lm"]
        series = [Series("training", run.collect_points(name), is_noisy=True)]
        validation = run.collect_metric("val_loss")
        if validation:
            series.append(Series("validation", validation, has_dots=True))
        markers = [_mark_lowest(run, validation)] if len(validation) > 1 else []
        return [LineChart(title, series, "step", self.unit, markers)]

    def _make_rewards(self) -> LineChart:
        """Return a chart of the rewards of samples, beside those of greedy search if there is one.

        The mean of a leave-one-out baseline is that of the rewards.
        """
        baselines = [run.settings["scst.baseline"] for run in self.runs.values()]
        names = REWARD_NAMES if baselines == ["greedy"] else {"reward": ""}
        series = [
            Series(label or title, self._place(run, run.collect_points(name)), is_noisy=True)
            for label, run in self.runs.items()
            for name, title in names.items()
        ]
        return LineChart("Reward", series, self._x_label, "per caption")

    def _find_metrics(self) -> list[str]:
        """Return the metrics that a chart shows better than a number does."""
        return [
            name
            for name in CHART_METRICS
            if any(len(run.collect_metric(name)) > 1 for run in self.runs.values())
        ]

    def _make_metric(self, name: str) -> LineChart:
        title = EVALUATION_NAMES[name]
        series = [
            Series(label, self._place(run, run.collect_metric(name)), has_dots=True)
            for label, run in self.runs.items()
        ]
        is_loss = name == "val_loss"
        return LineChart(
            f"{title[0].upper()}{title[1:]}",
            series,
            self._x_label,
            self._val_unit if is_loss else "best checkpoint marked",
            [] if is_loss else self._mark_best(name),
            min_span=0 if is_loss else METRIC_SPAN,
        )

    def _mark_best(self, name: str) -> list[Marker]:
        """Return markers of the best checkpoints; with a label if there is only one."""
        markers = []
        for run in self.runs.values():
            if run.best and name in run.best.metrics:
                value = run.best.metrics[name]
                [(x, y)] = self._place(run, [(run.best.step, value)])
                label = f"{run.best.moment}, best: {format_number(value)}"
                markers.append(Marker(x, y, label if len(self.runs) == 1 else ""))
        return markers

    def _make_line(
        self,
        name: str,
        title: str,
        y_label: str = "",
        is_noisy: bool = True,
        y_start: float | None = None,
    ) -> LineChart:
        series = [
            Series(label, self._place(run, run.collect_points(name)), is_noisy)
            for label, run in self.runs.items()
        ]
        return LineChart(title, series, self._x_label, y_label, y_start=y_start)

    @property
    def _x_label(self) -> str:
        return "epoch" if self.uses_epochs else "step"

    def _place(self, run: RunHistory, points: Points) -> Points:
        """Return points (step, value) as they are on the x axis."""
        steps = (run.steps_per_epoch or 1) if self.uses_epochs else 1
        return [(step / steps, value) for step, value in points]


def _drop_empty(charts: Sequence[LineChart]) -> list[LineChart]:
    return [chart for chart in charts if any(series.points for series in chart.series)]


def _mark_lowest(run: RunHistory, losses: Points) -> Marker:
    step, loss = min(losses, key=lambda point: point[1])
    moment = next(each.moment for each in run.evaluations if each.step == step)
    return Marker(step, loss, f"{moment}, lowest: {format_number(loss)}")
