"""Models prepared for inference, compared with the eager model."""

import copy
import pickle
from typing import Any

import pytest
import torch
from random_captioner import draw_images, make_captioner

from cutline.captioner import Captioner
from cutline.config import Engine, InferencePrecision
from cutline.device import has_native_bf16, has_only_avx512_bf16
from cutline.engine import prepare_model
from cutline.engine.attention import attend_in_groups
from cutline.engine.linear import Int8Bf16Linear, Int8Linear, PackedLinear, UpcastLinear
from cutline.errors import ConfigError
from cutline.model.attention import Attend, CrossAttention, SelfAttention, attend

EAGER = make_captioner()
IMAGES = draw_images(5)


def prepare(precision: InferencePrecision, engine: Engine = "packed") -> Captioner:
    """Prepare a copy of EAGER."""
    return Captioner(copy.deepcopy(EAGER.model), EAGER.tokenizer, "cpu", precision, engine)


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 1}, {"sample": True, "num_captions": 2}, {"repetition_penalty": 1.4}],
    ids=str,
)
def test_packed_fp32_generates_the_same_captions(settings: dict[str, Any]) -> None:
    captions = prepare("fp32").caption(IMAGES, **settings)
    expected = EAGER.caption(IMAGES, **settings)
    assert [caption.token_ids for caption in captions] == [
        caption.token_ids for caption in expected
    ]
    assert [caption.score for caption in captions] == pytest.approx(
        [caption.score for caption in expected], abs=1e-4
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.3), ("int8", 0.5)])
def test_scores_of_every_precision_are_close_to_fp32(
    precision: InferencePrecision, tolerance: float
) -> None:
    texts = ["a red circle", "the left star", "two"]
    scores, expected = (
        captioner.score(IMAGES[0], texts) for captioner in (prepare(precision), EAGER)
    )
    for score, reference in zip(scores, expected, strict=True):
        assert score.token_log_probs == pytest.approx(reference.token_log_probs, abs=tolerance)
        assert score != reference or precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_captions_do_not_depend_on_their_batch(precision: InferencePrecision) -> None:
    captioner = prepare(precision)
    settings: dict[str, Any] = {"max_length": 7, "num_beams": 1}
    single = [captioner.caption(image, **settings).pop() for image in IMAGES]
    batched = captioner.caption(IMAGES, batch_size=3, **settings)
    # keys and values are rounded to bf16, which amplifies differences in the last bit of fp32
    assert [caption.score for caption in batched] == pytest.approx(
        [caption.score for caption in single], abs=2e-2
    )


def test_no_linear_layer_is_missed() -> None:
    native_bf16 = has_native_bf16(torch.device("cpu"))
    expected: dict[InferencePrecision, set[type]] = {
        "fp32": {PackedLinear, torch.nn.Linear},
        "bf16": {PackedLinear} if native_bf16 else {PackedLinear, UpcastLinear},
        "int8": {Int8Bf16Linear if has_only_avx512_bf16() else Int8Linear},
    }
    linears = (torch.nn.Linear, PackedLinear, UpcastLinear, Int8Linear, Int8Bf16Linear)
    count = sum(isinstance(module, torch.nn.Linear) for module in EAGER.model.modules())
    for precision, types in expected.items():
        modules = prepare(precision).model.modules()
        layers = [type(module) for module in modules if isinstance(module, linears)]
        assert set(layers) == types
        assert len(layers) == count + 1  # the projection of the LM head
    text = prepare("fp32").model.text
    # those that project images are not packed
    assert sum(isinstance(module, torch.nn.Linear) for module in text.modules()) == len(text.layers)


def test_bf16_stores_keys_and_values_in_bf16() -> None:
    model = prepare("bf16").model
    weight = model.text.token_embed.weight
    assert torch.bfloat16 in (model.cache_dtype, weight.dtype)
    image_embeds = model.vision(torch.zeros(1, 3, 32, 32).to(weight.dtype))
    assert model.prefill_images(image_embeds, 5).image_kv.dtype == torch.bfloat16


@pytest.mark.skipif(not has_only_avx512_bf16(), reason="for CPUs with AVX-512 bf16, without AMX")
@pytest.mark.parametrize(
    ("precision", "engine", "expected"),
    [
        ("bf16", "packed", attend_in_groups),
        ("int8", "packed", attend_in_groups),
        ("fp32", "packed", attend),
        ("bf16", "eager", attend),
    ],
)
def test_only_avx512_bf16_uses_unfused_attention(
    precision: InferencePrecision, engine: Engine, expected: Attend
) -> None:
    modules = prepare(precision, engine).model.modules()
    layers = [module for module in modules if isinstance(module, SelfAttention | CrossAttention)]
    assert {layer.attend for layer in layers} == {expected}


def test_int8_leaves_no_linear_layer_in_floating_point() -> None:
    assert not any(
        module.weight.is_floating_point()
        for module in prepare("int8").model.modules()
        if isinstance(module, torch.nn.Linear)
    )


def test_eager_leaves_the_model_trainable() -> None:
    model = copy.deepcopy(EAGER.model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    Captioner(model, EAGER.tokenizer, "cpu", "fp32")  # engine="eager"
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("precision", "engine", "message"),
    [
        ("int8", "eager", "int8 needs the CPU and engine packed, not cpu and eager"),
        ("int8", "compiled", "int8 needs the CPU and engine packed"),
        ("fp32", "magic", "engine 'magic' is not one of auto, eager, packed, compiled, openvino"),
        ("fp32", "plain", "engine 'plain' is now 'eager'"),
    ],
)
def test_unsupported_settings_are_rejected_before_the_model_is_changed(
    precision: str, engine: str, message: str
) -> None:
    model = copy.deepcopy(EAGER.model)
    with pytest.raises(ConfigError, match=message):
        prepare_model(model, torch.device("cpu"), precision, engine)
    assert all(isinstance(layer.self_attn.qkv, torch.nn.Linear) for layer in model.text.layers)


@torch.no_grad()
def test_a_step_of_all_slots_equals_a_step_of_those_in_use() -> None:
    """`CudaGraphStep` relies on this: free slots affect no other slot and remain finite."""
    model = EAGER.model
    pixels, ids = torch.randn(2, 3, 32, 32), torch.tensor([[[3, 4]], [[5, 6]]])
    caches = [model.new_cache(4, 6) for _ in range(2)]
    for cache in caches:
        cache.image_kv.zero_()
        new = model.prefill_images(model.vision(pixels), 6, target_cache=cache)
        model.step(ids, new)
        new.reorder(torch.zeros(2, 3, dtype=torch.long))
        cache.extend(new)
    for number in range(9):  # more steps than positions, so that free slots wrap around
        tokens = torch.full((4, 3, 1), number % 7)
        used, every = model.step(tokens[:2], caches[0]), model.step(tokens, caches[1])
        torch.testing.assert_close(every[:2], used)
        assert every.isfinite().all()


def test_an_eager_captioner_can_be_copied_and_pickled() -> None:
    expected = EAGER.caption(IMAGES)
    for captioner in (copy.deepcopy(EAGER), pickle.loads(pickle.dumps(EAGER))):
        assert captioner.caption(IMAGES) == expected
        assert captioner.model.state_dict().keys() == EAGER.model.state_dict().keys()
