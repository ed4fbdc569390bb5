"""Make a model ready to run on one device, in one precision, as fast as it goes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cutline.config import Engine
from cutline.device import has_fast_bf16
from cutline.engine.linear import Head, Int8Linear, PackedLinear, UpcastLinear
from cutline.engine.memory import keep_freed_memory
from cutline.errors import ConfigError
from cutline.model import CaptionModel
from cutline.model.text import TextTransformer

MakeLinear = Callable[[Tensor, Tensor | None], nn.Module]
KEYS_VALUES = "kv"  # the projection of the image: many rows, once per image


def prepare_model(
    model: CaptionModel, device: torch.device, precision: str, engine: Engine
) -> torch.dtype:
    """Move `model` to `device` and change its layers, in place, for speed; returns the precision it computes in.

    precision: fp32, bf16 or int8. Unless the engine is "plain", the model can only be run afterwards: not trained, not saved.

    Raises:
        ConfigError: precision, engine and device do not go together, or a library is missing.
    """
    check_supported(device, precision, engine)
    model.to(device, torch.bfloat16 if precision == "bf16" else torch.float32).eval()
    if engine != "plain":
        model.requires_grad_(False)
        if device.type == "cpu":
            CPU_LAYOUTS[precision](model, engine)
            for parameter in (
                model.parameters()
            ):  # a checkpoint's weights are views of its file, which would stay in memory whole
                parameter.data = parameter.data.clone()
            keep_freed_memory()  # not before: the weights that were laid out anew are not needed again
        if engine in ("compiled", "openvino"):
            model.vision = other_vision(model, precision, engine)  # type: ignore[assignment]  # reads pixels as well
    return next(model.text.token_embed.parameters()).dtype


def check_supported(device: torch.device, precision: str, engine: Engine) -> None:
    """Raise ConfigError where precision, engine and device do not go together."""
    if engine not in ("plain", "packed", "compiled", "openvino"):
        raise ConfigError(f"engine {engine!r} is not one of plain, packed, compiled, openvino")
    if precision == "int8" and (device.type != "cpu" or engine != "packed"):
        raise ConfigError(
            f"int8 runs on the CPU with the engine packed, not on {device.type} with {engine}: choose bf16 or fp32 there"
        )
    if precision == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ConfigError("int8 needs an x86 processor: choose bf16 or fp32 here")
    if engine == "openvino" and device.type != "cpu":
        raise ConfigError(f"OpenVINO runs on the CPU, not on {device.type}: choose another engine")


def pack_fp32(model: CaptionModel, engine: Engine) -> None:
    """Pack what is multiplied with few rows at every step; with many rows packing gains nothing."""
    replace_linears(model.text, PackedLinear, but=KEYS_VALUES)


def pack_bf16(model: CaptionModel, engine: Engine) -> None:
    """With units for bf16, pack everything; without, keep weights and keys in it and multiply in fp32."""
    if has_fast_bf16(torch.device("cpu")):
        replace_linears(model.text, PackedLinear)
        if engine == "packed":  # the others lay the encoder out themselves
            replace_linears(model.vision, PackedLinear)
        return
    model.cache_dtype = torch.bfloat16
    if engine == "packed":
        replace_linears(model.vision, UpcastLinear)
    replace_linears(model.text, UpcastLinear, only=KEYS_VALUES)
    model.float()
    replace_linears(model.text, PackedLinear)  # read at every step: too often to convert each time


def pack_int8(model: CaptionModel, engine: Engine) -> None:
    """All linear layers in 8 bits."""
    replace_linears(model.vision, Int8Linear)
    replace_linears(model.text, Int8Linear)


CPU_LAYOUTS = {"fp32": pack_fp32, "bf16": pack_bf16, "int8": pack_int8}


def replace_linears(part: nn.Module, make: MakeLinear, only: str = "", but: str = "") -> None:
    """Replace the linear layers of `part`, and its LM head, by what `make` makes of them."""
    if make is PackedLinear and not torch.backends.mkldnn.is_available():
        return  # PyTorch's own do, if slower
    for module in list(part.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and name != but and only in ("", name):
                setattr(module, name, make(child.weight, child.bias))
    if isinstance(part, TextTransformer) and not only:
        head = part.lm_head
        part.lm_head = Head(head.dense, head.norm, make(part.token_embed.weight, head.bias))  # type: ignore[assignment]


def other_vision(model: CaptionModel, precision: str, engine: Engine) -> nn.Module:
    """The encoder as `engine` runs it; imported here, for they take a while to import."""
    if engine == "openvino":
        from cutline.engine.openvino import openvino_vision

        return openvino_vision(model.vision, precision)
    from cutline.engine.compiled import compile_vision

    return compile_vision(model.vision)
