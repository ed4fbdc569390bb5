"""The loss and its gradients, against golden numbers of BLIP's code and against transformers."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from golden_folder import GoldenFolder
from torch import Tensor

from cutline.checkpoint import (
    HUGGINGFACE,
    SALESFORCE,
    build_model,
    compute_weight_shapes,
    export_weights,
    import_weights,
    load_checkpoint,
)
from cutline.config import CaptionConfig, TextConfig, VisionConfig
from cutline.model import CaptionModel

# --- golden numbers of BLIP's code


@dataclass(frozen=True)
class Golden:
    """A reference captioner with its inputs and outputs."""

    model: CaptionModel
    folder: GoldenFolder

    def inputs(self, rows: slice = slice(None)) -> tuple[Tensor, ...]:
        """Return pixels, ids, mask and labels."""
        return tuple(
            self.folder.tensors[name][rows]
            for name in ("pixel_values", "input_ids", "attention_mask", "labels")
        )


def load_golden_model(folder: GoldenFolder, image_size: int | None = None) -> CaptionModel:
    return build_model(
        load_checkpoint(folder.checkpoint, folder.config, folder.vocabulary, image_size)
    )


@pytest.fixture(scope="module")
def golden(golden_folder: GoldenFolder) -> Golden:
    return Golden(load_golden_model(golden_folder), golden_folder)


@pytest.mark.parametrize("return_logits", [False, True])
def test_golden_loss(golden: Golden, return_logits: bool) -> None:
    with torch.no_grad():
        mean, count, logits = golden.model(
            *golden.inputs(), reduction="mean", return_logits=return_logits
        )
        total = golden.model(*golden.inputs(), reduction="sum", return_logits=return_logits).loss
        losses = golden.model(*golden.inputs(), reduction="none", return_logits=return_logits).loss
    assert (logits is not None) == return_logits
    assert mean.item() == pytest.approx(golden.folder.expected["loss_mean"], rel=1e-5)
    assert mean.item() == pytest.approx(golden.folder.expected["loss_forward_method"], rel=1e-5)
    assert losses.tolist() == pytest.approx(
        golden.folder.expected["loss_per_caption_sum"], rel=1e-5
    )
    assert (total / count).item() == pytest.approx(golden.folder.expected["loss_mean"], rel=1e-5)


def test_golden_logits(golden: Golden) -> None:
    with torch.no_grad():
        logits = golden.model(*golden.inputs(slice(4)), return_logits=True).logits
    torch.testing.assert_close(
        logits, golden.folder.tensors["logits_first4"][:, :-1], atol=1e-4, rtol=0
    )


def test_golden_gradients(golden: Golden) -> None:
    golden.model.zero_grad()
    golden.model(*golden.inputs(), reduction="mean").loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in golden.model.named_parameters()
        if parameter.grad is not None
    }
    norms = {
        name: gradient.norm().item()
        for name, gradient in export_weights(gradients, SALESFORCE).items()
    }
    expected = golden.folder.expected["grad_norms"]
    num_weights = {"salesforce-micro": 91, "salesforce-tiny": 129}
    assert len(expected) == num_weights[golden.folder.path.name]
    assert norms.keys() == expected.keys()
    wrong = {
        name: (norm, expected[name])
        for name, norm in norms.items()
        if norm != pytest.approx(expected[name], rel=1e-3, abs=1e-6)
    }
    assert not wrong


def test_golden_text_mode_is_bidirectional(golden: Golden) -> None:
    """`mode="text"` in BLIP's code runs the text side as an encoder."""
    _, ids, mask, _ = golden.inputs(slice(4))
    expected = golden.folder.tensors["text_mode_hidden_first4"]
    with torch.no_grad():
        bidirectional, causal = (
            golden.model.text(ids, mask, causal=causal) for causal in (False, True)
        )
    torch.testing.assert_close(bidirectional, expected, atol=1e-4, rtol=0)
    assert (causal - expected).abs().max() > 0.1


def test_golden_loss_at_another_image_size(golden: Golden) -> None:
    expected = golden.folder.read_json(golden.folder.interpolated)
    pixels = golden.folder.read_tensors(golden.folder.interpolated)["pixel_values"]
    model = load_golden_model(golden.folder, expected["image_size"])
    with torch.no_grad():
        loss = model(pixels, *golden.inputs(slice(len(pixels)))[1:], reduction="mean").loss
    assert loss.item() == pytest.approx(expected["loss_mean"], rel=1e-5)


# --- transformers

CONFIG = CaptionConfig(
    vision=VisionConfig(
        image_size=12, patch_size=4, embed_dim=24, depth=2, num_heads=3, mlp_ratio=1.5
    ),
    text=TextConfig(
        vocab_size=50, embed_dim=20, depth=2, num_heads=5, mlp_dim=28, max_positions=17
    ),
)


def make_transformers_model(config: CaptionConfig) -> Any:
    blip = pytest.importorskip("transformers.models.blip")
    vision, text = config.vision, config.text
    settings = blip.BlipConfig(
        vision_config={
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "hidden_size": vision.embed_dim,
            "num_hidden_layers": vision.depth,
            "num_attention_heads": vision.num_heads,
            "intermediate_size": int(vision.embed_dim * vision.mlp_ratio),
            "layer_norm_eps": vision.layer_norm_eps,
        },
        text_config={
            "vocab_size": text.vocab_size,
            "hidden_size": text.embed_dim,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.num_heads,
            "intermediate_size": text.mlp_dim,
            "max_position_embeddings": text.max_positions,
            "label_smoothing": config.label_smoothing,
            "bos_token_id": 3,
            "sep_token_id": 2,
        },
    )
    model = blip.modeling_blip.BlipForConditionalGeneration(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def make_inputs(rows: int = 4, length: int = 9) -> dict[str, Tensor]:
    """Make rows of different lengths; prompts and some other tokens are not scored."""
    ids = torch.randint(1, CONFIG.text.vocab_size, (rows, length))
    position = torch.arange(length)
    mask = position < torch.randint(4, length + 1, (rows, 1))
    mask[0] = True
    labels = ids.where(
        mask & (position >= torch.randint(1, 4, (rows, 1))) & (torch.rand(rows, length) > 0.2), -100
    )
    return {
        "pixel_values": torch.randn(rows, 3, CONFIG.vision.image_size, CONFIG.vision.image_size),
        "input_ids": ids.where(mask, 0),
        "attention_mask": mask.long(),
        "labels": labels,
    }


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("seed", range(3))
def test_transformers_loss_logits_and_gradients(label_smoothing: float, seed: int) -> None:
    torch.manual_seed(seed)
    config = replace(CONFIG, label_smoothing=label_smoothing)
    reference, model, inputs = (
        make_transformers_model(config),
        CaptionModel(config).eval(),
        make_inputs(),
    )
    model.load_state_dict(
        import_weights(
            reference.state_dict(), HUGGINGFACE, compute_weight_shapes(config), "transformers"
        )
    )
    expected = reference(**inputs)
    actual = model(**inputs, reduction="mean", return_logits=True)
    torch.testing.assert_close(actual.logits, expected.logits[:, :-1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(actual.loss, expected.loss, atol=0, rtol=1e-5)
    expected.loss.backward()
    actual.loss.backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    for name, gradient in export_weights(gradients, HUGGINGFACE).items():
        expected_gradient = reference.get_parameter(name).grad
        # transformers does not train the input embedding of [PAD], row 0
        if name.endswith("word_embeddings.weight"):
            gradient, expected_gradient = gradient[1:], expected_gradient[1:]
        torch.testing.assert_close(gradient, expected_gradient, atol=2e-6, rtol=1e-3)
