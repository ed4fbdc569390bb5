"""The benchmark scripts run, and their results are consistent. No test checks a time."""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from forked import run_script
from PIL import Image
from random_captioner import save_captioner

from cutline.data import Sample
from cutline.demo.scenes import make_scenes, write_scenes

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "caption.py"
RUNNERS = ["cutline fp32", "cutline int8", "transformers fp32"]
SCENARIOS = ["latency-greedy", "batch-8", "small"]


def run(*arguments: str, folder: Path) -> str:
    files = ["--output", str(folder / "result.json"), "--chart", str(folder / "chart.svg")]
    command = [sys.executable, str(SCRIPT), "--size", "tiny", *arguments, *files]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return values


def measured(result: dict[str, Any]) -> list[dict[str, dict[str, Any]]]:
    """Return the runners of each scenario that were available."""
    return [
        {name: entry for name, entry in each["runners"].items() if "not_available" not in entry}
        for each in result["scenarios"]
    ]


@pytest.mark.slow
def test_results_of_a_tiny_run_are_consistent(tmp_path: Path) -> None:
    """A single run for all assertions, because it takes seconds."""
    pytest.importorskip("transformers")
    run(
        "--short",
        "--runners",
        ",".join(RUNNERS),
        "--scenarios",
        ",".join(SCENARIOS),
        folder=tmp_path,
    )
    result = read(tmp_path)
    check_entries(result)
    check_ratios(result)
    assert [runners["transformers fp32"]["same_captions"] for runners in measured(result)] == [
        1.0,
        1.0,
        1.0,
    ]
    check_chart(tmp_path / "chart.svg", result)


def check_entries(result: dict[str, Any]) -> None:
    assert [scenario["name"] for scenario in result["scenarios"]] == SCENARIOS
    assert all(list(scenario["runners"]) == RUNNERS for scenario in result["scenarios"])
    assert all(
        {"cutline fp32", "transformers fp32"} <= set(runners) for runners in measured(result)
    )
    assert result["machine"]["cpu"]
    assert all(value > 0 for value in result["roofline"].values())


def check_ratios(result: dict[str, Any]) -> None:
    for runners in measured(result):
        baseline = (
            statistics.median(runners["transformers fp32"]["seconds"])
            / runners["transformers fp32"]["images"]
        )
        for entry in runners.values():
            seconds = statistics.median(entry["seconds"]) / entry["images"]
            assert entry["images_per_s"] == pytest.approx(1 / seconds)
            assert entry["ratio_fp32"] == pytest.approx(baseline / seconds)
            assert entry["ratio_bf16"] is None


def check_chart(file: Path, result: dict[str, Any]) -> None:
    chart = ElementTree.parse(file)  # raises where it is no XML
    bars = [
        rect
        for rect in chart.iter("{http://www.w3.org/2000/svg}rect")
        if rect.get("class") in ("cutline", "peer")
    ]
    assert len(bars) == sum(map(len, measured(result)))
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert widths.count(max(widths)) >= len(SCENARIOS)  # the fastest runner of each, or a tie
    texts = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert all(scenario["title"] in texts for scenario in result["scenarios"])


@pytest.mark.slow
def test_scenarios_in_separate_processes(tmp_path: Path) -> None:
    shown = run("--runners", "cutline-fp32", "--scenarios", "starts,memory", folder=tmp_path)
    result = read(tmp_path)
    starts, memory = result["starts"]["cutline fp32"], result["memory"]["cutline fp32"]
    assert starts["cold"] > 0
    assert starts["warm"] > 0
    assert 0 < memory["loaded_mib"] <= memory["peak_mib"]
    assert memory["loading_peak_mib"] <= memory["peak_mib"]
    assert "First caption of a process" in shown


@pytest.mark.slow
def test_onnx_graphs_are_timed_beside_other_engines(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    names = ["cutline fp32", "cutline fp32 onnx"]
    run("--runners", ",".join(names), "--scenarios", "batch-8", "--repeats", "1", folder=tmp_path)
    (runners,) = measured(read(tmp_path))
    assert list(runners) == names
    assert runners["cutline fp32 onnx"]["same_captions"] == 1


@pytest.mark.parametrize("onnx", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_fp32_leaves_every_caption_unchanged(tmp_path: Path, onnx: bool) -> None:
    """Accuracy of each precision, with a random captioner on drawn scenes."""
    if onnx:
        pytest.importorskip("onnxscript")
    data = write_scenes(tmp_path / "scenes", make_scenes(4, seed=1), size=32)
    save_captioner(tmp_path / "model")
    flags = ["--onnx"] if onnx else []
    script = SCRIPT.with_name("accuracy.py")
    shown = run_script(script, str(tmp_path / "model"), str(data), *flags)
    rows = {
        cells[1].strip(): cells for line in shown.splitlines() if len(cells := line.split("│")) > 3
    }
    graphs = ["onnx fp32", "onnx int8"] if onnx else []
    assert list(rows) == ["fp32", "bf16", "int8", *graphs]
    for name in ("fp32", *graphs[:1]):
        assert rows[name][2].strip() == "100.0% of 4"
        assert rows[name][4].strip() == "+0.000"


def test_an_unknown_runner_lists_the_others() -> None:
    with pytest.raises(RuntimeError, match=r"^no runner is called 'nobody'; there are "):
        run_script(SCRIPT, "--runners", "nobody")


@pytest.mark.slow
def test_both_libraries_have_equal_losses(tmp_path: Path) -> None:
    """Two steps on the same images, captions and weights give equal losses in every variant."""
    pytest.importorskip("transformers")
    names = "transformers,cutline,cutline-no-checkpointing,cutline-vision-checkpointed"
    options = ["--images", "2", "--captions", "2", "--steps", "1", "--workers", names]
    script = SCRIPT.with_name("train.py")
    command = [
        sys.executable,
        str(script),
        "--size",
        "tiny",
        *options,
        "--output",
        str(tmp_path / "train.json"),
    ]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    workers = json.loads((tmp_path / "train.json").read_text())["workers"]
    assert len(workers) == 4
    for worker in workers.values():
        assert worker["losses"] == pytest.approx(workers["transformers"]["losses"], rel=1e-5)
        assert worker["seconds"] > 0
        assert worker["peak_mib"] > 100
    assert workers["cutline"]["losses"][0] != workers["cutline"]["losses"][1]
    assert "2 images x 2 captions" in table


def test_requests_in_a_scheduler_are_measured() -> None:
    flags = ["--size", "tiny", "--repeats", "2", "--num-images", "8", "--batch-size", "4"]
    output = run_script(SCRIPT.with_name("scheduler.py"), *flags, "--length", "9")
    result = json.loads(output.splitlines()[-1])
    assert list(result["seconds"]) == ["3 beams", "5 beams", "greedy", "sampling", "mix"]
    medians = {name: statistics.median(seconds) for name, seconds in result["seconds"].items()}
    mix = medians.pop("mix")
    assert result["mix_ratio"] == pytest.approx(mix / statistics.mean(medians.values()))
    assert [len(seconds) for seconds in result["latency"].values()] == [2, 2]


SERVE = ["--size", "tiny", "--num-images", "8", "--batch-size", "4", "--seconds", "0.3"]


@pytest.mark.slow
def test_the_server_is_measured_under_load(tmp_path: Path) -> None:
    flags = [*SERVE, "--num-requests", "20", "--part", "latency", "memory", "overload"]
    result = run_benchmark("serve.py", *flags, output=tmp_path / "result.json")
    loads = result["latency"]["loads"]
    assert [load["share"] for load in loads] == [0.25, 0.5, 0.75, 0.9]
    for load in loads:
        assert load["failed"] == 0
        assert 0 < load["first_text"]["p50"] <= load["caption"]["p50"] <= load["caption"]["p99"]
    memory = result["memory"]
    assert memory["statuses"] == {"200": 18, "422": 2}
    assert len(memory["mib"]) == 10
    assert 100 < memory["mib"][-1] == memory["mib"][0] + memory["growth_mib"]
    overload = result["overload"]
    assert set(overload["statuses"]) <= {"200", "429", "504"}
    assert overload["statuses"]["200"] > 0
    assert overload["without_retry_after"] == 0
    assert overload["recovery"] >= 0


@pytest.mark.slow
def test_the_server_is_measured_beside_a_plain_one(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    flags = [*SERVE, "--num-single", "2", "--rounds", "2", "--part", "throughput"]
    result = run_benchmark("serve.py", *flags, output=tmp_path / "result.json")
    subjects, ratios = result["throughput"]["subjects"], result["throughput"]["ratios"]
    assert list(subjects) == ["stream", "serve", "plain", "serve, 1 client", "plain, 1 client"]
    for values in subjects.values():
        assert values["same_captions"] == 1
        assert values["images_per_s"] == values["images"] / statistics.median(values["seconds"])
    rates = {name: values["images_per_s"] for name, values in subjects.items()}
    assert ratios["serve / stream"] == rates["serve"] / rates["stream"]
    assert ratios["serve / plain"] == rates["serve"] / rates["plain"]


def test_a_collection_is_measured_beside_the_model(tmp_path: Path) -> None:
    flags = ["--size", "tiny", "--repeats", "2", "--num-images", "8", "--batch-size", "4"]
    flags += ["--length", "9", "--candidates", "3"]
    result = run_benchmark("bulk.py", *flags, output=tmp_path / "result.json")
    medians = {name: statistics.median(seconds) for name, seconds in result["seconds"].items()}
    ratios, measured = result["ratios"], result["measured"]
    assert ratios["collection"] == medians["model alone"] / medians["collection"]
    assert ratios["one encoding"] == medians["a call for each"] / medians["one encoding"]
    assert measured["device_seconds"] == medians["model alone"] / 8
    assert measured["decode_seconds"] == medians["opening images"] / 8
    assert measured["image_bytes"] > 10_000
    assert 50 < measured["caption_bytes"] < measured["state_bytes"] < 5_000


def run_benchmark(script: str, *arguments: str, output: Path) -> dict[str, Any]:
    """Return the result of a benchmark that writes JSON."""
    run_script(SCRIPT.with_name(script), *arguments, "--output", str(output))
    values: dict[str, Any] = json.loads(output.read_text())
    for part in [values] if "options" in values else values.values():
        assert not {"output", "folder"} & set(part["options"])
    return values


@pytest.mark.slow
def test_wrong_captions_of_scenes_are_looked_for(tmp_path: Path) -> None:
    result = run_benchmark("matching.py", "--short", output=tmp_path / "result.json")
    sets = result["sets"]
    names = ["matcher", "matcher, cosine", "captioner", "captioner, per token"]
    assert all(list(scores) == names for scores in sets.values())
    num_wrong = [scores["matcher"]["num_wrong"] for scores in sets.values()]
    assert dict(zip(sets, num_wrong, strict=True)) == {
        "shuffled": 12,
        "one_false_word": 20,
        "exchanged_objects": 20,
    }
    words = {"auroc_color", "auroc_shape", "auroc_relation", "auroc_number"}
    assert words <= set(sets["one_false_word"]["captioner"])
    assert result["scenes"] == result["distinct_scenes"] == 96 + 3 * 40


def write_aerial(folder: Path, name: str, count: int) -> None:
    """Write drawn scenes as if they were images of two land uses."""
    scenes = make_scenes(count, seed=len(name))
    (folder / name).mkdir(parents=True)
    data = write_scenes(folder / name, scenes, size=32)
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for number, row in enumerate(rows):
        image = f"{name}/ucm_{number % 2:02}_{number:03}.png"
        (folder / name / row["file_name"]).rename(folder / image)
        row |= {"file_name": image, "captions": row["captions"] * 2}
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("within", [False, True])
def test_captions_are_swapped_between_images_that_lack_them(
    within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many wrong texts in each land use; none where all images have the same ones."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from aerial_pairs import swap_captions

    own = [("a tree",)] * 20
    own += [(f"{use} has {n % 7}", f"{use} and {n % 5}") for use in (1, 2) for n in range(20)]
    samples = [
        Sample(f"ucm_{number // 20:02}_{number:03}.png", texts, str(number))
        for number, texts in enumerate(own)
    ]
    pairs = swap_captions(samples, within, seed=3)
    rows = list(zip(pairs.images.tolist(), pairs.texts, strict=True))
    assert [text in own[image] for image, text in rows] == pairs.is_right.tolist()
    uses = pairs.images // 20
    groups = [uses == 1, uses == 2] if within else [uses >= 0]
    assert sum(map(sum, groups)) == len(rows)
    for group in groups:
        texts = [text for row, (_, text) in enumerate(rows) if group[row]]
        images = sorted(set(pairs.images[group].tolist()))
        assert sorted(texts) == sorted(text for image in images for text in own[image])
        assert pairs.is_right[group].mean() == pytest.approx(0.7, abs=0.03)


@pytest.mark.slow
def test_swapped_captions_of_aerial_images_are_looked_for(tmp_path: Path) -> None:
    write_aerial(tmp_path / "data", "block-train", 40)
    write_aerial(tmp_path / "data", "block-val", 16)
    arguments = [str(tmp_path / "data"), "--short", "--folder", str(tmp_path / "models")]
    result = run_benchmark("matching_aerial.py", *arguments, output=tmp_path / "result.json")
    names = ["matcher", "matcher, cosine", "mean log p", "ratio", "ratio per token", "text alone"]
    assert list(result["any"]) == names
    matcher, ratio = result["any"]["matcher"], result["any"]["ratio"]
    difference = ratio["matcher_is_better_by"]["difference"]
    assert difference == pytest.approx(matcher["auroc"] - ratio["auroc"])
    assert matcher["num_wrong"] == pytest.approx(0.3 * matcher["num_pairs"], abs=1)
    assert result["retrieval"]["num_images"] == 8
    assert all(minutes > 0 for minutes in result["minutes"].values())
    models = ["--captioner", str(tmp_path / "models" / "captioner")]
    models += ["--matcher", str(tmp_path / "models" / "matcher")]
    arguments = [str(tmp_path / "data"), "--short", *models]
    again = run_benchmark("matching_aerial.py", *arguments, output=tmp_path / "again.json")
    assert again["minutes"] == {"matcher": None, "captioner": None}
    assert again["any"] == result["any"]


def test_options_of_a_training_are_refused_beside_a_matcher(tmp_path: Path) -> None:
    flags = ["--matcher", str(tmp_path), "--epochs", "3", "--no-init"]
    message = "^--epochs, --no-init: no matcher is trained beside --matcher; leave one of them out$"
    with pytest.raises(RuntimeError, match=message):
        run_script(SCRIPT.with_name("matching_aerial.py"), str(tmp_path), *flags)


@pytest.mark.slow
def test_cleaned_and_noisy_captions_are_compared(tmp_path: Path) -> None:
    result = run_benchmark("capfilt.py", "--short", output=tmp_path / "result.json")
    assert list(result["accuracy"]) == ["noisy", "cleaned"]
    assert len(result["differences"]) == 1
    web, synthetic = result["cleaned"]["web"], result["cleaned"]["synthetic"]
    # the threshold of a short run keeps all
    assert web == {"scored": 60, "kept": 60, "true": 0.5}
    assert 0 < synthetic["kept"] == synthetic["scored"] <= 60  # some equal a web text, or are empty
    assert result["minutes"]["loop"] > 0


@pytest.mark.slow
def test_a_joint_model_is_compared_with_a_captioner_and_a_matcher(tmp_path: Path) -> None:
    flags = ["--short", "--momentum", "0.9", "--queue-size", "96"]
    result = run_benchmark("pretraining.py", *flags, output=tmp_path / "result.json")
    results = result["results"]
    assert list(result["minutes"]) == list(results) == ["caption", "match", "pretrain"]
    joint = results["pretrain"]
    tasks = {"caption_accuracy": "caption", "one_false_word_auroc": "match", "recall_at_1": "match"}
    assert list(result["ratios"]) == list(tasks)
    for metric, task in tasks.items():
        alone = results[task][metric]
        expected = joint[metric] / alone if alone else None
        assert result["ratios"][metric] == pytest.approx(expected)
    assert 0 <= joint["caption_accuracy"] <= 1
    assert joint["retrieval"]["num_images"] == 10


@pytest.mark.slow
def test_wrong_words_are_looked_for(tmp_path: Path) -> None:
    """In captions of scenes by a captioner that has hardly been trained."""
    result = run_benchmark("confidence.py", "--short", output=tmp_path / "result.json")
    scenes = result["sets"]["scenes"]
    assert list(result["sets"]) == ["scenes"]
    assert scenes["images"] == {"chosen_on": 30, "measured_on": 30}
    words = scenes["auroc_words"]
    assert 0 < scenes["wrong_words"] < scenes["words"]
    for name, values in words.items():
        if name != "confidence":
            expected = words["confidence"]["auroc"] - values["auroc"]
            assert values["confidence_is_better_by"]["difference"] == pytest.approx(expected)
    chosen = "own and product of all words, log-odds averaged"
    assert 0 <= scenes["choices"]["words"][chosen] <= 1
    assert scenes["calibration"]["words"]["count"] == scenes["words"]


def test_queries_to_an_index_are_measured(tmp_path: Path) -> None:
    flags = ["--size", "tiny", "--num-images", "300", "--repeats", "3"]
    result = run_benchmark("search.py", *flags, output=tmp_path / "result.json")
    assert len(result["seconds"]) == 3
    assert 0 < result["median"] <= result["slowest"]
    assert result["loading"] > 0


def test_ranking_of_samples_is_compared_with_one_caption(tmp_path: Path) -> None:
    flags = ["--size", "tiny", "--num-captions", "4", "--repeats", "2"]
    result = run_benchmark("rerank.py", *flags, output=tmp_path / "result.json")
    medians = {name: statistics.median(values) for name, values in result["seconds"].items()}
    assert list(result["ratios"]) == ["own encoder", "shared encoder"]
    for name, ratio in result["ratios"].items():
        assert ratio == pytest.approx(medians[name] / medians["3 beams"])


@pytest.mark.slow
def test_heat_maps_point_at_objects_or_not(tmp_path: Path) -> None:
    flags = ("--short", "--sheet", str(tmp_path / "sheet.png"))
    result = run_benchmark("heatmaps.py", *flags, output=tmp_path / "result.json")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 200
    judged = result["true_captions"]
    assert judged["scenes"] == 6
    assert judged["words"] >= 6 * 2
    assert result["scenes_in_training"] == 0
    results = judged["results"]
    methods = ["attention", "gradient", "occlusion"]
    baselines = ["best map", "center pixel", "random pixel"]
    assert list(results) == [*methods, *(f"{each}, bilinear" for each in methods), *baselines]
    assert results["best map"]["pointing"]["mean"] == 1
    for values in results.values():
        assert 0 <= values["pointing"]["mean"] <= values["near"]["mean"] <= 1
        low, high = values["pointing"]["interval"]
        assert low <= values["pointing"]["mean"] <= high
    better = judged["gradient_is_better_by"]["attention"]["mean"]
    means = [results[name]["pointing"]["mean"] for name in ("gradient", "attention")]
    assert better == pytest.approx(means[0] - means[1])


@pytest.mark.slow
def test_the_recipe_of_aerial_images_is_measured_with_several_seeds(tmp_path: Path) -> None:
    write_aerial(tmp_path / "data", "block-train", 8)
    write_aerial(tmp_path / "data", "block-val", 6)
    folder = tmp_path / "runs"
    arguments = [str(tmp_path / "data"), "--short"]
    flags = ["--folder", str(folder)]
    result = run_benchmark("aerial.py", *arguments, *flags, output=tmp_path / "result.json")
    captioners = result["captioners"]
    assert len(captioners["recipe"]["cider_by_seed"]) == 2
    assert captioners["recipe"]["cider"] >= 0
    runs = [str(folder / f"aerial-{seed}") for seed in (0, 1)]
    flags = ["--runs", runs[0], "--others", runs[1]]
    again = run_benchmark("aerial.py", *arguments, *flags, output=tmp_path / "again.json")
    by_seed = [again["captioners"][name]["cider_by_seed"][0] for name in ("recipe", "other recipe")]
    assert by_seed == pytest.approx(captioners["recipe"]["cider_by_seed"])
    gain = again["differences"]["other recipe"]["cider"]
    assert gain == pytest.approx(by_seed[0] - by_seed[1])


@pytest.mark.slow
def test_captions_by_scst_are_compared_with_those_of_the_control(tmp_path: Path) -> None:
    write_aerial(tmp_path / "data", "block-train", 12)
    write_aerial(tmp_path / "data", "block-val", 6)
    save_captioner(tmp_path / "start")
    arguments = [str(tmp_path / "data"), "--short", "--captioners", *[str(tmp_path / "start")] * 2]
    arguments += ["--report", str(tmp_path / "report.html")]
    result = run_benchmark("scst.py", *arguments, output=tmp_path / "result.json")
    for costs in result["trainings"].values():
        assert len(costs["minutes"]) == len(costs["steps"]) == 2
        assert all(minutes > 0 for minutes in costs["minutes"])
    assert list(result["searches"]) == ["beam search", "consensus"]
    for values in result["searches"].values():
        start, scst, control = (values[name] for name in ("start", "scst", "control"))
        for each in (scst, control):
            assert each["cider"] == pytest.approx(statistics.mean(each["cider_by_seed"]))
            assert 0 <= each["unfinished"] <= each["fragments"] <= 1
        for other, difference in zip((control, start), values["differences"].values(), strict=True):
            gain, (low, high) = difference["cider"], difference["interval"]
            assert gain == pytest.approx(scst["cider"] - other["cider"])
            assert low <= gain <= high
    assert "scst 3" in (tmp_path / "report.html").read_text()


def test_merged_tokens_are_measured(tmp_path: Path) -> None:
    flags = ["--size", "tiny", "--merge-tokens", "0", "1", "--precisions", "fp32", "--repeats", "2"]
    flags += ["--batch-size", "4", "--length", "9", "--part", "speed", "quality"]
    flags += ["--resamples", "100"]
    data = write_scenes(tmp_path / "scenes", make_scenes(4, seed=1), size=32)
    save_captioner(tmp_path / "model")
    flags += ["--model", str(tmp_path / "model"), "--data", str(data)]
    flags += ["--chart", str(tmp_path / "chart.svg")]
    result = run_benchmark("merge_tokens.py", *flags, output=tmp_path / "result.json")
    speed, quality = result["speed"], result["quality"]
    seconds = {name: statistics.median(values) for name, values in speed["seconds"].items()}
    ratio = seconds["fp32, 0 merged"] / seconds["fp32, 1 merged"]
    assert speed["ratios"] == {"fp32, 1 merged": pytest.approx(ratio)}
    plain, merged, smaller = quality["settings"]
    assert [row["tokens"] for row in (plain, merged, smaller)] == [5, 3, 2]
    assert plain["unchanged"] == 1
    assert plain["interval"] == [0, 0]
    for row in (merged, smaller):
        assert row["difference"] == pytest.approx(row["cider"] - plain["cider"])
        assert row["images_per_s"] == pytest.approx(4 / statistics.median(row["seconds"]))
    low, high = merged["interval"]
    kept = low <= 0 <= high and merged["unchanged"] >= 0.85
    assert quality["recommended"] == (1 if kept else 0)
    chart = ElementTree.parse(tmp_path / "chart.svg")
    dots = list(chart.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == 4 + 3  # of two lines that share one setting, and a marker of each setting
