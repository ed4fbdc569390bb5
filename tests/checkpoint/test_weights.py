"""Names there and back, and what is wrong with weights that do not fit."""

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
    export_weights,
    import_weights,
    weight_shapes,
)
from cutline.checkpoint.names import Layout
from cutline.checkpoint.weights import listed, mlp_ratio
from cutline.config import CaptionConfig, TextConfig, VisionConfig
from cutline.errors import CheckpointError
from cutline.model import CaptionModel

MakeCheckpoint = Callable[..., Checkpoint]
LAYOUTS = pytest.mark.parametrize(
    "layout", [SALESFORCE, HUGGINGFACE], ids=["salesforce", "huggingface"]
)


@st.composite
def configs(draw: st.DrawFn) -> CaptionConfig:
    few = st.integers(1, 3)
    patch, heads, text_heads = draw(few), draw(few), draw(few)
    vision = VisionConfig(
        image_size=patch * draw(few),
        patch_size=patch,
        embed_dim=heads * draw(few),
        depth=draw(st.sampled_from([1, 2, 11])),
        num_heads=heads,
        mlp_ratio=draw(few),
    )
    text = TextConfig(
        vocab_size=draw(st.integers(1, 9)),
        embed_dim=text_heads * draw(few),
        depth=draw(st.sampled_from([1, 2, 11])),
        num_heads=text_heads,
        mlp_dim=draw(few),
        max_positions=draw(st.integers(1, 9)),
    )
    return CaptionConfig(vision=vision, text=text)


def random_tensors(config: CaptionConfig, seed: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=random) for name, shape in weight_shapes(config).items()
    }


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@LAYOUTS
@settings(max_examples=10, deadline=None)
@given(config=configs(), seed=st.integers(0, 9))
def test_export_then_import_gives_the_same_bits(
    layout: Layout, config: CaptionConfig, seed: int
) -> None:
    ours = random_tensors(config, seed)
    theirs = export_weights(ours, layout)
    assert same_bits(import_weights(theirs, layout, weight_shapes(config), "file"), ours)
    assert sum(tensor.numel() for tensor in theirs.values()) == sum(
        tensor.numel() for tensor in ours.values()
    )
    assert not set(theirs).intersection(layout.copies, layout.buffers)


def test_fused_weights_are_query_key_value_in_this_order(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    theirs = export_weights(checkpoint.weights, SALESFORCE)
    layer = "text_decoder.bert.encoder.layer.1"
    for ours, parts in (
        (
            "text.layers.1.self_attn.qkv.weight",
            [f"{layer}.attention.self.{part}.weight" for part in ("query", "key", "value")],
        ),
        (
            "text.layers.1.cross_attn.kv.bias",
            [f"{layer}.crossattention.self.{part}.bias" for part in ("key", "value")],
        ),
    ):
        assert torch.equal(torch.cat([theirs[part] for part in parts]), checkpoint.weights[ours])


def test_shapes_are_those_of_a_real_model(make_checkpoint: MakeCheckpoint) -> None:
    config = make_checkpoint().config
    assert weight_shapes(config) == {
        name: weight.shape for name, weight in CaptionModel(config).state_dict().items()
    }


def test_build_model_is_whole_and_ready(make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    model, real = build_model(checkpoint), CaptionModel(checkpoint.config)
    assert not model.training
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert same_bits(model.state_dict(), checkpoint.weights)
    assert (
        [block.drop_path for block in model.vision.blocks]
        == [block.drop_path for block in real.vision.blocks]
        == [0, pytest.approx(0.1)]
    )
    real.load_state_dict(checkpoint.weights)
    pixels, ids = torch.randn(2, 3, 12, 12), torch.randint(0, 9, (2, 5))
    ones = torch.ones_like(ids)
    with torch.no_grad():
        assert torch.equal(
            model(pixels, ids, ones, ids).loss, real.eval()(pixels, ids, ones, ids).loss
        )


@LAYOUTS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_fp32(
    layout: Layout, dtype: torch.dtype, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    stored = {
        name: tensor.to(dtype)
        for name, tensor in export_weights(checkpoint.weights, layout).items()
    }
    read = import_weights(stored, layout, weight_shapes(checkpoint.config), "file")
    assert same_bits(
        read, {name: weight.to(dtype).float() for name, weight in checkpoint.weights.items()}
    )


@LAYOUTS
def test_buffers_and_equal_copies_are_accepted(
    layout: Layout, make_checkpoint: MakeCheckpoint
) -> None:
    checkpoint = make_checkpoint()
    theirs = export_weights(checkpoint.weights, layout)
    more = {copy: theirs[original].clone() for copy, original in layout.copies.items()}
    more |= {name: torch.arange(17)[None] for name in layout.buffers}
    assert same_bits(
        import_weights({**theirs, **more}, layout, weight_shapes(checkpoint.config), "file"),
        checkpoint.weights,
    )
    only = {
        name: tensor
        for name, tensor in {**theirs, **more}.items()
        if name not in layout.copies.values()
    }
    assert same_bits(
        import_weights(only, layout, weight_shapes(checkpoint.config), "file"), checkpoint.weights
    )


@LAYOUTS
def test_unequal_copy_is_refused_by_name(layout: Layout, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    theirs = export_weights(checkpoint.weights, layout)
    for copy, original in layout.copies.items():
        with pytest.raises(
            CheckpointError, match=f"^file: {re.escape(copy)} differs from {re.escape(original)},"
        ):
            import_weights(
                {**theirs, copy: theirs[original] + 1},
                layout,
                weight_shapes(checkpoint.config),
                "file",
            )


@LAYOUTS
def test_every_fault_is_named_at_once(layout: Layout, make_checkpoint: MakeCheckpoint) -> None:
    checkpoint = make_checkpoint()
    theirs = export_weights(checkpoint.weights, layout)
    fc1, fc2 = (
        export_names(layout, "text.layers.2.mlp.fc1.weight"),
        export_names(layout, "vision.blocks.1.mlp.fc2.bias"),
    )
    bias = export_names(layout, "vision.norm.bias")
    del theirs[fc2]
    theirs |= {
        fc1: torch.zeros(20, 28),
        bias: torch.zeros(24, dtype=torch.int8),
        "itm_head.weight": torch.zeros(2),
    }
    with pytest.raises(CheckpointError) as caught:
        import_weights(theirs, layout, weight_shapes(checkpoint.config), "some.pth")
    assert str(caught.value) == (
        f"some.pth: the weights do not fit a model of these sizes (missing: {fc2}; unexpected: itm_head.weight; "
        f"mis-shaped: {fc1} (20, 28) instead of (28, 20); not floating-point: {bias} (torch.int8)); "
        "give a file and a config that belong together"
    )


def export_names(layout: Layout, ours: str) -> str:
    return next(iter(export_weights({ours: torch.zeros(1)}, layout)))


@given(st.lists(st.sampled_from(["a", "b.c"]), max_size=30))
def test_listed_names_eight_and_counts_the_rest(names: list[str]) -> None:
    text = listed(names)
    assert text.count(",") == max(0, min(len(names), 8) - 1)
    assert text.endswith(f" and {len(names) - 8} more") == (len(names) > 8)


@given(dim=st.integers(1, 4096), hidden=st.integers(1, 20000))
def test_mlp_ratio_gives_the_width_back(dim: int, hidden: int) -> None:
    assert int(dim * mlp_ratio(dim, hidden)) == hidden
