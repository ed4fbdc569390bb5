"""Hugging Face folders, against transformers."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from blip_models import TEXT, VISION, make_blip_model, save_blip_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutline.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    save_checkpoint,
    save_native,
)
from cutline.checkpoint.huggingface_config import check_token_ids, parse_huggingface_config
from cutline.checkpoint.kinds import CAPTIONER
from cutline.config import CaptionConfig, ImageConfig, TextConfig, VisionConfig
from cutline.errors import CheckpointError, ConfigError
from cutline.tokenizer import Tokenizer

parse_config = partial(parse_huggingface_config, kind=CAPTIONER)
MakeCheckpoint = Callable[..., Checkpoint]
Inputs = dict[str, Tensor]


@pytest.fixture(scope="module")
def reference_model(blip: Any, tokenizer: Tokenizer) -> Any:
    """Make a captioner in transformers with random weights."""
    text = TEXT | {
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.dec_id,
        "sep_token_id": tokenizer.sep_id,
        "label_smoothing": 0.1,
    }
    config = blip.BlipConfig(vision_config=VISION, text_config=text)
    return make_blip_model(blip.modeling_blip.BlipForConditionalGeneration, config)


@pytest.fixture
def folder(reference_model: Any, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    return save_blip_model(tmp_path / "reference", reference_model, tokenizer)


@pytest.fixture(scope="module")
def inputs(tokenizer: Tokenizer) -> Inputs:
    random = torch.Generator().manual_seed(1)
    ids = torch.randint(5, tokenizer.vocab_size, (3, 9), generator=random)
    mask = torch.arange(9) < torch.tensor([9, 6, 4])[:, None]
    labels = ids.where(mask & (torch.arange(9) > 2), -100)
    return {
        "pixel_values": torch.randn(3, 3, 12, 12, generator=random),
        "input_ids": ids.where(mask, tokenizer.pad_id),
        "attention_mask": mask.long(),
        "labels": labels,
    }


def assert_equal_outputs(reference: Any, checkpoint: Checkpoint, inputs: Inputs) -> None:
    model = build_model(checkpoint)
    with torch.no_grad():
        expected = reference(**inputs)
        actual = model(**inputs, reduction="mean", return_logits=True)
        embeds = model.vision(inputs["pixel_values"])
    mask = inputs["attention_mask"][:, :-1].bool()
    torch.testing.assert_close(embeds, expected.image_embeds, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        actual.logits[mask], expected.logits[:, :-1][mask], atol=1e-4, rtol=1e-5
    )
    torch.testing.assert_close(actual.loss, expected.loss, atol=0, rtol=1e-5)


def edit(
    folder: Path, change: Callable[[dict[str, Any]], object], name: str = "config.json"
) -> None:
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


# --- parity


def test_reference_model_loaded_here(reference_model: Any, folder: Path, inputs: Inputs) -> None:
    checkpoint = load_checkpoint(folder)
    assert checkpoint.config == CaptionConfig(
        vision=VisionConfig(
            image_size=12,
            patch_size=4,
            embed_dim=24,
            depth=2,
            num_heads=3,
            mlp_ratio=1.5,
            layer_norm_eps=1e-5,
        ),
        text=TextConfig(
            vocab_size=checkpoint.tokenizer.vocab_size,
            embed_dim=40,
            depth=3,
            num_heads=8,
            mlp_dim=28,
            max_positions=17,
            dropout=0,
            attn_dropout=0,
        ),
        label_smoothing=0.1,
    )
    assert_equal_outputs(reference_model, checkpoint, inputs)


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_saved_model_loaded_in_transformers(
    blip: Any, eps: float, inputs: Inputs, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    config = make_checkpoint().config
    config = replace(
        config,
        vision=replace(config.vision, layer_norm_eps=eps),
        text=replace(config.text, layer_norm_eps=eps),
    )
    checkpoint = make_checkpoint(config)
    save_checkpoint(tmp_path / "saved", checkpoint, "huggingface")
    reference, loading_info = blip.modeling_blip.BlipForConditionalGeneration.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(loading_info.values())
    assert reference.dtype == torch.float32
    assert_equal_outputs(reference.eval(), checkpoint, inputs)


def test_saved_model_read_by_the_processor_of_transformers(
    blip: Any, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    from transformers import AutoProcessor

    checkpoint = make_checkpoint()
    save_checkpoint(tmp_path / "saved", checkpoint, "huggingface")
    for kind in (blip.processing_blip.BlipProcessor, AutoProcessor):
        processor = kind.from_pretrained(tmp_path / "saved")
        text = "two REDDISH dogs, a zebra"
        assert processor.tokenizer(text)["input_ids"] == checkpoint.tokenizer.encode_text(text)
        assert processor.tokenizer.pad_token_id == checkpoint.tokenizer.pad_id
        assert processor.tokenizer.convert_tokens_to_ids("[DEC]") == checkpoint.tokenizer.dec_id
        assert tuple(processor.image_processor.image_mean) == checkpoint.config.image.mean
        assert tuple(processor.image_processor.image_std) == checkpoint.config.image.std
        pixels = processor(
            images=torch.full((3, 9, 7), 51, dtype=torch.uint8), return_tensors="pt"
        )["pixel_values"]
        expected = [
            (0.2 - mean) / std
            for mean, std in zip(
                checkpoint.config.image.mean, checkpoint.config.image.std, strict=True
            )
        ]
        assert pixels.shape == (1, 3, 12, 12)
        torch.testing.assert_close(pixels.mean((0, 2, 3)), torch.tensor(expected))


def test_saved_model_generates_in_transformers(
    blip: Any, inputs: Inputs, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint(tmp_path / "saved", checkpoint, "huggingface")
    reference = blip.modeling_blip.BlipForConditionalGeneration.from_pretrained(
        tmp_path / "saved"
    ).eval()
    ids = reference.generate(inputs["pixel_values"], max_length=6, num_beams=1, do_sample=False)
    model = build_model(checkpoint)
    with torch.no_grad():
        embeds = model.vision(inputs["pixel_values"])
        expected = torch.full((3, 1), checkpoint.tokenizer.dec_id)
        for _ in range(5):
            best = model.text.compute_logits(model.text(expected, None, embeds)[:, -1]).argmax(-1)
            expected = torch.cat([expected, best[:, None]], dim=1)
    assert (
        checkpoint.tokenizer.sep_id not in expected
    )  # otherwise rows would end at different lengths
    assert torch.equal(ids, expected)


# --- round trips


def have_equal_weights(left: Path, right: Path) -> bool:
    before, after = (load_file(folder / "model.safetensors") for folder in (left, right))
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )


def test_round_trip_is_the_identity(folder: Path, tmp_path: Path) -> None:
    save_native(tmp_path / "native", load_checkpoint(folder))
    save_checkpoint(tmp_path / "again", load_checkpoint(tmp_path / "native"), "huggingface")
    assert have_equal_weights(folder, tmp_path / "again")
    assert load_checkpoint(tmp_path / "again").config == load_checkpoint(folder).config


def test_round_trip_through_all_formats(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pth", load_checkpoint(folder), "salesforce")
    save_checkpoint(tmp_path / "native", load_checkpoint(tmp_path / "model.pth"), "cutline")
    save_checkpoint(tmp_path / "again", load_checkpoint(tmp_path / "native"), "huggingface")
    assert have_equal_weights(folder, tmp_path / "again")


def test_round_trip_keeps_all_settings(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()  # has a prompt and a drop_path, which transformers does not know
    save_checkpoint(tmp_path / "saved", checkpoint, "huggingface")
    assert load_checkpoint(tmp_path / "saved").config == checkpoint.config


def test_round_trip_through_transformers_keeps_all_settings(
    blip: Any, tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint(tmp_path / "saved", checkpoint, "huggingface")
    reference = blip.modeling_blip.BlipForConditionalGeneration.from_pretrained(tmp_path / "saved")
    reference.save_pretrained(tmp_path / "reference")
    blip.processing_blip.BlipProcessor.from_pretrained(tmp_path / "saved").save_pretrained(
        tmp_path / "reference"
    )
    # transformers 5 writes processor_config.json instead
    assert not (tmp_path / "reference" / "preprocessor_config.json").exists()
    read = load_checkpoint(tmp_path / "reference")
    assert read.config == checkpoint.config
    assert all(
        torch.equal(read.weights[name], weight) for name, weight in checkpoint.weights.items()
    )


# --- contents of a folder


def test_sharded_weights(reference_model: Any, folder: Path, tmp_path: Path) -> None:
    expected = load_checkpoint(folder)
    reference_model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shutil.copy(folder / "tokenizer.json", tmp_path / "shards")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    read = load_checkpoint(tmp_path / "shards")
    assert all(torch.equal(read.weights[name], weight) for name, weight in expected.weights.items())
    shard = next((tmp_path / "shards").glob("model-00002*"))
    shard.unlink()
    with pytest.raises(
        CheckpointError,
        match=rf"{shard.name}: cannot be read \(No such file or directory.*\); use a complete "
        rf"model$",
    ):
        load_checkpoint(tmp_path / "shards")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "../model/x", "."])
def test_a_shard_in_another_folder_is_an_error(folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match=r"index\.json: names the file '.*', which is not in"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"architectures": 3},
        {"vision_config": {"image_size": []}},
        {"vision_config": {"image_size": [{}, []]}},
        {"vision_config": {"intermediate_size": 10**400}},
        {"vision_config": {"intermediate_size": []}},
    ],
)
def test_hostile_config_is_an_error(values: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"^c\.json: [^\n]*$"):
        parse_config(values, "c.json")


def test_pickle_with_copies_and_buffers_of_old_versions(reference_model: Any, folder: Path) -> None:
    expected = load_checkpoint(folder)
    state = dict(reference_model.state_dict()) | {
        "text_decoder.bert.embeddings.position_ids": torch.arange(17)[None]
    }
    assert "text_decoder.cls.predictions.decoder.weight" in state
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    for path in (folder, folder / "pytorch_model.bin"):
        read = load_checkpoint(path)
        assert all(
            torch.equal(read.weights[name], weight) for name, weight in expected.weights.items()
        )
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"reference: contains neither model\.safetensors nor pytorch_model\.bin; use a "
        r"complete model folder$",
    ):
        load_checkpoint(folder)


def test_vocabulary_without_dec_and_enc(folder: Path, tokenizer: Tokenizer) -> None:
    tokens = [
        token
        for token in tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size))
        if token not in ("[DEC]", "[ENC]")
    ]
    (folder / "tokenizer.json").unlink()
    with pytest.raises(
        CheckpointError,
        match=r"reference: the folder contains neither tokenizer\.json nor vocab\.txt",
    ):
        load_checkpoint(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    assert load_checkpoint(folder).tokenizer.dec_id == tokenizer.dec_id
    (folder / "vocab.txt").write_text("\n".join(tokens[:-1]) + "\n")
    size = tokenizer.vocab_size
    with pytest.raises(
        CheckpointError,
        match=rf"reference: the vocabulary has {size - 1} tokens, but the model has {size}; use "
        rf"the",
    ):
        load_checkpoint(folder)


def test_a_model_without_an_embedding_of_dec_is_refused(folder: Path, tokenizer: Tokenizer) -> None:
    size = tokenizer.vocab_size - 2
    edit(folder, lambda values: values["text_config"].update(vocab_size=size, bos_token_id=2))
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.endswith(
            ("word_embeddings.weight", "predictions.bias", "predictions.decoder.bias")
        ):
            weights[name] = weights[name][:size].clone()
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=rf"reference: the model has {size} embeddings, none of which is for \[DEC\], the ",
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize(("name", "token"), [("bos_token_id", "[DEC]"), ("sep_token_id", "[SEP]")])
@pytest.mark.parametrize("value", [2, None, "missing"])
def test_other_tokens_at_the_ends_of_captions_are_refused(
    folder: Path, tokenizer: Tokenizer, name: str, token: str, value: int | str | None
) -> None:
    """Transformers takes them from config.json, cutline from the vocabulary."""
    assert load_checkpoint(folder)
    edit(folder, lambda values: values["text_config"].update({name: value}))
    if value == "missing":
        edit(folder, lambda values: values["text_config"].pop(name))
    value = value if value == 2 else {"bos_token_id": 30522, "sep_token_id": 102}[name]
    expected = {"[DEC]": tokenizer.dec_id, "[SEP]": tokenizer.sep_id}[token]
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    assert f"config.json: text_config.{name} is {value}, but captions " in str(error.value)
    assert f" with {token}, which is {expected} in the vocabulary; " in str(error.value)


def test_tokens_of_published_captioners_are_accepted(blip: Any, tmp_path: Path) -> None:
    tokens = [f"[unused{index}]" for index in range(30522)]
    for index, token in ((0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]")):
        tokens[index] = token
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    tokenizer = Tokenizer.load(tmp_path)
    for text_config in ({}, {"bos_token_id": 30522, "sep_token_id": 102}, blip.BlipTextConfig()):
        values = text_config if isinstance(text_config, dict) else text_config.to_dict()
        (tmp_path / "config.json").write_text(json.dumps({"text_config": values}))
        check_token_ids(tmp_path, tokenizer)


# --- config


def test_missing_settings_have_the_defaults_of_transformers(blip: Any) -> None:
    reference = blip.BlipConfig().to_dict()
    assert parse_config({}, "config.json") == parse_config(reference, "config.json")
    for side in ("vision_config", "text_config"):
        for name in reference[side]:
            others = {
                **reference,
                side: {key: value for key, value in reference[side].items() if key != name},
            }
            assert parse_config(others, "config.json") == parse_config(reference, "config.json"), (
                name
            )


def test_published_config_with_unrelated_keys() -> None:
    """The config has the keys of Salesforce/blip-image-captioning-base (transformers 4.26)."""
    unrelated = {
        "_name_or_path": "",
        "add_cross_attention": False,
        "architectures": None,
        "bad_words_ids": None,
        "max_length": 20,
        "num_beams": 1,
        "id2label": {"0": "LABEL_0"},
        "torch_dtype": None,
        "transformers_version": "4.26.0.dev0",
        "pruned_heads": {},
    }
    text = {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "is_decoder": True,
        "bos_token_id": 30522,
        "eos_token_id": 2,
        "vocab_size": 30524,
    }
    vision = {
        "dropout": 0.0,
        "layer_norm_eps": 1e-05,
        "num_channels": 3,
        "image_size": 384,
        "hidden_act": "gelu",
    }
    values = {
        "_commit_hash": None,
        "architectures": ["BlipForConditionalGeneration"],
        "model_type": "blip",
        "torch_dtype": "float32",
    }
    expected = CaptionConfig(
        vision=VisionConfig(layer_norm_eps=1e-5),
        text=TextConfig(dropout=0.0, attn_dropout=0.0),
        label_smoothing=0.0,
    )
    for suffix in ("", "_dict"):
        sides = {
            f"text_config{suffix}": {**unrelated, **text},
            f"vision_config{suffix}": {**unrelated, **vision},
        }
        assert parse_config({**values, **sides}, "config.json") == expected


def test_sizes_can_be_square_pairs() -> None:
    read = parse_config(
        {"vision_config": {"image_size": [224, 224], "patch_size": [14, 14]}}, "config.json"
    ).vision
    assert (read.image_size, read.patch_size) == (224, 14)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"architectures": ["BlipForQuestionAnswering"]},
            "c.json: the model is a BlipForQuestionAnswering; use a captioner, BlipForCond",
        ),
        (
            {"text_config": {"hidden_act": "relu"}},
            "c.json: text_config has hidden_act 'relu', but BLIP's is 'gelu'; use another model",
        ),
        (
            {"vision_config": {"hidden_act": "quick_gelu"}},
            "c.json: vision_config has hidden_act 'quick_gelu', but BLIP's is 'gelu'",
        ),
        (
            {"vision_config": {"image_size": [224, 384]}},
            r"c.json: image_size \[224, 384\] is not square; use a model of square images",
        ),
        ({"vision_config": 3}, "c.json: vision_config is not an object; copy the file again"),
        (
            {"vision_config": {"intermediate_size": "many"}},
            "c.json: vision_config.intermediate_size is 'many'; use an integer",
        ),
    ],
)
def test_config_of_another_model_is_an_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{message}"):
        parse_config(values, "c.json")


def test_config_with_wrong_types_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^c\.json: text\.depth must be an integer, not '12'$"):
        parse_config({"text_config": {"num_hidden_layers": "12"}}, "c.json")
    with pytest.raises(
        ConfigError, match=r"^c\.json: text\.embed_dim 100 is not a multiple of num_heads 8"
    ):
        parse_config({"text_config": {"hidden_size": 100}}, "c.json")


def test_config_that_does_not_fit_the_weights_is_an_error(folder: Path) -> None:
    edit(folder, lambda values: values["vision_config"].update(hidden_size=27))
    with pytest.raises(
        CheckpointError,
        match=r"crossattention\.self\.key\.weight \(40, 24\) instead of \(40, 27\)|and \d+ more",
    ):
        load_checkpoint(folder)


# --- images


@pytest.mark.parametrize("size", [{"height": 9, "width": 9}, {"height": 12, "width": 9}, 9])
def test_model_determines_the_image_size(
    size: object, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": size, "image_mean": [0.1, 0.2, 0.3]})
    )
    with caplog.at_level(logging.WARNING):
        config = load_checkpoint(folder).config
    assert config.vision.image_size == 12
    assert config.image == ImageConfig(mean=(0.1, 0.2, 0.3))
    assert [
        record.getMessage().startswith(str(folder / "preprocessor_config.json"))
        for record in caplog.records
    ] == [True]


@pytest.mark.parametrize("size", [{"height": 12, "width": 12}, 12])
def test_matching_image_size_logs_nothing(
    size: object, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    assert load_checkpoint(folder).config.image == ImageConfig()
    assert not caplog.records


def test_images_without_normalization(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_normalize": False, "image_mean": [0.1, 0.2, 0.3]})
    )
    assert load_checkpoint(folder).config.image == ImageConfig(mean=(0, 0, 0), std=(1, 1, 1))


def test_invalid_image_settings_are_an_error(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_std": [1.0, 0.0, 1.0]}))
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json: std must be between"):
        load_checkpoint(folder)


# --- faults


def test_weights_that_do_not_fit_are_an_error(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    bias = "text_decoder.cls.predictions.decoder.bias"
    save_file(
        {**weights, bias: weights["text_decoder.cls.predictions.bias"] + 1},
        folder / "model.safetensors",
    )
    with pytest.raises(
        CheckpointError,
        match=rf"reference: {bias} differs from text_decoder\.cls\.predictions\.bias, .* in the "
        rf"library that",
    ):
        load_checkpoint(folder)
    save_file({"text_encoder.x": torch.zeros(1), **weights}, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=r"reference: the weights do not fit a model with these sizes \(unexpected: "
        r"text_encoder\.x\);",
    ):
        load_checkpoint(folder)
    assert load_checkpoint(folder, partial=True).extra_weights == ("text_encoder.x",)


def test_index_without_weights_is_an_error(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(
        CheckpointError,
        match=r"model\.safetensors\.index\.json: lists no weights; copy the file again$",
    ):
        load_checkpoint(folder)
