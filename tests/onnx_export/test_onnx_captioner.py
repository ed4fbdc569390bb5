"""Captioners that run ONNX graphs, compared with BLIP's code and with the eager model."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import run_code
from golden_folder import GoldenFolder
from onnx_graphs import MICRO, load_golden, make_graphs
from random_matcher import make_matcher

import cutline
from cutline.bulk.engine import CaptionJob
from cutline.captioner import Captioner
from cutline.checkpoint import build_model, find_local_folder, load_checkpoint, load_config
from cutline.confidence import Calibration
from cutline.config import OutputConfig
from cutline.errors import CheckpointError, ConfigError

TEXTS = ("a red circle", "two", "a green square left of the blue star")


@dataclass(frozen=True)
class Pair:
    """A captioner as graphs, and the same one in PyTorch, eager and in fp32."""

    golden: GoldenFolder
    folder: Path
    graphs: Captioner
    eager: Captioner


def load_pair(factory: pytest.TempPathFactory, golden: GoldenFolder) -> Pair:
    folder, checkpoint = make_graphs(factory, golden), load_golden(golden)
    eager = Captioner(build_model(checkpoint), checkpoint.tokenizer, "cpu", "fp32")
    return Pair(golden, folder, cutline.load(folder), eager)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return load_pair(tmp_path_factory, MICRO)


def assert_golden_captions(pair: Pair) -> None:
    """Check the token ids in all settings that BLIP's code was run with, on all images."""
    unseen = pair.golden.read_json("unseen")
    names = [pair.golden.path / "unseen" / name for name in unseen["images"]]
    runs = [(pair.golden.images, entry, True) for entry in pair.golden.expected["generate"]]
    runs += [(names, entry, False) for entry in unseen["generate"]]
    assert len(runs) == 20
    tokenizer = pair.eager.tokenizer
    for images, entry, has_prompt in runs:
        settings: dict[str, Any] = {"prompt": "a picture of "} | entry["settings"]
        captions = pair.graphs.caption(images, batch_size=5, **settings)
        found = [each.token_ids for caption in captions for each in caption.alternatives]
        prompt_length = len(tokenizer.encode_prompt(settings["prompt"])) if has_prompt else 0
        expected = [row[prompt_length:] for row in entry["token_ids"]]
        ends = (tokenizer.sep_id, tokenizer.pad_id)
        assert found == [tuple(token for token in row if token not in ends) for row in expected]


def test_captions_are_those_of_the_reference_in_every_golden_setting(pair: Pair) -> None:
    assert_golden_captions(pair)


@pytest.mark.slow
def test_so_are_those_of_the_larger_golden_captioner(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    golden = GoldenFolder(shared / "fixtures" / "salesforce-tiny")
    assert_golden_captions(load_pair(tmp_path_factory, golden))


def test_it_says_how_it_runs(pair: Pair) -> None:
    graphs = pair.graphs
    assert (graphs.engine, graphs.precision, str(graphs.device)) == ("onnx", "fp32", "cpu")
    assert graphs.config == pair.eager.config
    assert graphs.fingerprint == load_golden(pair.golden).fingerprint()
    assert load_config(pair.folder) == graphs.config
    assert find_local_folder(pair.folder / "decoder.onnx") == pair.folder
    same = cutline.load(pair.folder / "encoder.onnx", "cpu", "fp32", engine="onnx", image_size=32)
    assert same.config == graphs.config


@torch.inference_mode()
def test_logits_of_every_step_are_close_to_the_eager_ones(pair: Pair) -> None:
    """With prompts of two lengths, more beams later than at first, and a ring that wraps."""
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    ids = torch.tensor([[[109, 11, 95, 92]], [[0, 0, 109, 11]], [[0, 109, 95, 92]]])
    caches = [
        each.model.prefill_images(each.encode_images(pixels), 6, ids[:, 0] != 0)
        for each in (pair.graphs, pair.eager)
    ]
    for step in range(8):
        steps = zip((pair.graphs, pair.eager), caches, strict=True)
        logits, expected = (each.model.step(ids, cache) for each, cache in steps)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
        for cache in caches:
            cache.reorder(torch.tensor([[0, 0, 0], [0, min(step, 1), 0], [0, min(step, 2), 0]]))
        ids = torch.randint(5, 100, (3, 3, 1))


def test_scores_are_close_to_the_eager_ones(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [image for image in pair.golden.images[:2] for _ in TEXTS]
    expected = pair.eager.score(images, TEXTS * 2)
    scores = pair.graphs.score(images, TEXTS * 2)
    monkeypatch.setattr("cutline.engine.onnx.MAX_QUERIES", 1)  # one text at a time
    for found in (scores, pair.graphs.score(images, TEXTS * 2)):
        for score, reference in zip(found, expected, strict=True):
            assert score.token_ids == reference.token_ids
            assert score.token_log_probs == pytest.approx(reference.token_log_probs, abs=1e-4)


def test_requests_with_settings_of_their_own_share_batches(pair: Pair) -> None:
    requests: list[dict[str, Any]] = [
        {},
        {"num_beams": 1, "prompt": ""},
        {"num_beams": 5, "num_captions": 3, "repetition_penalty": 1.5},
        {"sample": True, "num_captions": 2, "seed": 3},
        {"max_length": 9, "prompt": "a photo of a"},
    ]
    outcomes = []
    for captioner in (pair.graphs, pair.eager):
        with cutline.CaptionScheduler(captioner, batch_size=3) as scheduler:
            submitted = [
                scheduler.submit(image, **settings)
                for image in pair.golden.images[:3]
                for settings in requests
            ]
            captions = [request.result() for request in submitted]
        outcomes.append([[each.token_ids for each in one.alternatives] for one in captions])
    assert outcomes[0] == outcomes[1]


def test_streams_and_evaluations_run_as_of_any_captioner(pair: Pair, tmp_path: Path) -> None:
    images = pair.golden.images
    captions = [each.text for each in pair.graphs.stream(iter(images), ordered=False)]
    assert sorted(captions) == sorted(each.text for each in pair.eager.caption(images))
    data = tmp_path / "data.jsonl"
    rows = ({"image": str(image), "caption": "a red circle"} for image in images[:3])
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found, expected = (cutline.evaluate(each, data) for each in (pair.graphs, pair.eager))
    assert found.scores == expected.scores


def test_a_matcher_with_its_own_encoder_ranks_captions(pair: Pair) -> None:
    settings: dict[str, Any] = {"num_captions": 3, "rerank": make_matcher()}
    found, expected = (
        each.caption(pair.golden.images[:3], **settings) for each in (pair.graphs, pair.eager)
    )
    assert [each.text for each in found] == [each.text for each in expected]
    assert [each.match for each in found] == [each.match for each in expected]


def test_a_calibration_of_the_model_is_one_of_its_graphs(pair: Pair, tmp_path: Path) -> None:
    folder = shutil.copytree(pair.folder, tmp_path / "graphs")
    Calibration(fingerprint=pair.graphs.fingerprint).save(folder / "calibration.json")
    assert cutline.load(folder).calibration is not None
    Calibration(fingerprint="other").save(tmp_path / "calibration.json")
    with pytest.raises(CheckpointError, match="the calibration of another model"):
        cutline.load(folder, calibration=tmp_path / "calibration.json")


def test_a_run_records_the_precision_of_the_graphs(pair: Pair) -> None:
    described = CaptionJob(str(pair.folder)).describe(OutputConfig())
    assert described["model"] == pair.graphs.fingerprint
    assert described["precision"] == "fp32"


# --- threads and memory


def test_a_small_model_runs_with_one_thread(pair: Pair) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        model = cutline.load(pair.folder).model
    finally:
        torch.set_num_threads(before)
    for part in (model.vision, model.text):
        options = part.run_graph._session.get_session_options()  # type: ignore[union-attr]
        assert options.intra_op_num_threads == 1


OUT_OF_MEMORY = """
import resource
import torch
import cutline
from cutline.device import is_out_of_memory

text = cutline.load(FOLDER).model.text
image_kv = [torch.zeros(1, 4, 17, 12)] * 4
def run(count):
    ids = torch.zeros(1, count, dtype=torch.long)
    mask = torch.ones(1, 1, count, count, dtype=torch.bool)
    text.run_graph(ids, ids, mask, *image_kv, *[torch.zeros(1, 4, 0, 12)] * 4)
run(8)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20, resource.RLIM_INFINITY))
try:
    run(8000)
except MemoryError as error:
    assert is_out_of_memory(error)
    print("out of memory")
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_a_lack_of_memory_is_recognized(pair: Pair) -> None:
    result = run_code(OUT_OF_MEMORY.replace("FOLDER", repr(str(pair.folder))))
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == b"out of memory\n"


# --- what graphs cannot do


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "packed"}, "ONNX graphs run with engine onnx, not packed: leave engine at"),
        ({"precision": "int8"}, "holds graphs in fp32, not int8: leave precision at auto"),
        ({"device": "cuda"}, "run on the CPU, not on cuda: leave device at auto"),
        ({"image_size": 64}, "take images of 32 pixels only, not 64; convert the model again"),
        ({"config": "base"}, "a model folder contains its own config; remove `config`"),
    ],
)
def test_other_settings_are_refused(pair: Pair, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message):
        cutline.load(pair.folder, **settings)


def test_a_vocabulary_of_another_size_is_refused(pair: Pair, tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    with pytest.raises(CheckpointError, match=r"vocab\.txt: .* 7 tokens, but the graphs have 111"):
        cutline.load(pair.folder, tokenizer=vocabulary)


def test_graphs_are_no_weights(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds ONNX graphs, which can caption, but not be"):
        load_checkpoint(pair.folder)
    with pytest.raises(CheckpointError, match="a captioner, not a matcher"):
        cutline.load_matcher(pair.folder)
    with pytest.raises(ConfigError, match="cannot be copied, saved or given other weights"):
        pair.graphs.model.state_dict()
    with pytest.raises(ConfigError, match="explaining needs the weights of a captioner"):
        cutline.explain(pair.graphs, pair.golden.images[0], method="attention")
    with pytest.raises(CheckpointError, match="use the model that they were made from"):
        _ = pair.graphs.eager_copy


def test_engine_onnx_runs_graphs_only(pair: Pair) -> None:
    with pytest.raises(ConfigError, match="engine onnx runs captioners that `cutline convert"):
        Captioner(pair.eager.model, pair.eager.tokenizer, "cpu", "fp32", "onnx")
    assert Captioner(pair.graphs.model, pair.graphs.tokenizer, engine="auto").engine == "onnx"
    with pytest.raises(ConfigError, match="ONNX graphs run with engine onnx, not eager"):
        Captioner(pair.graphs.model, pair.graphs.tokenizer, "cpu", "fp32", "eager")


def test_a_missing_package_is_an_error_that_says_how_to_install_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"ONNX Runtime, .* pip install 'cutline\[onnx\]'"):
        cutline.load(pair.folder)


@pytest.mark.parametrize("damage", ["missing", "cut", "swapped"])
def test_a_damaged_graph_is_named(pair: Pair, tmp_path: Path, damage: str) -> None:
    folder = shutil.copytree(pair.folder, tmp_path / "graphs")
    file = folder / "decoder.onnx"
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        shutil.copy(folder / "encoder.onnx", file)
    with pytest.raises(CheckpointError, match=r"decoder\.onnx: not a readable graph \(.+\); copy"):
        cutline.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "format version 2, but this version of cutline reads version 1"),
        ({"precision": "fp8"}, "lacks the precision or the fingerprint of the graphs"),
        ({"fingerprint": None}, "lacks the precision or the fingerprint of the graphs"),
    ],
)
def test_settings_of_another_version_are_refused(
    pair: Pair, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(pair.folder / name, tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(CheckpointError, match=message):
        cutline.load(tmp_path)
