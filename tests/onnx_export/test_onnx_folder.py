"""Writing folders of ONNX graphs."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from onnx_graphs import MICRO, load_golden
from random_captioner import draw_images, save_captioner
from random_matcher import save_matcher

import cutline
from cutline.checkpoint import build_empty_model, load_checkpoint, save_native
from cutline.cli.main import run_command
from cutline.config import CaptionConfig
from cutline.device import has_only_avx512_bf16
from cutline.errors import CheckpointError, ConfigError
from cutline.onnx_export import save_onnx as save_graphs
from cutline.onnx_export.folder import describe_graphs

pytest.importorskip("onnxscript")
FILES = [
    "caption.py",
    "config.json",
    "decoder.onnx",
    "encoder.onnx",
    "index.html",
    "tokenizer.json",
]


def test_a_folder_holds_all_that_a_search_needs(graphs: Path) -> None:
    assert sorted(path.name for path in graphs.iterdir()) == FILES
    values = json.loads((graphs / "config.json").read_text(encoding="utf-8"))
    checkpoint = load_golden(MICRO)
    tokenizer = checkpoint.tokenizer
    assert values["format"] == "cutline-onnx"
    assert values["generate"] == {
        "prompt_ids": tokenizer.encode_prompt("a picture of "),
        "end_id": tokenizer.sep_id,
        "min_length": 5,
        "max_length": 20,
    }
    assert (graphs / "tokenizer.json").read_text(encoding="utf-8") == tokenizer.to_json()


def test_graphs_have_names_and_no_paths_of_this_machine(graphs: Path) -> None:
    import onnx

    shapes = {}
    for name in ("encoder", "decoder"):
        file = graphs / f"{name}.onnx"
        graph = onnx.load(file).graph
        onnx.checker.check_model(str(file))
        shapes[name] = {
            each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
            for each in (*graph.input, *graph.output)
        }
        assert str(Path(cutline.__file__).parent).encode() not in file.read_bytes()
        assert b"graphs.py" not in file.read_bytes()
    image = ["batch", 4, 17, 12]
    layers = [f"{kind}_{layer}" for layer in range(2) for kind in ("keys", "values")]
    assert shapes["encoder"] == {"pixels": ["batch", 3, 32, 32]} | {
        f"image_{name}": image for name in layers
    }
    assert shapes["decoder"] == {
        "input_ids": ["batch", "queries"],
        "position_ids": ["batch", "queries"],
        "mask": ["batch", 1, "queries", "past + queries"],
        **{f"image_{name}": image for name in layers},
        **{f"past_{name}": ["batch", 4, "past", 12] for name in layers},
        "logits": ["batch", "queries", 111],
        **{f"new_{name}": ["batch", 4, "queries", 12] for name in layers},
    }


def test_no_weight_is_stored_twice(graphs: Path) -> None:
    weights = load_golden(MICRO).weights.values()
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    written = sum((graphs / f"{name}.onnx").stat().st_size for name in ("encoder", "decoder"))
    assert size < written < size + 200_000  # the nodes


# --- what is refused


def test_another_model_is_not_overwritten(tmp_path: Path) -> None:
    save_captioner(tmp_path / "model")
    before = (tmp_path / "model" / "config.json").read_bytes()
    with pytest.raises(CheckpointError, match=r"holds another model, whose config\.json would"):
        save_onnx(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_bytes() == before
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="a file, but the onnx format is a folder"):
        save_onnx(tmp_path / "file")


def save_onnx(folder: Path) -> None:
    save_graphs(folder, load_golden(MICRO))


@pytest.mark.parametrize("format", ["cutline", "huggingface"])
def test_graphs_are_not_overwritten_by_another_format(
    graphs: Path, tmp_path: Path, format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    save_captioner(tmp_path / "model")
    folder = shutil.copytree(graphs, tmp_path / "graphs")
    assert run_command(["convert", str(tmp_path / "model"), str(folder), "--to", format]) == 1
    assert "holds ONNX graphs, whose config.json would be overwritten" in capfd.readouterr().err
    for file in graphs.iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_a_prompt_that_leaves_no_room_for_a_caption_is_refused(tmp_path: Path) -> None:
    checkpoint = load_golden(MICRO)
    for count, has_room in ((6, True), (7, False)):  # 19 and 22 tokens of 20
        prompt = "a picture of " * count
        changed = replace(checkpoint, config=replace(checkpoint.config, prompt=prompt))
        if has_room:
            assert describe_graphs(changed, "fp32")["precision"] == "fp32"
        else:
            with pytest.raises(ConfigError, match=r"has 22 tokens, and .* shorten `prompt`"):
                save_graphs(tmp_path / "graphs", changed)
    assert not (tmp_path / "graphs").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_an_error_that_says_how_to_install_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"needs {package}, .*pip install 'cutline\[onnx\]'"):
        save_onnx(tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists()


def test_a_graph_larger_than_a_file_may_be_is_refused() -> None:
    from cutline.onnx_export.graphs import EncoderGraph, check_graph_size

    config = CaptionConfig.preset("large")
    for depth in (24, 60):
        sizes = replace(config, vision=replace(config.vision, depth=depth))
        graph = EncoderGraph(build_empty_model(sizes))
        if depth == 24:
            check_graph_size(graph)
        else:
            with pytest.raises(CheckpointError, match=r"would hold \d\.\d GiB .* `--int8` needs"):
                check_graph_size(graph)
    quantized = torch.nn.Module()
    quantized.weight = torch.nn.Buffer(torch.empty(2**31, dtype=torch.int8, device="meta"))
    with pytest.raises(CheckpointError, match="at most 2 fit into a file: choose a smaller model"):
        check_graph_size(quantized)


def test_the_command_refuses_what_is_no_captioner(
    graphs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_matcher(tmp_path / "matcher")
    out = str(tmp_path / "out")
    for arguments, code, message in (
        ((str(tmp_path / "matcher"), out, "--to", "onnx"), 2, "export supports captioners only"),
        ((str(graphs), out, "--to", "onnx"), 1, "holds ONNX graphs, which can caption"),
        ((str(graphs), out), 1, "holds ONNX graphs, which can caption"),
        ((str(MICRO.checkpoint), out, "--int8"), 2, "--int8 is for ONNX graphs: add --to onnx"),
        ((str(tmp_path / "matcher"), out, "--merge-tokens", "1"), 2, "merges no tokens; remove it"),
    ):
        assert run_command(["convert", *arguments]) == code
        assert message in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


# --- int8, and what is written whole


@pytest.mark.slow
def test_int8_graphs_caption_as_engine_packed_does_in_int8(
    tmp_path: Path, limit_file_size: Callable[[int | None], None]
) -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("int8 of engine packed needs an x86 CPU")
    save_captioner(tmp_path / "model")
    source, out = str(tmp_path / "model"), tmp_path / "graphs"
    assert run_command(["convert", source, str(out), "--to", "onnx", "--int8"]) == 0
    graphs, packed = cutline.load(out), cutline.load(source, "cpu", "int8")
    assert graphs.precision == "int8"
    images = draw_images(6)
    for settings in ({}, {"num_beams": 1}, {"sample": True, "num_captions": 2}):
        captions = graphs.caption(images, batch_size=3, **settings)
        expected = packed.caption(images, batch_size=3, **settings)
        pairs = zip(captions, expected, strict=True)  # a tie may be rounded in another way
        num_equal = sum(each.token_ids == other.token_ids for each, other in pairs)
        # There, engine packed has bf16 between its products, and random weights tell them apart.
        assert num_equal >= len(images) - 1 or has_only_avx512_bf16()
        # no row depends on the others of its batch
        single = [graphs.caption(image, **settings)[0] for image in images]
        assert [each.token_ids for each in captions] == [each.token_ids for each in single]
        assert [each.score for each in captions] == pytest.approx(
            [each.score for each in single], abs=1e-4
        )
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for size in (1000, len(before["encoder.onnx"]) - 1):
        limit_file_size(size)
        with pytest.raises(CheckpointError, match=r"cannot be written .*is unchanged"):
            save_onnx(out)
        limit_file_size(None)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_merged_tokens_become_those_of_the_graphs(
    tmp_path: Path,
) -> None:
    save_native(tmp_path / "model", load_golden(MICRO))
    source, out = str(tmp_path / "model"), tmp_path / "graphs"
    command = ["convert", source, str(out), "--to", "onnx", "--merge-tokens", "6"]
    assert run_command(command) == 0
    graphs, expected = cutline.load(out), cutline.load(source, "cpu", "fp32", merge_tokens=6)
    assert graphs.config.merge_tokens == 6
    assert graphs.fingerprint == expected.fingerprint
    images = MICRO.images
    captions = graphs.caption(images, batch_size=5)
    assert [each.token_ids for each in captions] == [
        each.token_ids for each in expected.caption(images, batch_size=5)
    ]
    texts = ["a red circle"] * 2
    for score, reference in zip(
        graphs.score(images[:2], texts), expected.score(images[:2], texts), strict=True
    ):
        assert score.token_log_probs == pytest.approx(reference.token_log_probs, abs=1e-4)
    command = [sys.executable, str(out / "caption.py"), *map(str, images)]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    greedy = [each.text for each in expected.caption(images, num_beams=1)]
    assert [line.split("\t")[1] for line in printed.splitlines()] == greedy
    with pytest.raises(CheckpointError, match=r"merge 6 tokens, not 0; .* `--merge-tokens 0`"):
        cutline.load(out, merge_tokens=0)


@pytest.mark.slow
def test_another_image_size_and_prompt_become_those_of_the_graphs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_captioner(tmp_path / "model")
    checkpoint = load_checkpoint(tmp_path / "model")
    changed = replace(checkpoint, config=replace(checkpoint.config, prompt=""))
    save_native(tmp_path / "model", changed)
    source, out = str(tmp_path / "model"), tmp_path / "graphs"
    command = ["convert", source, str(out), "--to", "onnx", "--image-size", "48"]
    assert run_command(command) == 0
    begin, end = capfd.readouterr().err.splitlines()
    assert begin == f"cutline: exporting {source} to ONNX graphs: up to a few minutes …"
    assert end == f"cutline: wrote {out}; try: python {out / 'caption.py'} IMAGE"
    graphs, expected = cutline.load(out), cutline.load(source, "cpu", "fp32", image_size=48)
    images = draw_images(3)
    assert graphs.config == expected.config
    assert graphs.fingerprint == expected.fingerprint
    found = [caption.token_ids for caption in graphs.caption(images)]
    assert found == [caption.token_ids for caption in expected.caption(images)]
