"""Attention against its formula, written out with a softmax."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cutline.model.attention import (
    CrossAttention,
    SelfAttention,
    attend,
    attend_to_tokens,
    attend_unfused,
    make_text_mask,
)

quick = settings(max_examples=35, deadline=None, derandomize=True)
sizes = st.integers(1, 4)


def reference_attention(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, mask: Tensor | None = None
) -> Tensor:
    """Attend q (T, D) to k and v (S, D) under mask (T, S) -> (T, D), one head at a time."""
    heads = []
    for query, key, value in zip(
        q.chunk(num_heads, -1), k.chunk(num_heads, -1), v.chunk(num_heads, -1), strict=True
    ):
        scores = query @ key.T / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        heads.append(scores.softmax(-1) @ value)
    return torch.cat(heads, -1)


def make_tensor(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@quick
@given(sizes, sizes, sizes, sizes, st.sampled_from(["none", "causal", "mask"]), st.integers(0, 999))
def test_self_attention_matches_its_formula(
    rows: int, tokens: int, heads: int, width: int, kind: str, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = SelfAttention(heads * width, heads).eval()
    x = make_tensor(seed, rows, tokens, heads * width)
    mask = (make_tensor(seed, rows, 1, tokens, tokens) > 0) | torch.eye(tokens, dtype=torch.bool)
    given_mask = mask if kind == "mask" else None
    out = layer(x, given_mask, causal=kind == "causal")
    for row in range(rows):
        q, k, v = layer.qkv(x[row]).chunk(3, -1)
        allowed = {
            "none": None,
            "causal": torch.ones(tokens, tokens).tril().bool(),
            "mask": mask[row, 0],
        }[kind]
        torch.testing.assert_close(
            out[row], layer.proj(reference_attention(q, k, v, heads, allowed))
        )


@quick
@given(sizes, sizes, sizes, sizes, sizes, sizes, st.integers(0, 999))
def test_each_row_attends_to_its_own_image(
    images: int, rows: int, tokens: int, visual: int, heads: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = CrossAttention(heads * width, 5, heads).eval()
    x = make_tensor(seed, images * rows, tokens, heads * width)
    embeds = make_tensor(seed + 1, images, visual, 5)
    out = layer(x, layer.project_image(embeds))
    for row in range(images * rows):
        k, v = layer.kv(embeds[row // rows]).chunk(2, -1)
        torch.testing.assert_close(
            out[row], layer.proj(reference_attention(layer.q(x[row]), k, v, heads))
        )


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_dropout_of_attention_weights_in_training_only(kind: str) -> None:
    torch.manual_seed(0)
    layer: nn.Module = (
        SelfAttention(8, 2, dropout=0.5) if kind == "self" else CrossAttention(8, 8, 2, dropout=0.5)
    )
    x = make_tensor(0, 1, 6, 8).expand(4000, -1, -1)

    def run() -> Tensor:
        out: Tensor = (
            layer(x, layer.project_image(x)) if isinstance(layer, CrossAttention) else layer(x)
        )
        return out

    layer.eval()
    expected = run()
    assert torch.equal(expected, run())
    layer.train()
    noisy = run()
    assert not torch.allclose(noisy[0], expected[0])
    # the other weights are scaled up, so that the mean stays the same
    torch.testing.assert_close(noisy.mean(0), expected[0], atol=0.05, rtol=0)


@quick
@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.booleans())
def test_text_mask_hides_padding_and_later_tokens(lengths: list[int], causal: bool) -> None:
    valid = torch.arange(5) < torch.tensor(lengths)[:, None]
    mask = make_text_mask(valid, causal).expand(-1, -1, 5, -1)
    for row, length in enumerate(lengths):
        for query in range(5):
            for key in range(5):
                assert bool(mask[row, 0, query, key]) == (
                    key < length and (key <= query or not causal)
                )


@quick
@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 4), st.integers(0, 999))
def test_unused_positions_of_a_cache_change_nothing_in_bf16(
    keys: int, unused: int, tokens: int, seed: int
) -> None:
    q, k, v = (
        make_tensor(seed + number, 3, 2, length, 16).bfloat16()
        for number, length in enumerate((tokens, keys, keys))
    )
    used = torch.ones(3, 1, tokens, keys, dtype=torch.bool)
    out = attend_to_tokens(q, k, v, used)
    torch.testing.assert_close(out, attend(q, k, v), rtol=0.02, atol=0.02)
    # The used positions stay in order, with unused ones anywhere between them.
    order = torch.randperm(keys + unused, generator=torch.Generator().manual_seed(seed))
    places = order[:keys].sort().values
    wide_k, wide_v = (make_tensor(seed, 3, 2, keys + unused, 16).bfloat16() for _ in range(2))
    wide_k[:, :, places], wide_v[:, :, places] = k, v
    mask = torch.zeros(3, 1, tokens, keys + unused, dtype=torch.bool)
    mask[..., places] = True
    assert torch.equal(attend_to_tokens(q, wide_k, wide_v, mask), out)


@quick
@given(sizes, sizes, st.sampled_from(["none", "causal", "mask", "bias"]), st.integers(0, 999))
def test_unfused_attention_gives_what_fused_attention_gives(
    tokens: int, keys: int, kind: str, seed: int
) -> None:
    keys = tokens if kind == "causal" else keys
    q, k, v = (
        make_tensor(seed + number, 2, 3, length, 8).requires_grad_()
        for number, length in enumerate((tokens, keys, keys))
    )
    mask = make_tensor(seed, 2, 1, tokens, keys) if kind in ("mask", "bias") else None
    if mask is not None and kind == "mask":
        mask = (mask > 0) | (torch.arange(keys) == 0)
    out = attend_unfused(q, k, v, 0.0, mask, kind == "causal")
    fused = attend(q, k, v, mask=mask, causal=kind == "causal")
    torch.testing.assert_close(out, fused)
    grad = make_tensor(seed, *out.shape)
    ours, others = (torch.autograd.grad(x, (q, k, v), grad) for x in (out, fused))
    torch.testing.assert_close(ours, others)


def test_training_in_bf16_uses_unfused_attention() -> None:
    """Only the gradients are computed in another way: both ways round to bf16."""
    q, k, v = (make_tensor(number, 2, 3, 20, 16).requires_grad_() for number in range(3))
    exact = attend(q, k, v, causal=True)
    out = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), causal=True)
    names = {function[0].name() for function in out.grad_fn.next_functions if function[0]}
    assert not any("ScaledDotProduct" in name for name in (out.grad_fn.name(), *names))
    grad = make_tensor(3, *out.shape)
    ours = torch.autograd.grad(out, (q, k, v), grad.bfloat16())
    for our, other in zip(ours, torch.autograd.grad(exact, (q, k, v), grad), strict=True):
        torch.testing.assert_close(our, other, rtol=0.05, atol=0.05)
