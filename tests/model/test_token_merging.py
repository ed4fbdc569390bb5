"""Token merging against an implementation of the paper in loops, and its properties."""

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import make_config, make_images, make_model, make_texts
from torch import Tensor
from torch.nn.functional import cosine_similarity

from cutline.config import VisionConfig
from cutline.model import CaptionModel
from cutline.model.attention import split_heads
from cutline.model.token_merging import (
    count_sizes,
    init_assignment,
    merge_similar_tokens,
    split_sizes,
)
from cutline.model.vision import VisionBlock

SIZE, DIM = 32, 12  # 4 x 4 patches and a class token


def make_merging(num_merged: int, depth: int = 2) -> CaptionModel:
    vision = {"image_size": SIZE, "depth": depth}
    return make_model(make_config(vision, merge_tokens=num_merged)).double()


def merge_by_hand(
    x: Sequence[Tensor], sizes: Sequence[int], keys: Sequence[Tensor], num_merged: int
) -> tuple[list[Tensor], list[int]]:
    """Merge the tokens of one image: x (D,) each, keys (d,) each, averaged over heads."""
    first, second = range(0, len(x), 2), range(1, len(x), 2)
    edges = []  # the best edge from each token of the first set, but the class token
    for token in first[1:]:
        similarities = {
            other: float(cosine_similarity(keys[token], keys[other], 0)) for other in second
        }
        target = max(similarities, key=lambda other: similarities[other])
        edges.append((similarities[target], token, target))
    chosen = sorted(edges, reverse=True)[:num_merged]
    groups = {token: [token] for token in range(len(x))}
    for _, token, target in chosen:
        groups[target] += groups.pop(token)
    totals = [sum(sizes[token] for token in group) for group in groups.values()]
    sums = [torch.stack([x[t] * sizes[t] for t in group]).sum(0) for group in groups.values()]
    return [part / total for part, total in zip(sums, totals, strict=True)], totals


def run_block_by_hand(
    block: VisionBlock, x: Tensor, sizes: list[int], num_merged: int
) -> tuple[Tensor, list[int]]:
    """Run a block on the tokens (N, D) of one image, with proportional attention."""
    num_heads = block.attn.num_heads
    q, k, v = (split_heads(part[None], num_heads)[0] for part in qkv(block, x))  # (H, N, d)
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + torch.tensor(sizes).log()
    attended = torch.cat([*(scores.softmax(-1) @ v)], -1)
    x = x + block.attn.proj(attended)
    merged, sizes = merge_by_hand([*x], sizes, [*k.mean(0)], num_merged)
    x = torch.stack(merged)
    return x + block.mlp(block.norm2(x)), sizes


def qkv(block: VisionBlock, x: Tensor) -> tuple[Tensor, ...]:
    projected: Tensor = block.attn.qkv(block.norm1(x))
    return projected.chunk(3, -1)


@torch.no_grad()
@pytest.mark.parametrize("num_merged", [1, 3, 6, 100])
def test_the_encoder_equals_the_paper_in_loops(num_merged: int) -> None:
    vision = make_merging(num_merged, depth=4).vision
    images = make_images(3, SIZE).double()
    embeds = vision(images)
    patches = vision.patch_embed(images).flatten(2).transpose(1, 2)
    for image, (rows, actual) in enumerate(zip(patches, embeds, strict=True)):
        x = torch.cat([vision.cls_token[0], rows]) + vision.pos_embed[0]
        sizes = [1] * len(x)
        for block in vision.blocks:
            assert isinstance(block, VisionBlock)
            x, sizes = run_block_by_hand(block, x, sizes, min(num_merged, (len(x) - 1) // 2))
        assert actual[:, -1].tolist() == sizes, image
        torch.testing.assert_close(actual[:, :-1], vision.norm(x), atol=1e-6, rtol=1e-5)


@torch.no_grad()
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(5, 20), st.integers(0, 99))
def test_merging_keeps_order_and_counts_every_token(count: int, tokens: int, seed: int) -> None:
    """A second merging follows the first one; the class token stays alone in its place."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.arange(2.0 * tokens).view(2, tokens, 1) + torch.tensor([0.0, 1.0])
    assignment, before = init_assignment(x), x
    for _ in range(2):
        keys = torch.randn(2, 3, x.shape[1], 4, generator=generator)
        x, assignment = merge_similar_tokens(x, assignment, keys, min(count, (x.shape[1] - 1) // 2))
    sizes = count_sizes(assignment, x.shape[1])
    assert sizes.sum(1).tolist() == [tokens] * 2
    assert sizes[:, 0].tolist() == [1] * 2
    assert torch.equal(x[:, 0], before[:, 0])
    for image in range(2):
        groups = [before[image][assignment[image] == token] for token in range(x.shape[1])]
        means = torch.stack([group.mean(0) for group in groups])
        torch.testing.assert_close(x[image], means)


@torch.no_grad()
@pytest.mark.parametrize("num_merged", [1, 2, 3])
def test_merged_duplicates_change_nothing(num_merged: int) -> None:
    """Tokens that are equal may merge: text and class token read the same, with or without."""
    merging = make_merging(num_merged)
    plain = CaptionModel(make_config({"image_size": SIZE})).double().eval()
    patch = make_images(2, 8).double()
    # Two kinds of patches, both of them at even and at odd positions.
    images = torch.cat([patch[:1].repeat(1, 1, 2, 4), patch[1:].repeat(1, 1, 2, 4)], 2)
    merging.vision.pos_embed[:, 1:] = merging.vision.pos_embed[:, 1:2].clone()
    plain.load_state_dict(merging.state_dict())
    ids, mask = make_texts([5])
    labels = ids.where(mask.bool(), -100)
    embeds = merging.vision(images)
    assert embeds.shape[1] == 17 - 2 * num_merged
    torch.testing.assert_close(embeds[:, 0, :-1], plain.vision(images)[:, 0])
    merged, unmerged = (model(images, ids, mask, labels).loss for model in (merging, plain))
    torch.testing.assert_close(merged, unmerged, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_without_merging_nothing_changes_to_the_bit() -> None:
    config = make_config({"image_size": SIZE})
    model = make_model(config)
    assert model.embeds_shape == (17, DIM)
    images = make_images(2, SIZE)
    x = model.vision.patch_embed(images).flatten(2).transpose(1, 2)
    x = torch.cat([model.vision.cls_token.expand(2, -1, -1), x], 1) + model.vision.pos_embed
    for block in model.vision.blocks:
        x = x + block.attn(block.norm1(x))  # type: ignore[operator]
        x = x + block.mlp(block.norm2(x))  # type: ignore[operator]
    assert torch.equal(model.vision(images), model.vision.norm(x))
    assert model.new_cache(2, 5).image_bias is None


@torch.no_grad()
def test_a_batch_equals_its_images_and_has_the_announced_shape() -> None:
    model = make_merging(3)
    images = make_images(4, SIZE).double()
    embeds = model.vision(images)
    assert embeds.shape[1:] == model.embeds_shape == (11, DIM + 1)
    for image, alone in zip(embeds, images.split(1), strict=True):
        torch.testing.assert_close(model.vision(alone)[0], image)


@torch.no_grad()
def test_cross_attention_counts_a_token_as_often_as_it_stands_for() -> None:
    """Attention to sizes equals attention to as many copies."""
    layer = make_merging(0).text.layers[0]
    sizes = torch.tensor([1, 3, 2])
    embeds, x = torch.randn(1, 3, DIM).double(), torch.randn(2, 5, 16).double()
    merged = torch.cat([embeds, sizes[None, :, None].double()], -1)
    copies = embeds.repeat_interleave(sizes, 1)
    expected = layer.read_image(x, copies)  # type: ignore[operator]
    torch.testing.assert_close(layer.read_image(x, merged), expected)  # type: ignore[operator]


def test_gradients_reach_every_weight_and_checkpoints_change_none() -> None:
    gradients = []
    for policy in ("none", "full"):
        model = make_merging(3).train()
        model.checkpoint_activations(vision_blocks=2 if policy == "full" else 0)
        ids, mask = make_texts([5, 4])
        labels = ids.where(mask.bool(), -100)
        model(make_images(2, SIZE).double(), ids, mask, labels).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
        assert all(gradient is not None for gradient in gradients[-1].values())
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("merge_tokens", "merges"), [(0, [0, 0, 0]), (2, [2, 2, 2]), (9, [8, 4, 2]), (99, [8, 4, 2])]
)
def test_at_most_half_of_the_tokens_merge(merge_tokens: int, merges: list[int]) -> None:
    vision = VisionConfig(image_size=SIZE, patch_size=8, embed_dim=12, depth=3, num_heads=3)
    assert vision.list_merges_per_block(merge_tokens) == merges


@torch.no_grad()
def test_bf16_merges_as_fp32_does() -> None:
    """Keys are compared in fp32; nearly all tokens then merge alike, and sizes count them all."""
    model = make_merging(3).float()
    images = make_images(8, SIZE)
    exact = split_sizes(model.vision(images), DIM)
    rounded = copy.deepcopy(model).bfloat16().vision(images.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert rounded[..., -1].sum(1).tolist() == [17] * 8
    bias = split_sizes(rounded, DIM)[1]
    assert bias is not None
    assert exact[1] is not None
    assert (bias == exact[1]).float().mean() > 0.8
