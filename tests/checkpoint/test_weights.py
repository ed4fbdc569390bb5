"""Conversion of weights between formats, and errors for weights that do not fit."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cutline.checkpoint import (
    HUGGINGFACE,
    SALESFORCE,
    Checkpoint,
    build_model,
    compute_weight_shapes,
    export_weights,
    import_weights,
)
from cutline.checkpoint.names import NATIVE, WeightFormat
from cutline.checkpoint.weights import format_names, solve_mlp_ratio
from cutline.config import CaptionConfig, TextConfig, VisionConfig
from cutline.errors import CheckpointError
from cutline.model import CaptionModel

MakeCheckpoint = Callable[..., Checkpoint]
FORMATS = pytest.mark.parametrize(
    "weight_format", [SALESFORCE, HUGGINGFACE], ids=["salesforce", "huggingface"]
)


@st.composite
def draw_config(draw: st.DrawFn) -> CaptionConfig:
    small = st.integers(1, 3)
    patch, heads, text_heads = draw(small), draw(small), draw(small)
    vision = VisionConfig(
        image_size=patch * draw(small),
        patch_size=patch,
        embed_dim=heads * draw(small),
        depth=draw(st.sampled_from([1, 2, 11])),
        num_heads=heads,
        mlp_ratio=draw(small),
    )
    text = TextConfig(
        vocab_size=draw(st.integers(1, 9)),
        embed_dim=text_heads * draw(small),
        depth=draw(st.sampled_from([1, 2, 11])),
        num_heads=text_heads,
        mlp_dim=draw(small),
        max_positions=draw(st.integers(1, 9)),
    )
    return CaptionConfig(vision=vision, text=text)


def make_weights(config: CaptionConfig, seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=random)
        for name, shape in compute_weight_shapes(config).items()
    }


def are_identical(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name])
        for name in left
    )


@FORMATS
@settings(max_examples=10, deadline=None)
@given(config=draw_config(), seed=st.integers(0, 9))
def test_export_then_import_is_the_identity(
    weight_format: WeightFormat, config: CaptionConfig, seed: int
) -> None:
    native = make_weights(config, seed)
    exported = export_weights(native, weight_format)
    assert are_identical(
        import_weights(exported, weight_format, compute_weight_shapes(config), "file"), native
    )
    assert sum(tensor.numel() for tensor in exported.values()) == sum(
        tensor.numel() for tensor in native.values()
    )
    assert not set(exported).intersection(weight_format.copies, weight_format.buffers)


def test_fused_weights_are_query_key_value_in_order(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    exported = export_weights(checkpoint.weights, SALESFORCE)
    layer = "text_decoder.bert.encoder.layer.1"
    for native, parts in (
        (
            "text.layers.1.self_attn.qkv.weight",
            [f"{layer}.attention.self.{part}.weight" for part in ("query", "key", "value")],
        ),
        (
            "text.layers.1.cross_attn.kv.bias",
            [f"{layer}.crossattention.self.{part}.bias" for part in ("key", "value")],
        ),
    ):
        assert torch.equal(
            torch.cat([exported[part] for part in parts]), checkpoint.weights[native]
        )


def test_computed_shapes_are_those_of_a_model(make_checkpoint: MakeCheckpoint) -> None:
    config = make_checkpoint().config
    assert compute_weight_shapes(config) == {
        name: weight.shape for name, weight in CaptionModel(config).state_dict().items()
    }


def test_built_model_is_complete_and_in_evaluation_mode(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    model, reference = build_model(checkpoint), CaptionModel(checkpoint.config)
    assert not model.training
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert are_identical(model.state_dict(), checkpoint.weights)
    assert (
        [block.drop_path for block in model.vision.blocks]
        == [block.drop_path for block in reference.vision.blocks]
        == [0, pytest.approx(0.1)]
    )
    reference.load_state_dict(checkpoint.weights)
    pixels, ids = torch.randn(2, 3, 12, 12), torch.randint(0, 9, (2, 5))
    ones = torch.ones_like(ids)
    with torch.no_grad():
        assert torch.equal(
            model(pixels, ids, ones, ids).loss, reference.eval()(pixels, ids, ones, ids).loss
        )


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_dtypes_become_fp32(
    weight_format: WeightFormat, dtype: torch.dtype, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    stored = {
        name: tensor.to(dtype)
        for name, tensor in export_weights(checkpoint.weights, weight_format).items()
    }
    read = import_weights(stored, weight_format, compute_weight_shapes(checkpoint.config), "file")
    assert are_identical(
        read, {name: weight.to(dtype).float() for name, weight in checkpoint.weights.items()}
    )


@FORMATS
def test_buffers_and_equal_copies_are_accepted(
    weight_format: WeightFormat, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    exported = export_weights(checkpoint.weights, weight_format)
    extra = {copy: exported[original].clone() for copy, original in weight_format.copies.items()}
    extra |= {name: torch.arange(17)[None] for name in weight_format.buffers}
    assert are_identical(
        import_weights(
            {**exported, **extra}, weight_format, compute_weight_shapes(checkpoint.config), "file"
        ),
        checkpoint.weights,
    )
    copies_only = {
        name: tensor
        for name, tensor in {**exported, **extra}.items()
        if name not in weight_format.copies.values()
    }
    assert are_identical(
        import_weights(
            copies_only, weight_format, compute_weight_shapes(checkpoint.config), "file"
        ),
        checkpoint.weights,
    )


@FORMATS
def test_unequal_copies_are_an_error_that_names_them(
    weight_format: WeightFormat, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    exported = export_weights(checkpoint.weights, weight_format)
    for copy, original in weight_format.copies.items():
        with pytest.raises(
            CheckpointError, match=f"^file: {re.escape(copy)} differs from {re.escape(original)},"
        ):
            import_weights(
                {**exported, copy: exported[original] + 1},
                weight_format,
                compute_weight_shapes(checkpoint.config),
                "file",
            )


@FORMATS
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_broken_weights_are_an_error_that_names_them(
    weight_format: WeightFormat, make_checkpoint: MakeCheckpoint, value: float
) -> None:
    checkpoint = make_checkpoint()
    exported = export_weights(checkpoint.weights, weight_format)
    name = export_name(weight_format, "text.norm.bias")
    exported[name] = exported[name].clone().index_fill_(0, torch.tensor(7), value)
    with pytest.raises(CheckpointError, match=rf"^file: NaN or infinite values in {name}; use a"):
        import_weights(exported, weight_format, compute_weight_shapes(checkpoint.config), "file")


def test_large_finite_weights_are_loaded(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    weights = {**checkpoint.weights, "text.norm.bias": torch.full((20,), 3e38)}
    shapes = compute_weight_shapes(checkpoint.config)
    assert import_weights(weights, NATIVE, shapes, "file")["text.norm.bias"].isfinite().all()


@FORMATS
def test_one_error_names_all_problems(
    weight_format: WeightFormat, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    exported = export_weights(checkpoint.weights, weight_format)
    fc1, fc2 = (
        export_name(weight_format, "text.layers.2.mlp.fc1.weight"),
        export_name(weight_format, "vision.blocks.1.mlp.fc2.bias"),
    )
    bias = export_name(weight_format, "vision.norm.bias")
    del exported[fc2]
    exported |= {
        fc1: torch.zeros(20, 28),
        bias: torch.zeros(24, dtype=torch.int8),
        "itm_head.weight": torch.zeros(2),
    }
    with pytest.raises(CheckpointError) as error:
        import_weights(
            exported, weight_format, compute_weight_shapes(checkpoint.config), "some.pth"
        )
    assert str(error.value) == (
        "some.pth: the weights do not fit a model with these sizes "
        f"(missing: {fc2}; unexpected: itm_head.weight; "
        f"wrong shape: {fc1} (20, 28) instead of (28, 20); not floating-point: {bias} "
        f"(torch.int8)); "
        "use a file and a config of the same model"
    )


def export_name(weight_format: WeightFormat, native: str) -> str:
    return next(iter(export_weights({native: torch.zeros(1)}, weight_format)))


@given(st.lists(st.sampled_from(["a", "b.c"]), max_size=30))
def test_format_names_shows_three_and_counts_the_others(names: list[str]) -> None:
    text = format_names(names)
    assert text.count(",") == max(0, min(len(names), 3) - 1)
    assert text.endswith(f" and {len(names) - 3} more") == (len(names) > 3)


@given(dim=st.integers(1, 4096), hidden=st.integers(1, 20000))
def test_solved_mlp_ratio_gives_the_hidden_width(dim: int, hidden: int) -> None:
    assert int(dim * solve_mlp_ratio(dim, hidden)) == hidden
