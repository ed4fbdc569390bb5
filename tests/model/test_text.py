"""The text side: its formula, who sees what, dropout, checkpointing, initial weights."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import VOCAB, pictures, texts, tiny_config, tiny_model
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from cutline.config import TextConfig
from cutline.model.text import TextLayer, TextTransformer

MODEL = tiny_model()
quick = settings(max_examples=25, deadline=None, derandomize=True)
lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@torch.no_grad()
@pytest.mark.parametrize("with_picture", [True, False])
def test_layers_are_post_norm(with_picture: bool) -> None:
    model = tiny_model(tiny_config(text={"layer_norm_eps": 0.1})).text
    ids, _ = texts([5, 5])
    image_embeds = MODEL.vision(pictures(2))

    def norm(x: Tensor, layer: nn.Module) -> Tensor:
        return layer_norm(x, (16,), layer.weight, layer.bias, 0.1)  # type: ignore[arg-type]

    x = norm(model.token_embed.weight[ids] + model.pos_embed.weight[:5], model.norm)
    for layer in model.layers:
        assert isinstance(layer, TextLayer)
        x = norm(x + layer.self_attn(x, causal=True), layer.norm1)
        if with_picture:
            x = norm(
                x + layer.cross_attn(x, layer.cross_attn.keys_values(image_embeds)), layer.norm2
            )
        x = norm(x + layer.mlp.fc2(gelu(layer.mlp.fc1(x))), layer.norm3)
    torch.testing.assert_close(model(ids, None, image_embeds if with_picture else None), x)
    head = model.lm_head
    logits = (
        norm(gelu(head.dense(x)), head.norm) @ model.token_embed.weight.T + head.bias
    )  # the projection is the embedding
    torch.testing.assert_close(model.logits(x), logits)


@torch.no_grad()
@quick
@given(lengths, st.booleans(), st.integers(0, 99))
def test_padding_changes_nothing(counts: list[int], causal: bool, seed: int) -> None:
    ids, mask = texts(counts, seed)
    image_embeds = MODEL.vision(pictures(len(counts)))
    whole = MODEL.text(ids, mask, image_embeds, causal=causal)
    assert whole.isfinite().all()
    for row, count in enumerate(counts):
        alone = MODEL.text(
            ids[row : row + 1, :count], None, image_embeds[row : row + 1], causal=causal
        )
        torch.testing.assert_close(whole[row, :count], alone[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
@quick
@given(st.integers(2, 6), st.data(), st.booleans())
def test_a_token_sees_what_it_should(count: int, data: st.DataObject, with_picture: bool) -> None:
    place = data.draw(st.integers(0, count - 1))
    ids, mask = texts([count])
    image_embeds = MODEL.vision(pictures(1)) if with_picture else None
    changed = ids.clone()
    changed[0, place] = (ids[0, place] + 1) % VOCAB
    for given_mask in (mask, None):
        before, after = (
            MODEL.text(ids, given_mask, image_embeds),
            MODEL.text(changed, given_mask, image_embeds),
        )
        moved = (before - after).abs().amax(-1)[0] > 1e-4
        assert moved.tolist() == [at >= place for at in range(count)]
        both = MODEL.text(ids, given_mask, image_embeds, causal=False) - MODEL.text(
            changed, given_mask, image_embeds, causal=False
        )
        assert (both.abs().amax(-1) > 1e-4).all()


@torch.no_grad()
def test_every_picture_speaks_to_its_own_rows() -> None:
    ids, mask = texts([4, 6, 3, 5, 6, 2])
    image_embeds = MODEL.vision(pictures(2))
    together = MODEL.text(ids, mask, image_embeds)
    torch.testing.assert_close(
        together, MODEL.text(ids, mask, image_embeds.repeat_interleave(3, 0)), atol=1e-4, rtol=1e-4
    )
    moved = (
        together - MODEL.text(ids, mask, image_embeds * torch.tensor([1.0, 2.0])[:, None, None])
    ).abs().amax((1, 2)) > 1e-3
    assert moved.tolist() == [False] * 3 + [True] * 3


@torch.no_grad()
def test_without_a_picture_the_cross_attention_is_skipped() -> None:
    ids, mask = texts([4, 6])
    before = MODEL.text(ids, mask)
    scrambled = tiny_model()
    for name, weight in scrambled.text.named_parameters():
        if "cross_attn" in name or "norm2" in name:
            weight.fill_(torch.nan)
    assert torch.equal(scrambled.text(ids, mask), before)


def test_dropout_acts_where_it_should_in_training_only() -> None:
    model = tiny_model(tiny_config(text={"dropout": 0.3, "attn_dropout": 0.2, "embed_dim": 64}))
    shares: list[float] = []
    for module in model.text.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(
                lambda _, args, out: shares.append((out == 0).float().mean().item())
            )
    ids, mask = texts([6] * 40)
    image_embeds = model.vision(pictures(40))
    with torch.no_grad():
        still = model.text(ids, mask, image_embeds)
        assert torch.equal(model.text(ids, mask, image_embeds), still)
        shares.clear()
        torch.manual_seed(0)
        assert not torch.allclose(model.train().text(ids, mask, image_embeds), still)
    assert shares == pytest.approx(
        [0.3] * (1 + 2 * 3), abs=0.03
    )  # embeddings, then three sub-layers in each layer
    for layer in model.text.layers:
        assert isinstance(layer, TextLayer)
        assert layer.self_attn.dropout == layer.cross_attn.dropout == 0.2


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointing_recomputes_every_layer_and_changes_no_gradient(dropout: float) -> None:
    config = tiny_config(text={"dropout": dropout, "attn_dropout": dropout})
    ids, mask = texts([4, 6])
    gradients, counts = [], []
    for on, training in ((False, True), (True, True), (True, False)):
        model = tiny_model(config).train(training)
        model.checkpoint_activations(text=True)
        model.checkpoint_activations(text=on)
        forwards: list[str] = []
        for layer in model.text.layers:
            assert isinstance(layer, TextLayer)
            for name, part in (
                ("self", layer.self_attn.qkv),
                ("image", layer.cross_attn.kv),
                ("mlp", layer.mlp),
            ):
                part.register_forward_hook(lambda *_, name=name, heard=forwards: heard.append(name))
        torch.manual_seed(5)
        (model.text(ids, mask, model.vision(pictures(2))) ** 3).sum().backward()
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
