"""LoRA: no effect at first, few trainable weights, and merging."""

import pytest
import torch
from tiny_model import make_config, make_images, make_model, make_texts

from cutline.errors import ConfigError
from cutline.model import CaptionModel, make_lm_labels
from cutline.model.lora import LoraLinear, add_lora, merge_lora

ALL = ("*.qkv", "*.q", "*.kv", "*.proj", "*.fc1", "*.fc2")


def compute_loss(model: CaptionModel) -> torch.Tensor:
    ids, mask = make_texts([4, 6])
    return model(make_images(2), ids, mask, make_lm_labels(ids, mask, torch.tensor([1, 2]))).loss


def make_lora_model(targets: tuple[str, ...] = ALL) -> tuple[CaptionModel, list[str]]:
    model = make_model(make_config())
    return model, add_lora(model, targets, rank=2, scale=3.0)


def test_output_is_unchanged_before_training() -> None:
    model, names = make_lora_model()
    assert torch.equal(compute_loss(model), compute_loss(make_model(make_config())))
    assert len(names) == sum(isinstance(layer, LoraLinear) for layer in model.modules()) > 10


def test_only_lora_weights_get_gradients() -> None:
    model, names = make_lora_model(("text.*.self_attn.qkv",))
    compute_loss(model).backward()
    trained = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert trained == [f"{name}.lora_{part}" for name in names for part in "ab"]
    assert all(name.startswith("text.layers.") and name.endswith("self_attn.qkv") for name in names)


def test_merged_weights_give_the_same_loss() -> None:
    model, names = make_lora_model()
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight.detach(), std=0.3)
    plain = make_model(make_config())
    before = compute_loss(plain)
    plain.load_state_dict(merge_lora(model.state_dict(), 3.0))  # strict: no LoRA name remains
    torch.testing.assert_close(compute_loss(plain), compute_loss(model))
    assert abs(compute_loss(plain) - before) > 1e-3
    assert names


def test_dropout_is_active_in_training_only() -> None:
    model = make_model(make_config())
    add_lora(model, ["*.fc1"], rank=2, scale=1.0, dropout=0.5)
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            torch.nn.init.ones_(layer.lora_b)
    assert torch.equal(compute_loss(model), compute_loss(model))
    model.train()
    assert not torch.equal(compute_loss(model), compute_loss(model))


def test_unmatched_pattern_lists_the_available_layers() -> None:
    with pytest.raises(
        ConfigError, match=r"no linear layer matches '\*.query': use \*.dense, \*.fc1"
    ):
        add_lora(make_model(make_config()), ["*.qkv", "*.query"], rank=2, scale=1.0)
