"""Matchers in every format: round trips, what is skipped, and files of other models."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

import cutline
from cutline.checkpoint import (
    Checkpoint,
    CheckpointFormat,
    build_matcher,
    compute_weight_shapes,
    export_weights,
    is_matcher,
    load_checkpoint,
    load_config,
    load_matcher_checkpoint,
    save_checkpoint,
)
from cutline.checkpoint.kinds import MATCHER
from cutline.checkpoint.names import SALESFORCE_MATCHER
from cutline.checkpoint.salesforce_config import infer_config
from cutline.cli import main
from cutline.config import PRESETS, MatchConfig, TextConfig, VisionConfig, to_dict
from cutline.errors import CheckpointError, ConfigError
from cutline.tokenizer import Tokenizer

Matcher = Checkpoint[MatchConfig]
FORMATS: tuple[CheckpointFormat, ...] = ("cutline", "salesforce", "huggingface")
ALL_FORMATS = pytest.mark.parametrize("format", FORMATS)
TRAINING_ONLY = (
    *("visual_encoder_m.cls_token", "visual_encoder_m.blocks.0.norm1.weight"),
    *("text_encoder_m.embeddings.word_embeddings.weight", "text_encoder_m.embeddings.position_ids"),
    *("vision_proj_m.weight", "text_proj_m.bias", "image_queue", "text_queue", "idx_queue"),
    *("ptr_queue", "queue_ptr", "text_decoder.bert.embeddings.position_ids"),
    *("text_decoder.bert.embeddings.word_embeddings.weight", "text_decoder.cls.predictions.bias"),
)


def save(folder: Path, checkpoint: Checkpoint[Any], format: CheckpointFormat) -> Path:
    path = folder / ("model.pth" if format == "salesforce" else format)
    save_checkpoint(path, checkpoint, format)
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".pth":
        weights: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
        return weights
    return load_file(path / "model.safetensors")


def edit(file: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the weights in a .pth file, and remove the settings that cutline writes."""
    weights = read_weights(file)
    change(weights)
    torch.save({"model": weights}, file)


def are_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name])
        for name in left
    )


# --- round trips


@st.composite
def draw_config(draw: st.DrawFn, vocab_size: int) -> MatchConfig:
    small = st.integers(1, 3)
    patch, heads, text_heads = draw(small), draw(small), draw(small)
    vision = VisionConfig(
        image_size=patch * draw(small),
        patch_size=patch,
        embed_dim=heads * draw(small),
        depth=draw(st.sampled_from([1, 11])),
        num_heads=heads,
        mlp_ratio=float(draw(small)),
    )
    text = TextConfig(
        vocab_size=vocab_size,
        embed_dim=text_heads * draw(small),
        depth=draw(st.sampled_from([1, 11])),
        num_heads=text_heads,
        mlp_dim=draw(small),
        max_positions=draw(st.integers(1, 9)),
    )
    temperature = draw(st.floats(1e-3, 0.5))
    return MatchConfig(
        vision, text, projection_dim=draw(st.integers(1, 9)), temperature=temperature
    )


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), formats=st.permutations(FORMATS), seed=st.integers(0, 9))
def test_a_chain_of_formats_is_the_identity(
    data: st.DataObject,
    formats: list[CheckpointFormat],
    seed: int,
    tokenizer: Tokenizer,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    config = data.draw(draw_config(tokenizer.vocab_size))
    random = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(shape, generator=random)
        for name, shape in compute_weight_shapes(config).items()
    }
    checkpoint = first = Checkpoint(config, weights, tokenizer)
    folder, files = tmp_path_factory.mktemp("chain"), {}
    for format in formats:
        path = save(folder, checkpoint, format)
        files[format] = read_weights(path)
        checkpoint = load_matcher_checkpoint(path)
        assert checkpoint.config == config
        assert checkpoint.extra_weights == ()
        assert are_equal(checkpoint.weights, first.weights)
        assert checkpoint.fingerprint() == first.fingerprint()
    again = tmp_path_factory.mktemp("again")
    for format in formats:
        assert are_equal(read_weights(save(again, checkpoint, format)), files[format])


@ALL_FORMATS
def test_the_network_is_built_at_another_image_size(
    format: CheckpointFormat, matcher: Matcher, tmp_path: Path
) -> None:
    path = save(tmp_path, matcher, format)
    for size in (12, 20):
        checkpoint = load_matcher_checkpoint(path, image_size=size)
        model = build_matcher(checkpoint)
        assert not model.training
        assert model.config.vision.image_size == size
        assert model.vision(torch.zeros(1, 3, size, size)).shape == (1, (size // 4) ** 2 + 1, 24)


def test_fingerprints_tell_matchers_apart(matcher: Matcher, tokenizer: Tokenizer) -> None:
    changed = {name: weight.clone() for name, weight in matcher.weights.items()}
    changed["itm_head.weight"] += 1e-3
    assert re.fullmatch(r"[0-9a-f]{16}", matcher.fingerprint())
    assert replace(matcher, weights=changed).fingerprint() != matcher.fingerprint()
    config = replace(matcher.config, temperature=0.06)
    assert replace(matcher, config=config).fingerprint() != matcher.fingerprint()


def test_config_files_say_which_kind_of_model_they_are_of(
    matcher: Matcher, make_checkpoint: Callable[..., Checkpoint[Any]], tmp_path: Path
) -> None:
    captioner = make_checkpoint()
    written = []
    for checkpoint, name in ((captioner, "captioner"), (matcher, "matcher")):
        save_checkpoint(tmp_path / name, checkpoint)
        written.append(json.loads((tmp_path / name / "config.json").read_text()))
    config = to_dict(captioner.config)
    assert list(written[0].items()) == [("format", "cutline"), ("version", 1), ("config", config)]
    assert list(written[1]) == ["format", "version", "model", "config"]
    assert written[1]["model"] == "matcher"


# --- BLIP's files


@pytest.fixture
def file(tmp_path: Path, matcher: Matcher) -> Path:
    """Write a .pth file as BLIP's code does, with the vocabulary beside it."""
    path = save(tmp_path, matcher, "salesforce")
    edit(path, lambda weights: None)
    return path


def test_names_are_those_of_the_reference(file: Path) -> None:
    weights = read_weights(file)
    assert weights["text_encoder.encoder.layer.2.crossattention.self.key.weight"].shape == (20, 24)
    assert torch.equal(weights["text_encoder.embeddings.position_ids"], torch.arange(17)[None])
    assert weights["vision_proj.weight"].shape == (6, 24)
    assert weights["text_proj.weight"].shape == (6, 20)
    assert weights["itm_head.bias"].shape == (2,)
    assert weights["temp"].shape == ()
    assert not any("cls.predictions" in name or ".bert." in name for name in weights)


@pytest.mark.parametrize("sizes", ["captioner", "matcher", "json", "native json"])
def test_width_and_temperature_are_those_of_the_file(
    sizes: str, file: Path, matcher: Matcher, make_checkpoint: Callable[..., Any], tmp_path: Path
) -> None:
    config: Any = make_checkpoint().config
    if sizes != "captioner":
        config = replace(matcher.config, projection_dim=99, temperature=0.4)
    if sizes == "json":
        (tmp_path / "sizes.json").write_text(json.dumps(to_dict(config)))
        config = tmp_path / "sizes.json"
    if sizes == "native json":
        save_checkpoint(tmp_path / "native", matcher)
        config = tmp_path / "native" / "config.json"
    read = load_matcher_checkpoint(file, config)
    assert read.config == matcher.config
    assert are_equal(read.weights, matcher.weights)


@pytest.mark.parametrize(("given", "expected"), [(0.07, 0.07), (0.0123, 0.0123)])
def test_a_temperature_in_fp32_is_written_back(
    given: float, expected: float, file: Path, matcher: Matcher, tmp_path: Path
) -> None:
    edit(file, lambda weights: weights.update(temp=torch.tensor(given)))
    read = load_matcher_checkpoint(file, replace(matcher.config, temperature=0.07))
    assert read.config.temperature == pytest.approx(expected, rel=1e-7)
    assert given != 0.07 or read.config.temperature == 0.07
    save_checkpoint(tmp_path / "again.pth", read, "salesforce")
    assert torch.equal(read_weights(tmp_path / "again.pth")["temp"], torch.tensor(given))


def test_a_file_without_a_temperature_has_the_default(file: Path, matcher: Matcher) -> None:
    edit(file, lambda weights: weights.pop("temp"))
    config = cutline.CaptionConfig(matcher.config.vision, matcher.config.text)
    assert load_matcher_checkpoint(file, config).config.temperature == 0.07


@pytest.mark.parametrize(
    "temperature", [torch.zeros(2), torch.tensor(1), torch.tensor(float("nan")), torch.tensor(-1.0)]
)
def test_other_temperatures_are_errors(temperature: Tensor, file: Path, matcher: Matcher) -> None:
    edit(file, lambda weights: weights.update(temp=temperature))
    with pytest.raises(
        CheckpointError, match=r"model\.pth: not a BLIP matcher \(temp[^\n]*\); use a retrieval "
    ):
        load_matcher_checkpoint(file, matcher.config)


def test_weights_that_only_training_needs_are_skipped(file: Path, matcher: Matcher) -> None:
    edit(file, lambda weights: weights.update(dict.fromkeys(TRAINING_ONLY, torch.zeros(3))))
    read = load_matcher_checkpoint(file, matcher.config)
    assert are_equal(read.weights, matcher.weights)
    assert read.extra_weights == ()


@pytest.mark.parametrize(
    "name",
    ["text_encoder.pooler.dense.weight", "queue_ptr_m", "temp.a", "visual_encoder_n.x", "image"],
)
def test_other_weights_are_errors_that_name_them(name: str, file: Path, matcher: Matcher) -> None:
    edit(file, lambda weights: weights.update({name: torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=rf"model\.pth: .*\(unexpected: {re.escape(name)}\)"):
        load_matcher_checkpoint(file, matcher.config)
    assert load_matcher_checkpoint(file, matcher.config, partial=True).extra_weights == (name,)


@pytest.mark.parametrize("name", ["vision_proj.weight", "itm_head.bias", "text_proj.bias"])
def test_missing_heads_are_errors_that_name_them(name: str, file: Path, matcher: Matcher) -> None:
    edit(file, lambda weights: weights.pop(name))
    with pytest.raises(CheckpointError, match=rf"\(missing: {re.escape(name)}\)"):
        load_matcher_checkpoint(file, matcher.config)


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("image_size", [224, 384])
def test_published_sizes_are_inferred(size: str, image_size: int) -> None:
    preset = PRESETS[size]
    sizes = replace(preset, vision=replace(preset.vision, image_size=image_size))
    config = MatchConfig.from_caption_config(sizes, projection_dim=13)
    weights = {
        name: torch.empty(shape, device="meta")
        for name, shape in compute_weight_shapes(config).items()
    }
    source = export_weights(weights, SALESFORCE_MATCHER)
    inferred = infer_config(source, "file", MATCHER)
    assert inferred == sizes
    assert MATCHER.complete(inferred, source) == config


# --- files of other models


@ALL_FORMATS
def test_the_wrong_kind_of_model_is_an_error_that_says_what_loads_it(
    format: CheckpointFormat,
    matcher: Matcher,
    make_checkpoint: Callable[..., Checkpoint[Any]],
    tmp_path: Path,
) -> None:
    captioner = save(tmp_path / "captioner", make_checkpoint(), format)
    with pytest.raises(
        CheckpointError,
        match=r"^\S+: a captioner, not a matcher; load it with cutline\.load, or use a retrieval "
        r"checkpoint$",
    ):
        load_matcher_checkpoint(captioner)
    path = save(tmp_path / "matcher", matcher, format)
    with pytest.raises(
        CheckpointError,
        match=r"^\S+: a matcher, not a captioner; load it with cutline\.load_matcher, or use a "
        r"captioning checkpoint$",
    ):
        load_checkpoint(path)
    assert is_matcher(path)
    assert not is_matcher(captioner)


def test_settings_of_a_matcher_do_not_fit_a_captioner(
    matcher: Matcher, make_checkpoint: Callable[..., Checkpoint[Any]], tmp_path: Path
) -> None:
    file = save(tmp_path / "captioner", make_checkpoint(), "salesforce")
    config: Any = matcher.config
    for load in (load_checkpoint, load_config):
        with pytest.raises(ConfigError, match="give a CaptionConfig"):
            load(file, config)


def test_pretrained_files_contain_both_kinds(
    file: Path, matcher: Matcher, make_checkpoint: Callable[..., Checkpoint[Any]], tmp_path: Path
) -> None:
    captioner = make_checkpoint()
    decoder = read_weights(save(tmp_path / "captioner", captioner, "salesforce"))
    edit(file, lambda weights: weights.update(decoder))
    edit(file, lambda weights: weights.update(dict.fromkeys(TRAINING_ONLY[:9], torch.zeros(3))))
    read = load_matcher_checkpoint(file, captioner.config)
    assert read.weights["text.token_embed.weight"].equal(matcher.weights["text.token_embed.weight"])
    with pytest.raises(CheckpointError, match=r"\(unexpected: text_encoder\.embeddings\.word"):
        load_checkpoint(file, captioner.config)
    partial = load_checkpoint(file, captioner.config, partial=True)
    assert are_equal(partial.weights, captioner.weights)
    assert "vision_proj_m.weight" in partial.extra_weights
    assert is_matcher(file)


def test_files_of_neither_kind_are_errors(tmp_path: Path, tokenizer: Tokenizer) -> None:
    torch.save({"model": {"a": torch.zeros(2)}}, tmp_path / "model.pth")
    assert not is_matcher(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"not a BLIP matcher \(visual_encoder\.patch_embed"):
        load_matcher_checkpoint(tmp_path / "model.pth")
    (tmp_path / "folder").mkdir()
    values = {"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}
    (tmp_path / "folder" / "config.json").write_text(json.dumps(values))
    with pytest.raises(
        CheckpointError, match=r"the model is a BlipForQuestionAnswering; use a matcher, BlipForIm"
    ):
        load_matcher_checkpoint(tmp_path / "folder")
    values["model_type"] = "gpt2"
    (tmp_path / "folder" / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=r"not a BLIP matcher \(model_type gpt2\); use the f"):
        load_matcher_checkpoint(tmp_path / "folder")
    with pytest.raises(CheckpointError, match=r"^\S+gone: no such file or folder"):
        load_matcher_checkpoint(tmp_path / "gone")


@pytest.mark.parametrize("value", ["reader", ["x"], None, 3])
def test_a_kind_of_model_of_a_later_version_is_an_error(
    value: Any, matcher: Matcher, tmp_path: Path
) -> None:
    path = save(tmp_path, matcher, "cutline")
    values = json.loads((path / "config.json").read_text()) | {"model": value}
    (path / "config.json").write_text(json.dumps(values))
    assert not is_matcher(path)
    for load in (load_checkpoint, load_matcher_checkpoint):
        with pytest.raises(
            CheckpointError, match=r"config\.json: contains a [^\n]*, which .*; upgrade cutline$"
        ):
            load(path)


class MaliciousObject:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from a file ran",)


def test_code_in_a_pickle_is_not_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": read_weights(file), "args": MaliciousObject()}, file)
    with pytest.raises(CheckpointError, match=r"print, which cannot be loaded without running cod"):
        cutline.load_matcher(file)
    assert "ran" not in capsys.readouterr().out


@ALL_FORMATS
@pytest.mark.parametrize("part", [0, 0.5, 0.999])
def test_truncated_files_are_errors(
    format: CheckpointFormat, part: float, matcher: Matcher, tmp_path: Path
) -> None:
    path = save(tmp_path, matcher, format)
    weights = path if path.is_file() else path / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(CheckpointError, match=r"^[^\n]*: not a complete (safetensors )?file"):
        load_matcher_checkpoint(path)


def test_weights_of_another_matcher_are_an_error(matcher: Matcher, tmp_path: Path) -> None:
    path = save(tmp_path, matcher, "cutline")
    weights = read_weights(path)
    weights["text_proj.weight"] = torch.zeros(5, 20)
    save_file(weights, path / "model.safetensors")
    with pytest.raises(
        CheckpointError, match=r"wrong shape: text_proj\.weight \(5, 20\) instead of \(6, 20\)"
    ):
        load_matcher_checkpoint(path)


# --- convert


def convert(path: Path, out: Path, format: str) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["convert", str(path), str(out), "--to", format])
    assert exit_info.value.code == 0


def test_convert_detects_matchers(
    matcher: Matcher, make_checkpoint: Callable[..., Checkpoint[Any]], tmp_path: Path
) -> None:
    path: Path = tmp_path / "model.pth"
    save_checkpoint(path, matcher, "salesforce")
    for name, format in (("a", "cutline"), ("b", "huggingface"), ("c.pth", "salesforce")):
        convert(path, tmp_path / name, format)
        path = tmp_path / name
    assert are_equal(read_weights(path), read_weights(tmp_path / "model.pth"))
    save_checkpoint(tmp_path / "captioner", make_checkpoint())
    convert(tmp_path / "captioner", tmp_path / "hf", "huggingface")
    assert load_checkpoint(tmp_path / "hf").config == make_checkpoint().config
