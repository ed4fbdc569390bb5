"""Low-rank adaptation: nothing at first, small afterwards, and gone when merged."""

import pytest
import torch
from tiny_model import pictures, texts, tiny_config, tiny_model

from cutline.errors import ConfigError
from cutline.model import CaptionModel, lm_labels
from cutline.model.lora import LoraLinear, add_lora, merge_lora

ALL = ("*.qkv", "*.q", "*.kv", "*.proj", "*.fc1", "*.fc2")


def loss(model: CaptionModel) -> torch.Tensor:
    ids, mask = texts([4, 6])
    return model(pictures(2), ids, mask, lm_labels(ids, mask, torch.tensor([1, 2]))).loss


def adapted(targets: tuple[str, ...] = ALL) -> tuple[CaptionModel, list[str]]:
    model = tiny_model(tiny_config())
    return model, add_lora(model, targets, rank=2, scale=3.0)


def test_nothing_changes_until_it_learns() -> None:
    model, names = adapted()
    assert torch.equal(loss(model), loss(tiny_model(tiny_config())))
    assert len(names) == sum(isinstance(layer, LoraLinear) for layer in model.modules()) > 10


def test_only_the_small_products_learn() -> None:
    model, names = adapted(("text.*.self_attn.qkv",))
    loss(model).backward()
    learned = [name for name, weight in model.named_parameters() if weight.grad is not None]
    assert learned == [f"{name}.lora_{part}" for name in names for part in "ab"]
    assert all(name.startswith("text.layers.") and name.endswith("self_attn.qkv") for name in names)


def test_merged_weights_are_those_of_a_plain_model_that_does_the_same() -> None:
    model, names = adapted()
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight.detach(), std=0.3)
    plain = tiny_model(tiny_config())
    before = loss(plain)
    plain.load_state_dict(merge_lora(model.state_dict(), 3.0))  # strict: no name of LoRA is left
    torch.testing.assert_close(loss(plain), loss(model))
    assert abs(loss(plain) - before) > 1e-3
    assert names


def test_dropout_acts_in_training_alone() -> None:
    model = tiny_model(tiny_config())
    add_lora(model, ["*.fc1"], rank=2, scale=1.0, dropout=0.5)
    for layer in model.modules():
        if isinstance(layer, LoraLinear):
            torch.nn.init.ones_(layer.lora_b)
    assert torch.equal(loss(model), loss(model))
    model.train()
    assert not torch.equal(loss(model), loss(model))


def test_a_pattern_that_matches_nothing_names_what_there_is() -> None:
    with pytest.raises(
        ConfigError, match=r"no projection is called '\*.query': there are \*.dense, \*.fc1"
    ):
        add_lora(tiny_model(tiny_config()), ["*.qkv", "*.query"], rank=2, scale=1.0)
