"""The report of `--lr-range`: the curve, and the learning rates that it suggests."""

import math
from pathlib import Path

import numpy as np

from cutline.config import Recipe, to_dict
from cutline.messages import count_noun
from cutline.report import (
    About,
    Figures,
    LineChart,
    Marker,
    Problem,
    Problems,
    Report,
    Section,
    Series,
    Table,
    Text,
    flatten_settings,
    format_scientific,
    write_report,
)
from cutline.training.diagnostics.lr_finder import LrRangeResult, divergence_limit
from cutline.training.run.facts import describe_init, list_changed_settings
from cutline.web import hide_credentials


def lr_report_path(recipe: Recipe) -> Path:
    """Return the path of the test's report, which is next to the run directory."""
    output = Path(recipe.output)
    return output.with_name(f"{output.name}-lr-range.html")


def describe_lr_test(recipe: Recipe, result: LrRangeResult) -> About:
    """Return what the report says of a test with this recipe."""
    low, high = result.lrs[0], result.lrs[-1]
    settings = flatten_settings(to_dict(recipe))
    return About(
        data=recipe.data.train,
        model=describe_init(settings),
        others={"Learning rates": f"{low:.3g} to {high:.3g}", "Steps": f"{len(result.lrs)}"},
        settings=settings,
        changed=list_changed_settings(settings),
    )


def write_lr_report(
    path: Path,
    result: LrRangeResult,
    about: About | None = None,
    lr: float = 0,
) -> None:
    """Write the curve, the suggestion and all losses as an HTML page.

    Args:
        path: The HTML file.
        result: The result of `run_lr_range_test`.
        about: What was trained, and how.
        lr: Learning rate of the recipe, which is shown on the curve (0: none).
    """
    write_report(path, make_lr_report(result, about or About(), lr))


def make_lr_report(result: LrRangeResult, about: About, lr: float = 0) -> Report:
    """Return the page."""
    data = hide_credentials(about.data)
    problems = _find_problems(result)
    sections = [
        *([Section("Findings", [Problems(problems)])] if problems else []),
        Section("Suggestion", [*_suggest(result), *_draw_losses(result, lr)]),
        Section("Steps", [_list_steps(result)]),
    ]
    intro = "The training loss while the learning rate rises with every step."
    return Report(f"Learning rates{f' for {data}' if data else ''}", about, sections, intro)


def _find_problems(result: LrRangeResult) -> list[Problem]:
    problems = []
    if result.steepest is None:
        problems.append(
            Problem(
                "warning",
                "The loss does not fall",
                "Repeat the test with lower learning rates. If the loss falls at none of them, "
                "check data and settings with `--show-batch` and `--overfit 1`.",
            )
        )
    if rows := [("", message) for message in dict.fromkeys(result.skipped)]:
        title = f"{count_noun(len(rows), 'image')} could not be read"
        advice = "The other images of their steps were used. `cutline check` lists them all."
        problems.append(Problem("warning", title, advice, rows))
    return problems


def _suggest(result: LrRangeResult) -> list[Figures | Text]:
    rates = {
        "steepest fall of the loss": result.steepest,
        "a tenth of the learning rate with the lowest loss": result.tenth_of_minimum,
    }
    figures = [(f"{rate:.2g}", label) for label, rate in rates.items() if rate]
    text = f"{result.suggestion[0].upper()}{result.suggestion[1:]}."
    if not figures:
        return [Text(text)]
    advice = "A good first choice of `optim.lr` is between the two learning rates"
    if result.muon_ratio:
        advice += f", with an `optim.muon_lr` that is {result.muon_ratio:.3g} times as high"
    return [Figures(figures), Text(f"{text} {advice}.")]


def _draw_losses(result: LrRangeResult, lr: float) -> list[LineChart]:
    """Return the losses; those that diverge are clipped, or they would flatten the curve."""
    markers = _list_markers(result, lr)
    curves = {
        "Smoothed training loss": result.smoothed,
        "Training loss of each step": result.losses,
    }
    highest = divergence_limit(result.smoothed)
    return [
        LineChart(
            title,
            [Series("loss", [(x, min(y, highest)) for x, y in zip(result.lrs, ys, strict=True)])],
            "learning rate",
            f"per {result.unit}",
            () if ys is result.losses else markers,
            is_log=True,
        )
        for title, ys in curves.items()
    ]


def _list_markers(result: LrRangeResult, recipe_lr: float) -> list[Marker]:
    """Return the suggested learning rates and that of the recipe on the smoothed curve."""
    low, high = result.lrs[0], result.lrs[-1]
    rates = {
        "steepest fall": result.steepest,
        "tenth of the lowest": result.tenth_of_minimum,
        "recipe": recipe_lr,
    }
    shown = {name: lr for name, lr in rates.items() if lr and low <= lr <= high}
    logs = np.log(result.lrs)
    return [
        Marker(lr, float(np.interp(math.log(lr), logs, result.smoothed)), f"{name} {lr:.2g}")
        for name, lr in shown.items()
    ]


def _list_steps(result: LrRangeResult) -> Table:
    rows = [
        [step, format_scientific(lr), loss, mean]
        for step, (lr, loss, mean) in enumerate(
            zip(result.lrs, result.losses, result.smoothed, strict=True), 1
        )
    ]
    header = ["step", "learning rate", "loss", "smoothed"]
    return Table(rows, header, caption=f"Loss per {result.unit}")
