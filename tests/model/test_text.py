"""The text decoder: formula, attention masks, dropout, checkpointing, initial weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import VOCAB, make_config, make_images, make_model, make_texts
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from cutline.config import TextConfig
from cutline.model.text import TextLayer, TextTransformer

MODEL = make_model()
quick = settings(max_examples=25, deadline=None, derandomize=True)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@torch.no_grad()
@pytest.mark.parametrize("with_image", [True, False])
def test_layers_are_post_norm(with_image: bool) -> None:
    model = make_model(make_config(text={"layer_norm_eps": 0.1})).text
    ids, _ = make_texts([5, 5])
    image_embeds = MODEL.vision(make_images(2))

    def norm(x: Tensor, layer: nn.Module) -> Tensor:
        return layer_norm(x, (16,), layer.weight, layer.bias, 0.1)

    x = norm(model.token_embed.weight[ids] + model.pos_embed.weight[:5], model.norm)
    for layer in model.layers:
        assert isinstance(layer, TextLayer)
        x = norm(x + layer.self_attn(x, causal=True), layer.norm1)
        if with_image:
            x = norm(
                x + layer.cross_attn(x, layer.cross_attn.project_image(image_embeds)), layer.norm2
            )
        x = norm(x + layer.mlp.fc2(gelu(layer.mlp.fc1(x))), layer.norm3)
    torch.testing.assert_close(model(ids, None, image_embeds if with_image else None), x)
    head = model.lm_head
    logits = norm(gelu(head.dense(x)), head.norm) @ model.token_embed.weight.T + head.bias
    torch.testing.assert_close(model.compute_logits(x), logits)


@torch.no_grad()
@quick
@given(lengths, st.booleans(), st.integers(0, 99))
def test_padding_does_not_change_hidden_states(counts: list[int], causal: bool, seed: int) -> None:
    ids, mask = make_texts(counts, seed)
    image_embeds = MODEL.vision(make_images(len(counts)))
    batched = MODEL.text(ids, mask, image_embeds, causal=causal)
    assert batched.isfinite().all()
    for row, count in enumerate(counts):
        alone = MODEL.text(
            ids[row : row + 1, :count], None, image_embeds[row : row + 1], causal=causal
        )
        torch.testing.assert_close(batched[row, :count], alone[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@quick
@given(st.integers(2, 6), st.data(), st.booleans())
def test_tokens_attend_causally_or_in_both_directions(
    count: int, data: st.DataObject, with_image: bool
) -> None:
    position = data.draw(st.integers(0, count - 1))
    ids, mask = make_texts([count])
    image_embeds = MODEL.vision(make_images(1)) if with_image else None
    changed = ids.clone()
    changed[0, position] = (ids[0, position] + 1) % VOCAB
    for given_mask in (mask, None):
        before = MODEL.text(ids, given_mask, image_embeds)
        after = MODEL.text(changed, given_mask, image_embeds)
        moved = (before - after).abs().amax(-1)[0] > 1e-4
        assert moved.tolist() == [index >= position for index in range(count)]
        both = MODEL.text(ids, given_mask, image_embeds, causal=False) - MODEL.text(
            changed, given_mask, image_embeds, causal=False
        )
        assert (both.abs().amax(-1) > 1e-4).all()


@torch.no_grad()
def test_each_image_affects_its_own_rows_only() -> None:
    ids, mask = make_texts([4, 6, 3, 5, 6, 2])
    image_embeds = MODEL.vision(make_images(2))
    hidden = MODEL.text(ids, mask, image_embeds)
    torch.testing.assert_close(
        hidden, MODEL.text(ids, mask, image_embeds.repeat_interleave(3, 0)), atol=1e-4, rtol=1e-4
    )
    other_embeds = image_embeds * torch.tensor([1.0, 2.0])[:, None, None]
    moved = (hidden - MODEL.text(ids, mask, other_embeds)).abs().amax((1, 2)) > 1e-3
    assert moved.tolist() == [False] * 3 + [True] * 3


@torch.no_grad()
def test_cross_attention_is_skipped_without_an_image() -> None:
    ids, mask = make_texts([4, 6])
    before = MODEL.text(ids, mask)
    scrambled = make_model()
    for name, weight in scrambled.text.named_parameters():
        if "cross_attn" in name or "norm2" in name:
            weight.fill_(torch.nan)
    assert torch.equal(scrambled.text(ids, mask), before)


def test_dropout_is_active_in_training_only() -> None:
    model = make_model(make_config(text={"dropout": 0.3, "attn_dropout": 0.2, "embed_dim": 64}))
    fractions: list[float] = []
    for module in model.text.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(
                lambda _, args, out: fractions.append((out == 0).float().mean().item())
            )
    ids, mask = make_texts([6] * 40)
    image_embeds = model.vision(make_images(40))
    with torch.no_grad():
        expected = model.text(ids, mask, image_embeds)
        assert torch.equal(model.text(ids, mask, image_embeds), expected)
        fractions.clear()
        torch.manual_seed(0)
        assert not torch.allclose(model.train().text(ids, mask, image_embeds), expected)
    # the embeddings, then three sub-layers in each layer
    assert fractions == pytest.approx([0.3] * (1 + 2 * 3), abs=0.03)
    for layer in model.text.layers:
        assert isinstance(layer, TextLayer)
        assert layer.self_attn.dropout == layer.cross_attn.dropout == 0.2


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointing_recomputes_all_layers_and_keeps_gradients(dropout: float) -> None:
    config = make_config(text={"dropout": dropout, "attn_dropout": dropout})
    ids, mask = make_texts([4, 6])
    gradients, counts = [], []
    for enabled, training in ((False, True), (True, True), (True, False)):
        model = make_model(config).train(training)
        model.checkpoint_activations(text=True)
        model.checkpoint_activations(text=enabled)
        forwards: list[str] = []
        for layer in model.text.layers:
            assert isinstance(layer, TextLayer)
            for name, part in (
                ("self", layer.self_attn.qkv),
                ("image", layer.cross_attn.kv),
                ("mlp", layer.mlp),
            ):
                part.register_forward_hook(lambda *_, name=name, calls=forwards: calls.append(name))
        torch.manual_seed(5)
        (model.text(ids, mask, model.vision(make_images(2))) ** 3).sum().backward()
        gradients.append([weight.grad for weight in model.parameters() if weight.grad is not None])
        counts.append([forwards.count(name) for name in ("self", "image", "mlp")])
    assert counts == [[2, 2, 2], [4, 4, 4], [2, 2, 2]]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = TextTransformer(
        TextConfig(
            vocab_size=500, embed_dim=64, depth=2, num_heads=4, mlp_dim=128, max_positions=64
        ),
        48,
    )
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert weight.unique().tolist() == [float(name.endswith("weight"))]
        elif name.endswith("bias"):
            assert not weight.any()
        else:
            assert weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert weight.mean().item() == pytest.approx(0, abs=0.002)
