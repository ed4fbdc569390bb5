"""Models made ready to run, against the model as it is."""

import copy

import pytest
import torch
from random_captioner import drawn_pictures, random_captioner

from cutline.captioner import Captioner
from cutline.config import Engine, InferencePrecision
from cutline.device import has_fast_bf16
from cutline.engine import prepare_model
from cutline.engine.linear import Int8Linear, PackedLinear, UpcastLinear
from cutline.errors import ConfigError

PLAIN = random_captioner()
PICTURES = drawn_pictures(5)


def ready(precision: InferencePrecision, engine: Engine = "packed") -> Captioner:
    """PLAIN, made ready."""
    return Captioner(copy.deepcopy(PLAIN.model), PLAIN.tokenizer, "cpu", precision, engine)


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 1}, {"sample": True, "num_captions": 2}, {"repetition_penalty": 1.4}],
    ids=str,
)
def test_packed_fp32_writes_the_same_captions(settings: dict) -> None:
    ours, plain = (one.caption(PICTURES, **settings) for one in (ready("fp32"), PLAIN))
    assert [caption.token_ids for caption in ours] == [caption.token_ids for caption in plain]
    assert [caption.score for caption in ours] == pytest.approx(
        [caption.score for caption in plain], abs=1e-4
    )


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.3), ("int8", 0.5)])
def test_every_precision_scores_nearly_as_fp32(
    precision: InferencePrecision, tolerance: float
) -> None:
    texts = ["a red circle", "the left star", "two"]
    for one, other in zip(
        ready(precision).score(PICTURES[0], texts), PLAIN.score(PICTURES[0], texts), strict=True
    ):
        assert one.token_log_probs == pytest.approx(other.token_log_probs, abs=tolerance)
        assert (one == other) is False or precision == "fp32"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_captions_do_not_depend_on_their_batch(precision: InferencePrecision) -> None:
    captioner, settings = ready(precision), {"max_length": 7, "num_beams": 1}
    alone = [captioner.caption(picture, **settings).pop() for picture in PICTURES]  # type: ignore[arg-type]
    together = captioner.caption(PICTURES, batch_size=3, **settings)  # type: ignore[arg-type]
    # keys and values are rounded to bf16: the last bit before may be its last one
    assert [caption.score for caption in together] == pytest.approx(
        [caption.score for caption in alone], abs=2e-2
    )


def test_no_linear_layer_is_left_out() -> None:
    kinds = {"fp32": {PackedLinear, torch.nn.Linear}, "int8": {Int8Linear}}
    kinds["bf16"] = (
        {PackedLinear} if has_fast_bf16(torch.device("cpu")) else {PackedLinear, UpcastLinear}
    )
    for precision, expected in kinds.items():
        model = ready(precision).model  # type: ignore[arg-type]
        linear = (torch.nn.Linear, PackedLinear, UpcastLinear, Int8Linear)
        found = [type(module) for module in model.modules() if isinstance(module, linear)]
        assert set(found) == expected
        assert (
            len(found)
            == sum(isinstance(module, torch.nn.Linear) for module in PLAIN.model.modules()) + 1
        )  # the head's own
    text = ready("fp32").model.text
    assert sum(isinstance(module, torch.nn.Linear) for module in text.modules()) == len(
        text.layers
    )  # those that project images


def test_int8_and_bf16_take_less_memory() -> None:
    bf16 = ready("bf16").model
    assert (
        bf16.cache_dtype == torch.bfloat16 or bf16.text.token_embed.weight.dtype == torch.bfloat16
    )
    assert (
        bf16.start(
            bf16.vision(torch.zeros(1, 3, 32, 32).to(bf16.text.token_embed.weight.dtype)), 5
        ).image_kv.dtype
        == torch.bfloat16
    )
    assert not any(
        module.weight.is_floating_point()
        for module in ready("int8").model.modules()
        if isinstance(module, torch.nn.Linear)
    )


def test_plain_leaves_the_model_one_that_can_be_trained() -> None:
    model = copy.deepcopy(PLAIN.model)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    Captioner(model, PLAIN.tokenizer, "cpu", "fp32")
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("precision", "engine", "sentence"),
    [
        ("int8", "plain", "int8 runs on the CPU with the engine packed, not on cpu with plain"),
        ("int8", "compiled", "int8 runs on the CPU with the engine packed"),
        ("fp32", "magic", "engine 'magic' is not one of plain, packed, compiled, openvino"),
    ],
)
def test_what_does_not_go_together_is_said_before_anything_is_changed(
    precision: str, engine: str, sentence: str
) -> None:
    model = copy.deepcopy(PLAIN.model)
    with pytest.raises(ConfigError, match=sentence):
        prepare_model(model, torch.device("cpu"), precision, engine)  # type: ignore[arg-type]
    assert all(isinstance(layer.self_attn.qkv, torch.nn.Linear) for layer in model.text.layers)


@torch.no_grad()
def test_a_step_of_all_places_is_that_of_those_taken() -> None:
    """What a recorded step relies on: free places change nothing, and turn into nothing but numbers of their own."""
    model = PLAIN.model
    pixels, ids = torch.randn(2, 3, 32, 32), torch.tensor([[[3, 4]], [[5, 6]]])
    caches = [model.new_cache(4, 6) for _ in range(2)]
    for cache in caches:
        cache.image_kv.zero_()
        new = model.start(model.vision(pixels), 6, target_cache=cache)
        model.step(ids, new)
        new.reorder(torch.zeros(2, 3, dtype=torch.long))
        cache.extend(new)
    for number in range(9):  # more steps than slots: free places go round
        tokens = torch.full((4, 3, 1), number % 7)
        taken, every = model.step(tokens[:2], caches[0]), model.step(tokens, caches[1])
        torch.testing.assert_close(every[:2], taken)
        assert every.isfinite().all()
