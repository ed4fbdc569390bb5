"""The Vision Transformer: formula, stochastic depth, checkpointing, weights, positions."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import make_config, make_images, make_model
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from cutline.config import VisionConfig
from cutline.model import CaptionModel, interpolate_pos_embed
from cutline.model.vision import VisionTransformer, drop_path

MODEL = make_model()


def reference_vision(model: VisionTransformer, pixels: Tensor) -> Tensor:
    """Encode one image (3, S, S) -> (N, D) from the weights alone."""
    config, w = model.config, model.state_dict()

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(
            x, (config.embed_dim,), w[f"{name}.weight"], w[f"{name}.bias"], config.layer_norm_eps
        )

    def dense(x: Tensor, name: str) -> Tensor:
        return linear(x, w[f"{name}.weight"].flatten(1), w[f"{name}.bias"])

    step = config.patch_size
    corners = range(0, config.image_size, step)
    patches = torch.stack(
        [
            pixels[:, top : top + step, left : left + step].flatten()
            for top in corners
            for left in corners
        ]
    )
    x = torch.cat([w["cls_token"][0], dense(patches, "patch_embed")]) + w["pos_embed"][0]
    for block in (f"blocks.{number}" for number in range(config.depth)):
        q, k, v = dense(norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, -1)
        heads = zip(*(part.chunk(config.num_heads, -1) for part in (q, k, v)), strict=True)
        width = config.embed_dim // config.num_heads
        x = x + dense(
            torch.cat([(a @ b.T / math.sqrt(width)).softmax(-1) @ c for a, b, c in heads], -1),
            f"{block}.attn.proj",
        )
        x = x + dense(
            gelu(dense(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2"
        )
    return norm(x, "norm")


@torch.no_grad()
def test_transformer_matches_its_formula() -> None:
    config = make_config(
        {"image_size": 24, "layer_norm_eps": 0.1, "mlp_ratio": 1.5, "drop_path": 0.5}
    )
    model, pixels = make_model(config).vision, make_images(3, 24)
    torch.testing.assert_close(
        model(pixels), torch.stack([reference_vision(model, image) for image in pixels])
    )
    widths = [block.mlp.fc1.out_features for block in model.blocks]
    assert widths == [18, 18]


def test_another_image_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="not \\(3, 16, 24\\)"):
        MODEL.vision(torch.zeros(1, 3, 16, 24))


def test_drop_path_zeroes_samples_and_scales_the_others() -> None:
    torch.manual_seed(0)
    x = make_images(10_000, 2)
    dropped = drop_path(x, 0.3)
    dropped_samples = (dropped == 0).flatten(1).all(1)
    assert dropped_samples.float().mean().item() == pytest.approx(0.3, abs=0.02)
    torch.testing.assert_close(dropped[~dropped_samples], x[~dropped_samples] / 0.7)


def test_drop_path_grows_with_depth() -> None:
    for depth, rates in ((5, [0.0, 0.1, 0.2, 0.3, 0.4]), (1, [0.0])):
        model = VisionTransformer(
            VisionConfig(image_size=16, embed_dim=12, depth=depth, num_heads=3, drop_path=0.4)
        )
        assert [block.drop_path for block in model.blocks] == pytest.approx(rates)


@torch.no_grad()
def test_drop_path_applies_to_both_branches_in_training_only() -> None:
    block = make_model(make_config({"drop_path": 0.5, "depth": 2})).vision.blocks[1]
    x = make_images(1, 12)[:, 0].expand(2000, -1, -1)
    assert torch.equal(block(x)[0], block(x)[0])
    attended = x + block.attn(block.norm1(x))
    expected = attended + block.mlp(block.norm2(attended))
    torch.testing.assert_close(block(x)[0], expected)
    torch.manual_seed(0)
    kinds = {tuple(row) for row in block.train()(x)[0][:, 0].mul(1000).round().tolist()}
    assert len(kinds) == 4  # each branch kept or dropped
    block.eval()


def count_forwards(model: CaptionModel) -> list[list[int]]:
    """Count how often a training step computes attention and MLP of each block."""
    counts: Counter[nn.Module] = Counter()
    layers = [[block.attn, block.mlp] for block in model.vision.blocks]
    for layer in (layer for pair in layers for layer in pair):
        assert isinstance(layer, nn.Module)
        layer.register_forward_pre_hook(lambda module, _: counts.update([module]))
    model.vision(make_images(2)).sum().backward()
    return [[counts[layer] for layer in pair if isinstance(layer, nn.Module)] for pair in layers]


@pytest.mark.parametrize(
    ("blocks", "times"), [(0, [1, 1, 1]), (1, [1, 1, 2]), (2, [1, 2, 2]), (9, [2, 2, 2])]
)
def test_checkpointing_recomputes_the_last_blocks(blocks: int, times: list[int]) -> None:
    model = make_model(make_config({"depth": 3})).train()
    model.checkpoint_activations(blocks)
    assert count_forwards(model) == [[count, count] for count in times]


def test_checkpointing_can_be_changed_and_turned_off() -> None:
    model = make_model(make_config({"depth": 3})).train()
    model.checkpoint_activations(3)
    model.checkpoint_activations(1)
    assert count_forwards(model) == [[1, 1], [1, 1], [2, 2]]
    model = make_model(make_config({"depth": 3})).train()
    model.checkpoint_activations(3)
    model.checkpoint_activations()
    assert count_forwards(model) == [[1, 1]] * 3


def test_checkpointing_has_no_effect_in_evaluation_mode() -> None:
    model = make_model(make_config({"depth": 3}))
    model.checkpoint_activations(3)
    assert count_forwards(model) == [[1, 1]] * 3


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_checkpointing_keeps_gradients(rate: float) -> None:
    model = make_model(make_config({"depth": 3, "drop_path": rate})).train()
    gradients = []
    for blocks in (0, 2):
        torch.manual_seed(3)
        model.checkpoint_activations(blocks)
        model.zero_grad()
        (model.vision(make_images(6)) ** 3).sum().backward()
        gradients.append(
            [weight.grad.clone() for weight in model.vision.parameters() if weight.grad is not None]
        )
    assert len(gradients[0]) == len(list(model.vision.parameters()))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = VisionTransformer(VisionConfig(image_size=64, embed_dim=96, depth=2, num_heads=3))
    for name, weight in model.named_parameters():
        if name.startswith("patch_embed"):  # as PyTorch does
            assert weight.abs().max().item() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.1)
        elif "norm" in name:
            assert weight.unique().tolist() == [float(name.endswith("weight"))]
        elif name.endswith("bias"):
            assert not weight.any()
        else:
            assert weight.std().item() == pytest.approx(
                0.02, rel=0.2 if name == "cls_token" else 0.05
            )
            assert weight.mean().item() == pytest.approx(0, abs=0.005)


def cubic_kernel(x: float) -> float:
    """Evaluate Keys' cubic convolution kernel with a = -0.75."""
    x = abs(x)
    if x <= 1:
        return 1.25 * x**3 - 2.25 * x**2 + 1
    return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resampling_weights(old: int, new: int) -> Tensor:
    """Return the (new, old) weights of bicubic interpolation along one side, edges repeated."""
    weights = torch.zeros(new, old, dtype=torch.float64)
    for target in range(new):
        source = (target + 0.5) * old / new - 0.5
        for near in range(math.floor(source) - 1, math.floor(source) + 3):
            weights[target, min(max(near, 0), old - 1)] += cubic_kernel(source - near)
    return weights


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 8), st.sampled_from([torch.float32, torch.bfloat16]))
def test_positions_are_interpolated_bicubically(old: int, new: int, dtype: torch.dtype) -> None:
    positions = torch.randn(1, old**2 + 1, 3, generator=torch.Generator().manual_seed(old)).to(
        dtype
    )
    resized = interpolate_pos_embed(positions, new**2 + 1)
    side = resampling_weights(old, new)
    grid = torch.einsum(
        "yr,xc,rcd->yxd", side, side, positions[0, 1:].double().unflatten(0, (old, old))
    )
    assert resized.dtype == dtype
    assert torch.equal(resized[:, 0], positions[:, 0])  # the class token
    rounding = 1e-5 if dtype == torch.float32 else 0.01
    torch.testing.assert_close(
        resized[0, 1:].double(), grid.flatten(0, 1), atol=rounding, rtol=rounding
    )
    assert interpolate_pos_embed(positions, old**2 + 1) is positions
