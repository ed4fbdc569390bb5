"""Gradient-weighted cross-attention against derivatives that are computed in another way."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from random_captioner import make_captioner
from torch import Tensor, nn

import cutline
from cutline.captioner import Captioner
from cutline.errors import ConfigError
from cutline.explanation import Explanation
from cutline.explanation.gradient import map_gradient
from cutline.explanation.target import (
    Encoded,
    Target,
    list_predicting,
    make_target,
    sum_words,
)
from cutline.model.fixed_scale import normalize_fixed_scale

CAPTION = "a red starcircle above two blue star"


def make_random_target(captioner: Captioner, caption: str = CAPTION) -> Target:
    ids, prompt_length = captioner.tokenizer.encode(caption, captioner.config.prompt)
    pixels = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(0))
    encoded = Encoded(ids[:-1], prompt_length)
    return make_target(captioner.tokenizer, pixels.to(torch.uint8), encoded)


class FixedNorm(nn.Module):
    """Layer normalization with scales that were recorded in a first pass."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm, self.scale = norm, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        centered = x - x.mean(-1, keepdim=True)
        if not self.scale.numel():
            self.scale = (centered.square().mean(-1, keepdim=True) + self.norm.eps).rsqrt()
        return centered * self.scale * self.norm.weight + self.norm.bias


def test_maps_follow_from_finite_differences() -> None:
    """Each attention weight is changed a little, while the scales of all norms stay."""
    captioner = make_captioner()
    target = make_random_target(captioner)
    expected = [np.asarray(map_gradient(captioner, [target])[0])]
    model = captioner.model.double()
    text = model.text
    with torch.no_grad():
        image_embeds = model.vision(make_pixel_values(captioner, target).double())
    fixed: list[FixedNorm] = []
    for layer in text.layers:
        for name in ("norm1", "norm2", "norm3"):
            fixed.append(FixedNorm(getattr(layer, name)))
            setattr(layer, name, fixed[-1])
    fixed.append(FixedNorm(text.lm_head.norm))
    text.lm_head.norm = fixed[-1]
    ids = torch.tensor([target.token_ids])

    def score(changes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the words' log-probabilities with changed attention weights, and these."""
        x, seen = text.embed(ids, torch.arange(ids.shape[1])), []
        for layer, change in zip(text.layers, changes, strict=True):
            x = layer.norm1(x + layer.self_attn(x, None, causal=True))
            image_kv = layer.cross_attn.project_image(image_embeds)
            q = layer.cross_attn.q(x).unflatten(-1, (2, -1)).transpose(1, 2)
            weights = (q @ image_kv[0].transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
            seen.append(weights)
            mixed = ((weights + change) @ image_kv[1]).transpose(1, 2).flatten(2)
            x = layer.norm2(x + layer.cross_attn.proj(mixed))
            x = layer.norm3(x + layer.mlp(x))
        log_probs = text.compute_logits(x[:, :-1]).log_softmax(-1)
        log_probs = log_probs.gather(2, ids[:, 1:, None])[0, :, 0]
        return sum_words(log_probs, target.words), seen

    shape = (1, 2, ids.shape[1], image_embeds.shape[1])
    zeros = [torch.zeros(shape, dtype=torch.float64) for _ in text.layers]
    step = 1e-5
    with torch.no_grad():
        _, attention = score(zeros)  # which also fixes the scales
        for number, word in enumerate(target.words):
            own = torch.zeros(image_embeds.shape[1] - 1, dtype=torch.float64)
            for layer, weights in enumerate(attention):
                for head in range(2):
                    for at in list_predicting(word):
                        for patch in range(1, image_embeds.shape[1]):
                            scores = []
                            for sign in (1, -1):
                                changes = [each.clone() for each in zeros]
                                changes[layer][0, head, at, patch] = sign * step
                                scores.append(score(changes)[0][number])
                            slope = (scores[0] - scores[1]) / (2 * step)
                            product = slope * weights[0, head, at, patch]
                            own[patch - 1] += product.clamp_min(0)
            np.testing.assert_allclose(expected[0][number], own, rtol=2e-3, atol=1e-5)


def make_pixel_values(captioner: Captioner, target: Target) -> Tensor:
    image = captioner.config.image
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (image.mean, image.std))
    return ((target.pixels.float() / 255 - mean) / std)[None]


def test_a_fixed_scale_changes_the_gradient_only() -> None:
    norm = nn.LayerNorm(8)
    nn.init.normal_(norm.weight)
    x = torch.randn(3, 8, requires_grad=True)
    out = normalize_fixed_scale(norm, x)
    torch.testing.assert_close(out, norm(x))
    weights = torch.randn(3, 8)
    [fixed] = torch.autograd.grad((out * weights).sum(), x)
    # With a constant scale the layer is linear, so that gradient times input is the output.
    torch.testing.assert_close((fixed * x).sum(), ((out - norm.bias) * weights).sum())
    [full] = torch.autograd.grad((norm(x) * weights).sum(), x)
    assert (full * x).sum().abs() < 1e-4 < (fixed * x).sum().abs()
    assert torch.equal(normalize_fixed_scale(norm, x.detach()), norm(x.detach()))


def assert_equal_maps(first: Explanation, second: Explanation, rtol: float = 1e-4) -> None:
    assert first.text == second.text
    assert [word.text for word in first.words] == [word.text for word in second.words]
    for one, two in zip(first.words, second.words, strict=True):
        np.testing.assert_allclose(one.map, two.map, rtol=rtol, atol=1e-5)


def test_a_batch_has_the_maps_of_its_images(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    captions = ["a circle", CAPTION, "two star"]
    together = cutline.explain(captioner, images, captions)
    for image, caption, one in zip(images, captions, together, strict=True):
        assert_equal_maps(cutline.explain(captioner, image, caption), one)


@pytest.mark.parametrize(("engine", "precision"), [("packed", "fp32"), ("packed", "int8")])
def test_another_engine_is_loaded_again_once(
    folder: Path, captioner: Captioner, images: list[Image.Image], engine: Any, precision: Any
) -> None:
    other = cutline.load(folder, "cpu", precision, engine=engine)
    with torch.inference_mode():  # as a server calls it
        first = cutline.explain(other, images[0], CAPTION)
    copy = other.eager_copy
    assert_equal_maps(first, cutline.explain(captioner, images[0], CAPTION))
    cutline.explain(other, images[1], CAPTION)
    assert other.eager_copy is copy
    assert all(weight.grad is None for weight in copy.model.parameters())


def test_a_frozen_model_has_the_same_maps(captioner: Captioner, images: list[Image.Image]) -> None:
    frozen = make_captioner()
    frozen.model.requires_grad_(False)
    expected = cutline.explain(captioner, images[0], CAPTION)
    assert_equal_maps(cutline.explain(frozen, images[0], CAPTION), expected)


def test_a_captioner_without_source_says_what_to_do(folder: Path) -> None:
    eager = cutline.load(folder, "cpu", "fp32", engine="eager")
    packed = Captioner(eager.model, eager.tokenizer, "cpu", "fp32", "packed")
    with pytest.raises(ConfigError, match='engine="eager"'):
        cutline.explain(packed, Image.new("RGB", (32, 32)), "a red circle")


def test_other_weights_in_the_same_place_are_noticed(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "model")
    packed = cutline.load(tmp_path / "model", "cpu", "fp32")
    changed = make_captioner()
    with torch.no_grad():
        changed.model.text.token_embed.weight += 1
    cutline.checkpoint.save_native(
        tmp_path / "model",
        cutline.checkpoint.Checkpoint(
            changed.config, changed.model.state_dict(), changed.tokenizer
        ),
    )
    with pytest.raises(ConfigError, match="has other weights than when"):
        cutline.explain(packed, Image.new("RGB", (32, 32)), "a red circle")
