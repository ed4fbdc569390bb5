"""Tables of the documentation have the numbers of the benchmarks' outputs."""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def read_page(name: str) -> str:
    """Return the text of a page."""
    return (DOCS / name).read_text(encoding="utf-8")


def read_result(name: str) -> dict[str, Any]:
    """Return the output of a benchmark."""
    result: dict[str, Any] = json.loads((DOCS / "benchmarks" / name).read_text(encoding="utf-8"))
    return result


def format_estimate(values: Mapping[str, Any], name: str) -> str:
    """Return a number with its interval."""
    numbers = (values[name], *values["interval"])
    mean, low, high = (f"{each:.3f}".replace("-", "− ") for each in numbers)
    return f"{mean} [{low}, {high}]"


def test_how_well_confidence_finds_wrong_words() -> None:
    page, sets = read_page("confidence.md"), read_result("confidence.json")["sets"]
    names = {  # of a score, by words and by captions
        "confidence": ("confidence", "confidence"),
        "own probability of the word": ("own probability", ""),
        "caption, sum": ("log-likelihood of the caption", "log-likelihood"),
        "caption, per token": ("log-likelihood per token", "log-likelihood per token"),
        "match probability": ("match probability", "match probability"),
        "short": ("short word", "short caption"),
        "frequent": ("frequent word", "frequent words"),
    }
    for row, (of_words, of_captions) in names.items():
        cells = [row]
        for name in ("scenes", "aerial"):
            cells.append(format_estimate(sets[name]["auroc_words"][of_words], "auroc"))
            if of_captions:
                cells.append(format_estimate(sets[name]["auroc_captions"][of_captions], "auroc"))
            else:
                cells.append("")
        cider = sets["aerial"]["cider"]
        cells.append(format_estimate(cider[of_captions], "spearman") if of_captions else "")
        assert f"| {' | '.join(cells)} |".replace("  ", " ") in page


def test_what_a_calibration_is_worth() -> None:
    page, sets = read_page("confidence.md"), read_result("confidence.json")["sets"]
    for name, row in (("error_before", "before"), ("error_after", "after")):
        values = [
            f"{sets[data]['calibration'][kind][name]:.{digits}f}"
            for data, digits in (("scenes", 4), ("aerial", 3))
            for kind in ("words", "captions")
        ]
        assert f"| calibration error {row} | {' | '.join(values)} |" in page


def test_where_heat_maps_point() -> None:
    page, judged = read_page("explaining.md"), read_result("heatmaps.json")["true_captions"]
    assert f"| {judged['words']:,} words |" in page

    def share(value: float) -> str:
        return f"{100 * value:.1f} %"

    def estimate(values: Mapping[str, Any]) -> str:
        low, high = (f"{100 * end:.1f}" for end in values["interval"])
        return f"{share(values['mean'])} ({low}–{high})"

    for method in ("gradient", "attention", "occlusion"):
        values = judged["results"][method]
        cells = [estimate(values["pointing"]), share(values["color"]), share(values["shape"])]
        cells += [estimate(values["near"]), share(values["other_object"]["mean"])]
        cells.append(share(values["mass"]["mean"]))
        assert f"| `{method}` | {' | '.join(cells)} |" in page
        assert share(judged["results"][f"{method}, bilinear"]["pointing"]["mean"]) in page
    for name in ("attention", "occlusion", "center pixel"):
        better = judged["gradient_is_better_by"][name]
        assert (better["interval"][0] > 0) == (name != "attention")  # as the page says


def test_how_fast_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what the page says: nearly as fast as without a server, and captions are identical."""
    monkeypatch.syspath_prepend(str(DOCS.parent / "benchmarks"))
    from serve_tables import FORMATS

    page, result = read_page("speed.md"), read_result("serve.json")
    assert list(result) == list(FORMATS)
    for name, format_part in FORMATS.items():
        assert format_part(result[name]) in page
    subjects, overload = result["throughput"]["subjects"], result["overload"]
    assert all(values["same_captions"] == 1 for values in subjects.values())
    assert result["throughput"]["ratios"]["serve / stream"] > 0.9
    assert set(overload["statuses"]) == {"200", "429"}
    assert overload["accepted"]["max"] < overload["deadline"]


def test_what_the_recipe_of_aerial_images_reaches() -> None:
    page, result = read_page("fine-tuning.md"), read_result("aerial.json")
    rows = {
        "**the recipe**": "recipe",
        "the same captioners and beams, without consensus": "recipe, without consensus",
        "the same captioners, beam search with 3 beams": "recipe, default search",
        "the former recipe": "other recipe",
    }
    for row, name in rows.items():
        values = result["captioners"][name]
        cider, (low, high) = f"{values['cider']:.2f}", values["interval"]
        cells = [row, f"**{cider}**" if "**" in row else cider, f"{low:.2f} to {high:.2f}"]
        cells.append(", ".join(f"{each:.2f}" for each in values["cider_by_seed"]))
        assert f"| {' | '.join(cells)} |" in page
    text = " ".join(page.split())
    for gain in result["differences"].values():
        low, high = gain["interval"]
        assert f"{gain['cider']:.2f} [{low:.2f}, {high:.2f}]" in text


def test_how_fast_onnx_graphs_are() -> None:
    page, result = read_page("onnx.md"), read_result("onnx.json")
    names = {
        "packed, fp32": "cutline fp32",
        "eager, fp32": "cutline fp32 eager",
        "openvino, fp32": "cutline fp32 openvino",
        "**onnx**, fp32": "cutline fp32 onnx",
        "packed, int8": "cutline int8",
        "**onnx**, int8": "cutline int8 onnx",
        "transformers, fp32": "transformers fp32",
    }
    for row, name in names.items():
        timings = [scenario["runners"][name] for scenario in result["scenarios"]]
        cells = [
            f"{1 / each['images_per_s']:.2f} s ({each['ratio_fp32']:.1f} x)" for each in timings
        ]
        assert f"| {row} | {' | '.join(cells)} |" in page


def test_what_cider_optimization_gains() -> None:
    page, result = read_page("fine-tuning.md"), read_result("scst.json")
    beams, consensus = (result["searches"][name] for name in ("beam search", "consensus"))
    rows = {
        "the captioner of `recipes/aerial.yaml`": "start",
        "**SCST**, 4.5 minutes more": "scst",
        "control: its own recipe, 4.5 minutes more": "control",
    }
    for row, name in rows.items():
        values = beams[name]
        bold = "**" if "**" in row else ""
        cells = [row, *(f"{bold}{each[name]['cider']:.2f}{bold}" for each in (beams, consensus))]
        cells += [f"{values['distinct2']:.3f}", f"{values['mean_length']:.1f}"]
        cells.append(f"{100 * values['fragments']:.0f} %")
        assert f"| {' | '.join(cells)} |" in page
    text = " ".join(page.split())
    for search in (beams, consensus):
        for gain in search["differences"].values():
            value, low, high = map(format_signed, (gain["cider"], *gain["interval"]))
            assert f"{value} [{low}, {high}]" in text
    for costs in result["trainings"].values():
        assert statistics.mean(costs["minutes"]) == pytest.approx(4.5, abs=0.1)


def format_signed(value: float) -> str:
    """Format a difference as pages do."""
    return f"{value:+.2f}".replace("-", "− ").replace("+", "+ ")


def test_what_merged_tokens_save_and_cost() -> None:
    page, result = read_page("speed.md"), read_result("merge_tokens.json")
    speed, quality = result["speed"], result["quality"]
    for number in (0, 23, 45):
        names = [f"{name}, {number} merged" for name in ("fp32", "bf16", "int8")]
        ratios = [speed["ratios"].get(name, 1.0) for name in names]
        over = speed["over_transformers"][f"int8, {number} merged"]
        assert f"| {number} | {' | '.join(f'{x:.2f} x' for x in ratios)} | {over:.1f} x |" in page
    plain = quality["settings"][0]
    for values in quality["settings"]:
        number, size = values["merge_tokens"], values["image_size"]
        value, low, high = map(format_signed, (values["difference"], *values["interval"]))
        cells = [
            f"{number} merged" if size == plain["image_size"] else f"{size} pixels",
            str(values["tokens"]),
            f"{values['images_per_s'] / plain['images_per_s']:.2f} x",
            f"{values['cider']:.2f}",
            f"{value} [{low}, {high}]" if values is not plain else "",
            f"{100 * values['unchanged']:.0f} %",
        ]
        assert f"| {' | '.join(cells)} |" in page
    assert f"With R = {quality['recommended']}, the largest number" in page
