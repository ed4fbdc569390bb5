"""BLIP's .pth files."""

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_folder import GoldenFolder
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cutline.checkpoint import (
    Checkpoint,
    build_model,
    compute_weight_shapes,
    load_checkpoint,
    save_checkpoint,
    save_native,
)
from cutline.checkpoint.kinds import CAPTIONER
from cutline.checkpoint.names import SALESFORCE
from cutline.checkpoint.salesforce_config import infer_config
from cutline.checkpoint.weights import export_weights
from cutline.config import PRESETS, CaptionConfig, TextConfig, VisionConfig, to_dict
from cutline.errors import CheckpointError
from cutline.tokenizer import Tokenizer

MakeCheckpoint = Callable[..., Checkpoint]
SIZE_MESSAGE = (
    r"model\.pth: its position embeddings are for images of 12 x 12, but the config says 16; "
    r"set image_size to 16 to interpolate them, or to 12 to keep them$"
)


@pytest.fixture
def file(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> Path:
    """Write a .pth file as BLIP's code does, with the vocabulary beside it."""
    save_checkpoint(tmp_path / "model.pth", make_checkpoint(), "salesforce")
    content = torch.load(tmp_path / "model.pth", weights_only=True)
    torch.save(
        {"model": content["model"], "optimizer": {}, "config": {"vit": "large"}, "epoch": 0},
        tmp_path / "model.pth",
    )
    return tmp_path / "model.pth"


@pytest.fixture
def own_config(make_checkpoint: MakeCheckpoint) -> CaptionConfig:
    return make_checkpoint().config


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    content: dict[str, torch.Tensor] = torch.load(file, weights_only=True)["model"]
    return content


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = read_weights(file)
    change(weights)
    torch.save({"model": weights}, file)


# --- round trips


def test_round_trip_is_the_identity(file: Path, own_config: CaptionConfig, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(file, own_config)
    save_native(tmp_path / "native", checkpoint)
    save_checkpoint(tmp_path / "again.pth", load_checkpoint(tmp_path / "native"), "salesforce")
    before, after = read_weights(file), read_weights(tmp_path / "again.pth")
    assert before.keys() == after.keys()
    assert all(
        before[name].dtype == after[name].dtype and torch.equal(before[name], after[name])
        for name in before
    )


def test_files_written_by_cutline_load_without_arguments(
    tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint(tmp_path / "model.pth", checkpoint, "salesforce")
    read = load_checkpoint(tmp_path / "model.pth")
    assert read.config == checkpoint.config
    assert read.extra_weights == ()
    tokens = checkpoint.tokenizer.convert_ids_to_tokens(range(20))
    assert read.tokenizer.convert_ids_to_tokens(range(20)) == tokens


def test_tied_tensors_are_stored_once(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    save_checkpoint(tmp_path / "model.pth", make_checkpoint(), "salesforce")
    weights = read_weights(tmp_path / "model.pth")
    for copy, original in SALESFORCE.copies.items():
        assert weights[copy].data_ptr() == weights[original].data_ptr()
    assert torch.equal(weights["text_decoder.bert.embeddings.position_ids"], torch.arange(17)[None])


@pytest.mark.parametrize(
    "wrap", [lambda weights: weights, lambda weights: {"model": weights}], ids=["bare", "model"]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_bare_and_nested_weights_of_both_pickle_formats(
    wrap: Any, zipped: bool, file: Path, own_config: CaptionConfig
) -> None:
    before = load_checkpoint(file, own_config).weights["text.norm.bias"].clone()
    torch.save(wrap(read_weights(file)), file, _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_checkpoint(file, own_config).weights["text.norm.bias"], before)


def test_safetensors_with_the_same_names(file: Path, own_config: CaptionConfig) -> None:
    weights = {
        name: tensor for name, tensor in read_weights(file).items() if name not in SALESFORCE.copies
    }
    save_file(weights, file.with_suffix(".safetensors"))
    assert load_checkpoint(file.with_suffix(".safetensors"), own_config).config == own_config


def test_strided_weights_become_contiguous(file: Path, own_config: CaptionConfig) -> None:
    name = "visual_encoder.blocks.0.mlp.fc1.weight"
    edit(file, lambda weights: weights.update({name: weights[name].t().contiguous().t()}))
    weight = load_checkpoint(file, own_config).weights["vision.blocks.0.mlp.fc1.weight"]
    assert weight.is_contiguous()
    assert torch.equal(weight, read_weights(file)[name])


# --- config


def test_config_from_a_json_file(
    file: Path, own_config: CaptionConfig, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    (tmp_path / "sizes.json").write_text(json.dumps(to_dict(own_config)))
    save_native(tmp_path / "native", make_checkpoint())
    for config in (tmp_path / "sizes.json", str(tmp_path / "native" / "config.json")):
        assert load_checkpoint(file, config).config == own_config


def test_invalid_config_is_an_error(
    file: Path, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"^huge: neither a preset nor a JSON file of settings; use one of tiny, base, "
        r"large, or ",
    ):
        load_checkpoint(file, "huge")
    save_native(tmp_path / "native", make_checkpoint())
    with pytest.raises(
        CheckpointError, match=r"native: a model folder contains its own config; remove `config`"
    ):
        load_checkpoint(tmp_path / "native", "base")


def test_preset_of_other_sizes_is_an_error_with_both_shapes(file: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"visual_encoder\.cls_token \(1, 1, 24\) instead of \(1, 1, 768\), .* and \d+ more",
    ):
        load_checkpoint(file, "base", image_size=384)


@pytest.mark.parametrize("size", ["base", "large"])
@pytest.mark.parametrize("image_size", [224, 384, 480])
def test_published_sizes_are_inferred(size: str, image_size: int) -> None:
    preset = PRESETS[size]
    config = replace(preset, vision=replace(preset.vision, image_size=image_size))
    weights = {
        name: torch.empty(shape, device="meta")
        for name, shape in compute_weight_shapes(config).items()
    }
    assert infer_config(export_weights(weights, SALESFORCE), "file", CAPTIONER) == config


@settings(max_examples=10, deadline=None)
@given(
    heads=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    depths=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    mlp=st.integers(1, 300),
)
def test_sizes_are_inferred_for_heads_of_width_64(
    heads: tuple[int, int], depths: tuple[int, int], mlp: int
) -> None:
    vision = VisionConfig(
        image_size=6,
        patch_size=2,
        embed_dim=64 * heads[0],
        depth=depths[0],
        num_heads=heads[0],
        mlp_ratio=2.5,
    )
    text = TextConfig(
        vocab_size=7,
        embed_dim=64 * heads[1],
        depth=depths[1],
        num_heads=heads[1],
        mlp_dim=mlp,
        max_positions=9,
    )
    config = CaptionConfig(vision=vision, text=text)
    weights = {
        name: torch.empty(shape, device="meta")
        for name, shape in compute_weight_shapes(config).items()
    }
    assert infer_config(export_weights(weights, SALESFORCE), "file", CAPTIONER) == config


def test_unknown_number_of_heads_is_an_error(file: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"model\.pth: the number of attention heads cannot be inferred from embed_dim 24; "
        r"give sizes in `config`$",
    ):
        load_checkpoint(file)


def test_file_without_a_captioner_is_an_error(file: Path) -> None:
    edit(file, lambda weights: weights.pop("visual_encoder.pos_embed"))
    with pytest.raises(
        CheckpointError,
        match=r"not a BLIP captioner \(visual_encoder\.pos_embed is missing or has another shape\)",
    ):
        load_checkpoint(file)


# --- image size


def test_positions_are_interpolated_only_on_request(file: Path, own_config: CaptionConfig) -> None:
    larger = replace(own_config, vision=replace(own_config.vision, image_size=16))
    with pytest.raises(CheckpointError, match=SIZE_MESSAGE):
        load_checkpoint(file, larger)
    for config in (own_config, larger):
        read = load_checkpoint(file, config, image_size=16)
        assert read.config == larger
        assert read.weights["vision.pos_embed"].shape == (1, 17, 24)
        build_model(read)
    stored = load_checkpoint(file, larger, image_size=12)
    assert stored.config == own_config
    assert torch.equal(
        stored.weights["vision.pos_embed"], read_weights(file)["visual_encoder.pos_embed"]
    )


def test_positions_that_are_not_square_are_an_error(file: Path, own_config: CaptionConfig) -> None:
    edit(file, lambda weights: weights.update({"visual_encoder.pos_embed": torch.zeros(1, 12, 24)}))
    with pytest.raises(
        CheckpointError, match=r"visual_encoder\.pos_embed \(1, 12, 24\) instead of \(1, 10, 24\)"
    ):
        load_checkpoint(file, own_config)


# --- vocabulary


def test_vocabulary_beside_the_file_is_used(
    file: Path, own_config: CaptionConfig, tokenizer: Tokenizer
) -> None:
    file.with_suffix(".tokenizer.json").rename(file.with_name("tokenizer.json"))
    assert load_checkpoint(file, own_config).tokenizer.vocab_size == tokenizer.vocab_size
    file.with_name("tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"model\.pth: contains no vocabulary; name its vocab\.txt or tokenizer\.json in "
        r"`tokenizer`, or put it beside the file",
    ):
        load_checkpoint(file, own_config)
    tokens = [
        token
        for token in tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))
        if token not in ("[DEC]", "[ENC]")
    ]
    # the published vocab.txt lacks [DEC] and [ENC]
    file.with_name("vocab.txt").write_text("\n".join(tokens) + "\n")
    assert load_checkpoint(file, own_config).tokenizer.vocab_size == tokenizer.vocab_size


def test_vocabulary_of_another_size_is_an_error(
    file: Path, own_config: CaptionConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "other.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ndog\n")
    with pytest.raises(
        CheckpointError,
        match=rf"other\.txt: the vocabulary has 7 tokens, but the model has "
        rf"{tokenizer.vocab_size}; use",
    ):
        load_checkpoint(file, own_config, tokenizer=tmp_path / "other.txt")


# --- faults


class MaliciousObject:
    """An object whose pickle runs code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from a file ran",)


def test_code_in_a_pickle_is_not_run(
    file: Path, own_config: CaptionConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": read_weights(file), "args": MaliciousObject()}, file)
    message = (
        r"^[^\n]*model\.pth: contains \S*print, which cannot be loaded without running code, and "
        r"cutline never runs code from files; if you trust the file, save only its weights with "
        r'torch\.save\(\{"model": weights\}, path\)$'
    )
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(file, own_config)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"", b"no pickle at all", pickle.dumps({"model": {}})[:9], "half", "half, old"]
)
def test_damaged_file_is_an_error(
    content: bytes | str, file: Path, own_config: CaptionConfig
) -> None:
    if isinstance(content, str):
        torch.save(read_weights(file), file, _use_new_zipfile_serialization="old" not in content)
        content = file.read_bytes()[: file.stat().st_size // 2]
    file.write_bytes(content)
    with pytest.raises(
        CheckpointError,
        match=r"^[^\n]*model\.pth: not a complete file of weights; download or copy it again$",
    ):
        load_checkpoint(file, own_config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            torch.zeros(2),
            "contains a Tensor, not a dictionary of weights; save the model's state_dict",
        ),
        ({"epoch": 3}, "contains no weights; save them with torch"),
        ({"model": {}}, "contains no weights; save them with torch"),
    ],
)
def test_file_without_weights_is_an_error(
    content: object, message: str, file: Path, own_config: CaptionConfig
) -> None:
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=rf"model\.pth: {message}"):
        load_checkpoint(file, own_config)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError,
        match=r"nothing\.pth: no such file or folder; name a model on disk .* or run `cutline "
        r"demo` to train",
    ):
        load_checkpoint(tmp_path / "nothing.pth")


# --- pre-training


def test_extra_weights_are_allowed_only_with_partial(file: Path, own_config: CaptionConfig) -> None:
    extra = {
        "text_encoder.embeddings.position_ids": torch.zeros(1, 3).long(),
        "vision_proj.weight": torch.zeros(2, 2),
        "queue_ptr": torch.zeros(1),
    }
    edit(file, lambda weights: weights.update(extra))
    with pytest.raises(CheckpointError, match=re.escape(f"(unexpected: {', '.join(extra)});")):
        load_checkpoint(file, own_config)
    read = load_checkpoint(file, own_config, partial=True)
    assert read.extra_weights == tuple(extra)
    assert read.weights.keys() == compute_weight_shapes(own_config).keys()
    edit(file, lambda weights: weights.pop("text_decoder.cls.predictions.transform.dense.bias"))
    with pytest.raises(
        CheckpointError,
        match=r"\(missing: text_decoder\.cls\.predictions\.transform\.dense\.bias\)",
    ):
        load_checkpoint(file, own_config, partial=True)


# --- golden


def load_golden(folder: GoldenFolder, image_size: int | None = None) -> Checkpoint:
    return load_checkpoint(folder.checkpoint, folder.config, folder.vocabulary, image_size)


def test_golden_image_embeddings_and_logits(golden_folder: GoldenFolder) -> None:
    model, expected = build_model(load_golden(golden_folder)), golden_folder.tensors
    mask = expected["attention_mask"][:4, :-1].bool()
    with torch.no_grad():
        torch.testing.assert_close(
            model.vision(expected["pixel_values"]), expected["image_embeds"], atol=1e-4, rtol=0
        )
        inputs = [
            expected[name][:4] for name in ("pixel_values", "input_ids", "attention_mask", "labels")
        ]
        logits = model(*inputs, return_logits=True).logits
    torch.testing.assert_close(
        logits[mask], expected["logits_first4"][:, :-1][mask], atol=1e-4, rtol=0
    )


def test_golden_interpolated_image_embeddings(golden_folder: GoldenFolder) -> None:
    name = golden_folder.interpolated
    model = build_model(load_golden(golden_folder, golden_folder.read_json(name)["image_size"]))
    expected = golden_folder.read_tensors(name)
    with torch.no_grad():
        torch.testing.assert_close(
            model.vision(expected["pixel_values"]), expected["image_embeds"], atol=1e-4, rtol=0
        )


def test_golden_file_survives_a_round_trip(golden_folder: GoldenFolder, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "again.pth", load_golden(golden_folder), "salesforce")
    before, after = read_weights(golden_folder.checkpoint), read_weights(tmp_path / "again.pth")
    assert before.keys() == after.keys()
    assert all(
        before[name].dtype == after[name].dtype and torch.equal(before[name], after[name])
        for name in before
    )
