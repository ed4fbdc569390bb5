"""Pretrained weights from a Vision Transformer and from a BERT."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cutline.checkpoint import (
    Checkpoint,
    load_pretrained_text,
    load_pretrained_vision,
)
from cutline.checkpoint.names import TEXT, TEXT_COPIES, VISION, WeightFormat
from cutline.checkpoint.weights import export_weights
from cutline.config import MatchConfig
from cutline.errors import CheckpointError
from cutline.model import CaptionModel, MatchModel, interpolate_pos_embed

MakeCheckpoint = Callable[..., Checkpoint]
EXTRA_OF_VIT = ("head.weight", "head_dist.bias", "pre_logits.fc.weight")


@pytest.fixture
def model(make_checkpoint: MakeCheckpoint) -> CaptionModel:
    torch.manual_seed(0)
    return CaptionModel(make_checkpoint().config)


@pytest.fixture
def vit(make_checkpoint: MakeCheckpoint) -> dict[str, Tensor]:
    weights = {
        name: weight
        for name, weight in make_checkpoint(seed=7).weights.items()
        if name.startswith("vision.")
    }
    return export_weights(weights, WeightFormat(VISION, {}))


@pytest.fixture
def bert(make_checkpoint: MakeCheckpoint) -> dict[str, Tensor]:
    """Make a BERT with its LM head, without [DEC], [ENC] and cross-attention."""
    checkpoint = make_checkpoint(seed=7)
    weights = {
        name: weight for name, weight in checkpoint.weights.items() if name.startswith("text.")
    }
    source = export_weights(weights, WeightFormat(TEXT, TEXT_COPIES))
    source = {name: weight for name, weight in source.items() if "crossattention" not in name}
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.bias"):
        source[name] = source[name][:-2].clone()
    source |= {copy: source[original].clone() for copy, original in TEXT_COPIES.items()}
    extra = {
        "bert.embeddings.token_type_embeddings.weight": torch.zeros(2, 20),
        "bert.pooler.dense.bias": torch.zeros(20),
    }
    return {
        **source,
        **extra,
        "cls.seq_relationship.bias": torch.zeros(2),
        "bert.embeddings.position_ids": torch.arange(17)[None],
    }


def copy_weights(model: CaptionModel) -> dict[str, Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def save_weights(path: Path, weights: dict[str, Tensor], wrap: str = "") -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({wrap: weights, "epoch": 3} if wrap else weights, path)
    return path


# --- vision


@pytest.mark.parametrize(
    ("name", "wrap"),
    [("a.safetensors", ""), ("a.pth", ""), ("a.pth", "model"), ("a.pth", "state_dict")],
)
def test_vit_is_loaded_completely(
    name: str,
    wrap: str,
    model: CaptionModel,
    vit: dict[str, Tensor],
    tmp_path: Path,
    make_checkpoint: Any,
) -> None:
    before, expected = copy_weights(model), make_checkpoint(seed=7).weights
    report = load_pretrained_vision(
        model,
        save_weights(
            tmp_path / name, {**vit, **{extra: torch.zeros(2) for extra in EXTRA_OF_VIT}}, wrap
        ),
    )
    for native, weight in model.state_dict().items():
        assert torch.equal(
            weight, expected[native] if native.startswith("vision.") else before[native]
        )
    assert (report.loaded, report.initialized, sorted(report.unused)) == (
        len(vit),
        (),
        sorted(EXTRA_OF_VIT),
    )
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_positions_are_interpolated_and_the_distillation_token_is_dropped(
    model: CaptionModel, vit: dict[str, Tensor], tmp_path: Path
) -> None:
    grid = torch.randn(1, 26, 24)  # class token and 5 x 5 patches; the model has 3 x 3
    positions = torch.cat([grid[:, :1], torch.full((1, 1, 24), 99.0), grid[:, 1:]], dim=1)
    file = save_weights(
        tmp_path / "deit.pth",
        {**vit, "pos_embed": positions, "dist_token": torch.zeros(1, 1, 24)},
        "model",
    )
    assert load_pretrained_vision(model, file).unused == ("dist_token",)
    assert torch.equal(model.vision.pos_embed, interpolate_pos_embed(grid, 10))


def test_norm_after_pooling_is_not_loaded(
    model: CaptionModel, vit: dict[str, Tensor], tmp_path: Path
) -> None:
    pooled = {re.sub(r"^norm\.", "fc_norm.", name): weight for name, weight in vit.items()}
    before = copy_weights(model)
    report = load_pretrained_vision(model, save_weights(tmp_path / "mae.pth", pooled))
    assert report.initialized == ("vision.norm.weight", "vision.norm.bias")
    assert report.unused == ("fc_norm.weight", "fc_norm.bias")
    assert torch.equal(model.vision.norm.weight, before["vision.norm.weight"])
    assert torch.equal(
        model.state_dict()["vision.blocks.0.attn.qkv.weight"], vit["blocks.0.attn.qkv.weight"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.2.norm1.weight": torch.zeros(24)}, "unexpected: blocks.2.norm1.weight"),
        ({"blocks.0.ls1.gamma": torch.zeros(24)}, "unexpected: blocks.0.ls1.gamma"),
        (
            {"patch_embed.proj.weight": torch.zeros(24, 3, 8, 8)},
            r"wrong shape: patch_embed.proj.weight \(24, 3, 8, 8\) instead of \(24, 3, 4, 4\)",
        ),
        (
            {"pos_embed": torch.zeros(1, 12, 24)},
            r"wrong shape: pos_embed \(1, 12, 24\) instead of \(1, 10, 24\)",
        ),
        (
            {"pos_embed": torch.zeros(1, 10, 23)},
            r"wrong shape: pos_embed \(1, 10, 23\) instead of \(1, 10, 24\)",
        ),
        (
            {"pos_embed": torch.zeros(10, 24)},
            r"wrong shape: pos_embed \(10, 24\) instead of \(1, 10, 24\)",
        ),
        ({"blocks.1.attn.qkv.bias": None}, "missing: blocks.1.attn.qkv.bias"),
        ({"pos_embed": None}, "missing: pos_embed"),
        ({"norm.bias": None}, "missing: norm.bias"),
    ],
)
def test_other_vits_are_errors(
    change: dict[str, Tensor | None],
    message: str,
    model: CaptionModel,
    vit: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    changed = {name: weight for name, weight in {**vit, **change}.items() if weight is not None}
    before = copy_weights(model)
    with pytest.raises(
        CheckpointError,
        match=rf"other\.pth: the weights do not fit a model with these sizes \({message}\)",
    ):
        load_pretrained_vision(model, save_weights(tmp_path / "other.pth", changed))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


# --- text


def assert_text_loaded(
    model: CaptionModel, before: dict[str, Tensor], expected: dict[str, Tensor], fresh: str
) -> None:
    for name, weight in model.state_dict().items():
        if not name.startswith("text.") or re.search(fresh, name):
            assert torch.equal(weight, before[name]), name
        elif name in ("text.token_embed.weight", "text.lm_head.bias"):
            assert torch.equal(weight[:-2], expected[name][:-2])
            assert torch.equal(weight[-2:], before[name][-2:])
        else:
            assert torch.equal(weight, expected[name]), name


@pytest.mark.parametrize("old_names", [False, True])
@pytest.mark.parametrize("file", ["bert.safetensors", "bert.bin"])
def test_bert_is_loaded_with_its_head(
    file: str,
    old_names: bool,
    model: CaptionModel,
    bert: dict[str, Tensor],
    tmp_path: Path,
    make_checkpoint: Any,
) -> None:
    if old_names:
        for new, old in (("weight", "gamma"), ("bias", "beta")):
            pattern = rf"LayerNorm\.{new}$"
            bert = {re.sub(pattern, f"LayerNorm.{old}", name): w for name, w in bert.items()}
    before, fresh = copy_weights(model), r"cross_attn|norm2"
    report = load_pretrained_text(model, save_weights(tmp_path / file, bert))
    assert_text_loaded(model, before, make_checkpoint(seed=7).weights, fresh)
    assert report.loaded == sum(
        name.startswith("text.") and not re.search(fresh, name) for name in before
    )
    assert report.initialized == (
        *(name for name in before if name.startswith("text.") and re.search(fresh, name)),
        "text.token_embed.weight of [DEC] and [ENC]",
    )
    assert sorted(report.unused) == [
        "bert.embeddings.token_type_embeddings.weight",
        "bert.pooler.dense.bias",
        "cls.seq_relationship.bias",
    ]


@pytest.mark.parametrize("prefix", [True, False])
def test_bert_without_a_head(
    prefix: bool, model: CaptionModel, bert: dict[str, Tensor], tmp_path: Path, make_checkpoint: Any
) -> None:
    body = {
        name if prefix else name.removeprefix("bert."): weight
        for name, weight in bert.items()
        if name.startswith("bert.")
    }
    before = copy_weights(model)
    report = load_pretrained_text(model, save_weights(tmp_path / "bert.bin", body))
    assert_text_loaded(model, before, make_checkpoint(seed=7).weights, r"cross_attn|norm2|lm_head")
    assert {"text.lm_head.bias", "text.lm_head.dense.weight"} <= set(report.initialized)


def test_bert_with_the_complete_vocabulary(
    model: CaptionModel, bert: dict[str, Tensor], tmp_path: Path, make_checkpoint: Any
) -> None:
    expected = make_checkpoint(seed=7).weights
    body = {name: weight for name, weight in bert.items() if name.startswith("bert.")}
    report = load_pretrained_text(
        model,
        save_weights(
            tmp_path / "a.bin",
            {**body, "bert.embeddings.word_embeddings.weight": expected["text.token_embed.weight"]},
        ),
    )
    assert torch.equal(model.text.token_embed.weight, expected["text.token_embed.weight"])
    assert not any("[DEC]" in name for name in report.initialized)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"bert.encoder.layer.3.output.dense.bias": torch.zeros(20)},
            "unexpected: bert.encoder.layer.3.output.dense.bias",
        ),
        (
            {"bert.embeddings.position_embeddings.weight": torch.zeros(512, 20)},
            r"wrong shape: \S+ \(512, 20\) instead of \(17, 20\)",
        ),
        ({"bert.embeddings.LayerNorm.weight": None}, "missing: bert.embeddings.LayerNorm.weight"),
        (
            {"bert.encoder.layer.1.attention.self.key.weight": torch.zeros(20, 9)},
            r"wrong shape: \S+key.weight \(20, 9\) instead of \(20, 20\)",
        ),
    ],
)
def test_other_berts_are_errors(
    change: dict[str, Tensor | None],
    message: str,
    model: CaptionModel,
    bert: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    changed = {name: weight for name, weight in {**bert, **change}.items() if weight is not None}
    with pytest.raises(
        CheckpointError,
        match=rf"other\.bin: the weights do not fit a model with these sizes \({message}\)",
    ):
        load_pretrained_text(model, save_weights(tmp_path / "other.bin", changed))


def test_vocabulary_of_another_size_is_an_error(
    model: CaptionModel, bert: dict[str, Tensor], tmp_path: Path
) -> None:
    rows = model.config.text.vocab_size
    for name in ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"):
        bert[name] = bert[name][:-1].clone()
    with pytest.raises(
        CheckpointError,
        match=rf"word_embeddings\.weight \({rows - 3}, 20\) instead of \({rows}, 20\)",
    ):
        load_pretrained_text(model, save_weights(tmp_path / "bert.bin", bert))


def test_untied_bert_is_an_error(
    model: CaptionModel, bert: dict[str, Tensor], tmp_path: Path
) -> None:
    bert["cls.predictions.decoder.weight"] += 1
    with pytest.raises(
        CheckpointError,
        match=r"bert\.bin: cls\.predictions\.decoder\.weight differs from "
        r"bert\.embeddings\.word_emb",
    ):
        load_pretrained_text(model, save_weights(tmp_path / "bert.bin", bert))


@pytest.mark.parametrize("load", [load_pretrained_vision, load_pretrained_text])
def test_files_without_weights_are_errors(load: Any, model: CaptionModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.safetensors: cannot be read \(No such file"):
        load(model, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"none\.pth: cannot be read \(No such file"):
        load(model, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory\)"):
        load(model, tmp_path)
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    with pytest.raises(
        CheckpointError,
        match=r"module\.pth: contains torch\.nn\.modules\.linear\.Linear, which cannot be loaded",
    ):
        load(model, tmp_path / "module.pth")


def test_bert_gives_the_logits_of_transformers(model: CaptionModel, tmp_path: Path) -> None:
    """A BERT saved by transformers gives the same logits without images if token types are zero."""
    transformers = pytest.importorskip("transformers")
    sizes = model.config.text
    config = transformers.BertConfig(
        vocab_size=sizes.vocab_size - 2,
        hidden_size=sizes.embed_dim,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.num_heads,
        intermediate_size=sizes.mlp_dim,
        max_position_embeddings=sizes.max_positions,
        initializer_range=0.3,
    )
    reference = transformers.BertForMaskedLM(config).eval()
    with torch.no_grad():
        reference.bert.embeddings.token_type_embeddings.weight.zero_()
    reference.save_pretrained(tmp_path)
    load_pretrained_text(model, tmp_path / "model.safetensors")
    ids = torch.randint(0, sizes.vocab_size - 2, (2, 7))
    model.eval()
    with torch.no_grad():
        logits = model.text.compute_logits(model.text(ids, torch.ones_like(ids), causal=False))
        torch.testing.assert_close(logits[..., :-2], reference(ids).logits, atol=1e-4, rtol=1e-4)


# --- matchers

HEADS = ("vision_proj", "text_proj", "itm_head")


@pytest.fixture
def match_model(make_checkpoint: MakeCheckpoint) -> MatchModel:
    torch.manual_seed(0)
    return MatchModel(MatchConfig.from_caption_config(make_checkpoint().config, 6))


def test_a_matcher_starts_from_a_vit_and_a_bert(
    match_model: MatchModel,
    vit: dict[str, Tensor],
    bert: dict[str, Tensor],
    tmp_path: Path,
    make_checkpoint: MakeCheckpoint,
) -> None:
    before, expected = copy_weights(match_model), make_checkpoint(seed=7).weights
    vision = load_pretrained_vision(match_model, save_weights(tmp_path / "vit.pth", vit))
    assert (vision.loaded, vision.initialized, vision.unused) == (len(vit), (), ())
    text = load_pretrained_text(match_model, save_weights(tmp_path / "bert.bin", bert))
    assert "cls.predictions.transform.dense.weight" in text.unused
    assert "cls.predictions.decoder.bias" in text.unused
    assert len(text.unused) == len(set(text.unused))
    assert not any("lm_head" in name for name in text.initialized)
    assert "text.token_embed.weight of [DEC] and [ENC]" in text.initialized
    for name, weight in match_model.state_dict().items():
        if name.startswith(HEADS) or "cross_attn" in name or ("norm2" in name and "text" in name):
            assert torch.equal(weight, before[name]), name
        elif name == "text.token_embed.weight":
            assert torch.equal(weight[:-2], expected[name][:-2])
            assert torch.equal(weight[-2:], before[name][-2:])
        else:
            assert torch.equal(weight, expected[name]), name
