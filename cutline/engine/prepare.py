"""Prepare a model for inference on one device, in one precision."""

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from cutline.config import Engine
from cutline.config.validation import require_choice
from cutline.device import has_native_bf16, has_only_avx512_bf16
from cutline.engine.attention import replace_attention
from cutline.engine.linear import (
    Int8Bf16Linear,
    Int8Linear,
    PackedLinear,
    UntiedLMHead,
    UpcastLinear,
)
from cutline.engine.memory import keep_freed_memory
from cutline.engine.onnx import OnnxText
from cutline.engine.threads import choose_num_threads, limit_threads
from cutline.errors import ConfigError
from cutline.model import CaptionModel, VisionTextModel
from cutline.model.text import TextTransformer

MakeLinear = Callable[[Tensor, Tensor | None], nn.Module]
"""make_linear(weight, bias) -> layer"""

IMAGE_PROJECTION = "kv"  # projects image embeddings to keys and values: many rows, once per image


def prepare_model(
    model: VisionTextModel, device: torch.device, precision: str, engine: Engine
) -> torch.dtype:
    """Move `model` to `device` and replace its layers with faster ones, in place.

    With any engine but "eager", the model can no longer be trained or saved.

    Args:
        model: The model.
        device: Where it will run.
        precision: "fp32", "bf16" or "int8".
        engine: How it will run.

    Returns:
        The data type of its input.

    Raises:
        ConfigError: Precision, engine and device are incompatible, or a library is missing.
    """
    check_supported(device, precision, engine)
    check_graphs(model, engine)
    if engine == "onnx":
        return torch.uint8
    model.to(device, torch.bfloat16 if precision == "bf16" else torch.float32).eval()
    if engine != "eager":
        model.requires_grad_(False)
        if device.type == "cpu":
            _PACK_FOR_CPU[precision](model, engine)
            keep_freed_memory()  # only now, because freed weights are not needed again
        if engine in ("compiled", "openvino"):
            model.vision = compile_encoder(model, precision, engine)  # type: ignore[assignment]
    return next(model.text.token_embed.parameters()).dtype


def check_supported(device: torch.device, precision: str, engine: Engine) -> None:
    """Raise ConfigError if precision, engine and device are incompatible."""
    require_choice("engine", engine, get_args(Engine))
    if engine == "onnx":
        return  # the graphs hold their precision
    if precision == "int8" and (device.type != "cpu" or engine != "packed"):
        raise ConfigError(
            f"int8 needs the CPU and engine packed, not {device.type} and {engine}: "
            "choose bf16 or fp32"
        )
    if precision == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ConfigError("int8 needs an x86 CPU: choose bf16 or fp32")
    if engine == "openvino" and device.type != "cpu":
        raise ConfigError(f"OpenVINO needs the CPU, not {device.type}: choose another engine")


def resolve_engine(model: VisionTextModel, engine: Engine) -> Engine:
    """Return the engine that "auto" stands for."""
    if engine != "auto":
        return engine
    return "onnx" if isinstance(model.text, OnnxText) else "packed"


def check_graphs(model: VisionTextModel, engine: Engine) -> None:
    """Raise ConfigError unless the engine is onnx exactly if the model consists of ONNX graphs."""
    has_graphs = isinstance(model.text, OnnxText)
    if engine == "onnx" and not has_graphs:
        raise ConfigError(
            "engine onnx runs captioners that `cutline convert --to onnx` has written: convert "
            "the model, or choose another engine"
        )
    if engine != "onnx" and has_graphs:
        raise ConfigError(f"ONNX graphs run with engine onnx, not {engine}: choose onnx or auto")


def pack_fp32(model: VisionTextModel, engine: Engine) -> None:
    """Pack the layers of the text side that multiply few rows at each step.

    Packing does not speed up products of many rows.
    """
    replace_linears(model.text, PackedLinear, exclude=IMAGE_PROJECTION)


def pack_bf16(model: VisionTextModel, engine: Engine) -> None:
    """Pack all layers where the CPU has native bf16; elsewhere, store in bf16, multiply in fp32.

    Without native bf16, the weights that are read at every step stay in fp32: converting them each
    time would be slow.
    """
    if has_native_bf16(torch.device("cpu")):
        # engines other than "packed" prepare the encoder themselves
        for part in (model.text, model.vision) if engine == "packed" else (model.text,):
            replace_linears(part, PackedLinear)
            if has_only_avx512_bf16():
                replace_attention(part)
        return
    if isinstance(model, CaptionModel):
        model.cache_dtype = torch.bfloat16
    if engine == "packed":
        replace_linears(model.vision, UpcastLinear)
    replace_linears(model.text, UpcastLinear, only=IMAGE_PROJECTION)
    model.float()
    replace_linears(model.text, PackedLinear)


def pack_int8(model: VisionTextModel, engine: Engine) -> None:
    """Quantize all linear layers; what is between them is bf16 where that is faster."""
    make_linear = Int8Bf16Linear if has_only_avx512_bf16() else Int8Linear
    replace_linears(model.vision, make_linear)
    replace_linears(model.text, make_linear)
    if has_only_avx512_bf16():
        model.bfloat16()  # only now, so that weights are rounded once
        replace_attention(model)


_PACK_FOR_CPU = {"fp32": pack_fp32, "bf16": pack_bf16, "int8": pack_int8}


def replace_linears(
    module: nn.Module, make_linear: MakeLinear, only: str = "", exclude: str = ""
) -> None:
    """Replace the linear layers of a module, and its LM head if it has one, in place.

    Args:
        module: The vision encoder or the text side.
        make_linear: Makes a layer from weight and bias.
        only: Replace only layers with this attribute name, and no LM head.
        exclude: Do not replace layers with this attribute name.
    """
    if make_linear is PackedLinear and not torch.backends.mkldnn.is_available():
        return  # PyTorch's own layers are slower, but work
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and name != exclude and only in ("", name):
                setattr(parent, name, make_linear(child.weight, child.bias))
    if isinstance(module, TextTransformer) and module.lm_head is not None and not only:
        head = module.lm_head
        project = make_linear(module.token_embed.weight, head.bias)
        module.lm_head = UntiedLMHead(head.dense, head.norm, project)  # type: ignore[assignment]


def compile_encoder(model: VisionTextModel, precision: str, engine: Engine) -> nn.Module:
    """Return the vision encoder in the form that `engine` runs.

    The modules are imported here because their libraries are slow to import.
    """
    with limit_threads(choose_num_threads(model.config)):  # compiled graphs keep their number
        if engine == "openvino":
            from cutline.engine.openvino import compile_with_openvino

            return compile_with_openvino(model.vision, precision)
        from cutline.engine.compiled import compile_vision

        return compile_vision(model.vision)
