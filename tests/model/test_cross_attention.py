"""The attention weights that a forward pass returns, against transformers."""

import pytest
import torch
from tiny_model import make_config, make_images, make_model, make_texts

from cutline.checkpoint import HUGGINGFACE, export_weights


def test_cross_attention_is_that_of_transformers() -> None:
    blip = pytest.importorskip("transformers.models.blip")
    config = make_config(text={"vocab_size": 40})
    model = make_model(config)
    vision, text = config.vision, config.text
    reference = blip.BlipForConditionalGeneration(
        blip.BlipConfig(
            vision_config={
                "hidden_size": vision.embed_dim,
                "intermediate_size": vision.mlp_dim,
                "num_hidden_layers": vision.depth,
                "num_attention_heads": vision.num_heads,
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
                "layer_norm_eps": vision.layer_norm_eps,
                "attn_implementation": "eager",
            },
            text_config={
                "vocab_size": text.vocab_size,
                "hidden_size": text.embed_dim,
                "encoder_hidden_size": vision.embed_dim,
                "intermediate_size": text.mlp_dim,
                "num_hidden_layers": text.depth,
                "num_attention_heads": text.num_heads,
                "max_position_embeddings": text.max_positions,
                "attn_implementation": "eager",
            },
            attn_implementation="eager",
        )
    ).eval()
    weights = export_weights(model.state_dict(), HUGGINGFACE)
    unexpected = reference.load_state_dict(weights, strict=False).unexpected_keys
    assert unexpected == []
    ids, mask = make_texts([7, 4])
    with torch.no_grad():
        image_embeds = model.vision(make_images(2))
        layers = model.text.forward_with_attention(ids, image_embeds)[1]
        expected = reference.text_decoder(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=image_embeds,
            output_attentions=True,
        ).cross_attentions
    assert len(layers) == len(expected) == text.depth
    for row, length in enumerate((7, 4)):
        for own, other in zip(layers, expected, strict=True):
            torch.testing.assert_close(own[row, :, :length], other[row, :, :length])


def test_hidden_states_do_not_change() -> None:
    """A forward pass that returns its attention computes the same as one that does not."""
    model = make_model()
    ids, mask = make_texts([7, 5, 2])
    with torch.no_grad():
        image_embeds = model.vision(make_images(3))
        hidden, layers = model.text.forward_with_attention(ids, image_embeds)
        expected = model.text(ids, mask, image_embeds)
    torch.testing.assert_close(hidden[mask.bool()], expected[mask.bool()])
    for weights in layers:
        assert weights.shape == (3, 2, 7, 5)
        torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 7))
