"""The two graphs as modules, and their export; `cutline.engine.onnx` says what goes in and out."""

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from cutline.engine.onnx import list_image_tensors, name_image_tensors, name_tensors
from cutline.errors import CheckpointError, ConfigError
from cutline.image import normalize
from cutline.model import CaptionModel, KeysValues
from cutline.model.attention import CrossAttention
from cutline.model.text import LMHead
from cutline.onnx_export.translations import TRANSLATIONS

OPSET = 20
"""version of ONNX's operators, the first with GELU"""
MAX_BYTES = 2**31 - 2**24
"""largest weights of a graph; a file may have 2 GiB"""

_BATCH, _QUERIES, _PAST = Dim("batch"), Dim("queries"), Dim("past", min=0)


class EncoderGraph(nn.Module):
    """Maps uint8 pixels to keys and values of the image, for the cross-attention of each layer."""

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.config, self.vision = model.config.image, model.vision
        layers = model.text.layers
        self.cross_attn = nn.ModuleList(layer.cross_attn for layer in layers)  # type: ignore[misc]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Map pixels (B, 3, S, S) to what `list_image_tensors` returns."""
        image_embeds = self.vision(normalize(pixels, self.config))
        layers = cast(Iterable[CrossAttention], self.cross_attn)
        return list_image_tensors([layer.project_image(image_embeds) for layer in layers])


class DecoderGraph(nn.Module):
    """Maps new tokens, and the keys and values of images and earlier tokens, to logits."""

    def __init__(self, model: CaptionModel) -> None:
        super().__init__()
        self.text = model.text

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        mask: Tensor,
        image_kv: Sequence[Tensor],
        past_kv: Sequence[Tensor],
    ) -> list[Tensor]:
        """Return logits (B, Q, V), and keys and values of the new tokens, (B, H, Q, d) each.

        Args:
            input_ids: (B, Q).
            position_ids: (B, Q).
            mask: (B, 1, Q, P + Q), true where a query may attend: earlier tokens, then new ones.
            image_kv: What `list_image_tensors` returns.
            past_kv: Those of earlier tokens, (B, H, P, d) each.
        """
        x = self.text.embed(input_ids, position_ids)
        bias = image_kv[-1] if len(image_kv) > len(past_kv) else None
        new_kv: list[Tensor] = []
        for number, layer in enumerate(self.text.layers):
            key, value = 2 * number, 2 * number + 1
            cache = _PastTokens((past_kv[key], past_kv[value]))
            image = KeysValues(image_kv[key], image_kv[value], bias)
            x = layer(x, mask, False, image, cache)
            new_kv += cache.new
        return [self.text.compute_logits(x), *new_kv]


class _PastTokens:
    """Takes the place of a `CacheLayer`: new tokens follow the earlier ones."""

    def __init__(self, past: Sequence[Tensor]) -> None:
        self.past, self.new = past, list[Tensor]()

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keep k and v of the new tokens, and return those of all."""
        self.new = [k, v]
        keys, values = (torch.cat(pair, 2) for pair in zip(self.past, self.new, strict=True))
        return keys, values


class SharedLMHead(nn.Module):
    """An LM head whose file holds its projection, the token embedding, only once."""

    def __init__(self, head: LMHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, token_embed: Tensor) -> Tensor:
        """Map x (B, Q, D) and token_embed (V, D) to logits (B, Q, V)."""
        hidden = self.head.norm(F.gelu(self.head.dense(x)))
        # The exporter would write a transposed copy of the weights of a linear layer.
        logits: Tensor = torch.onnx.ops.symbolic(
            "Gemm",
            (hidden.flatten(0, 1), token_embed, self.head.bias),
            {"transB": 1},
            dtype=x.dtype,
            shape=(x.shape[0] * x.shape[1], token_embed.shape[0]),
        )
        return logits.view(*x.shape[:2], -1)


def export_encoder(model: CaptionModel) -> bytes:
    """Return the file of the encoder.

    Raises:
        ConfigError: A package is missing.
        CheckpointError: The graph is larger than a file may be.
    """
    size = model.config.vision.image_size
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    outputs = name_image_tensors(model.config)
    return _export(EncoderGraph(model), (pixels,), ({0: _BATCH},), ["pixels"], outputs)


def export_decoder(model: CaptionModel) -> bytes:
    """Return the file of the decoder; for errors, see `export_encoder`."""
    text, num_visual = model.config.text, model.embeds_shape[0]
    heads, head_dim, count = text.num_heads, text.embed_dim // text.num_heads, 2 * text.depth
    biases = [torch.zeros(2, 1, 1, num_visual)] if model.merge_tokens else []
    arguments = (
        *(torch.zeros(2, 3, dtype=torch.long) for _ in range(2)),  # one tensor would be one input
        torch.ones(2, 1, 3, 7, dtype=torch.bool),
        [*(torch.zeros(2, heads, num_visual, head_dim) for _ in range(count)), *biases],
        [torch.zeros(2, heads, 4, head_dim) for _ in range(count)],
    )
    dynamic_shapes = (
        {0: _BATCH, 1: _QUERIES},
        {0: _BATCH, 1: _QUERIES},
        {0: _BATCH, 2: _QUERIES, 3: Dim.DYNAMIC},
        [{0: _BATCH}] * (count + len(biases)),
        [{0: _BATCH, 2: _PAST}] * count,
    )
    past, new = (name_tensors(kind, text.depth) for kind in ("past", "new"))
    inputs = ["input_ids", "position_ids", "mask", *name_image_tensors(model.config), *past]
    return _export(DecoderGraph(model), arguments, dynamic_shapes, inputs, ["logits", *new])


def _export(
    graph: nn.Module,
    arguments: tuple[Any, ...],
    dynamic_shapes: tuple[Any, ...],
    inputs: list[str],
    outputs: list[str],
) -> bytes:
    """Return the file of a graph, given example arguments and the names of their dimensions."""
    check_exporter()
    check_graph_size(graph)
    dim_names = {dim.__name__ for dim in (_BATCH, _QUERIES, _PAST)}
    with quiet_exporter():
        program = torch.onnx.export(
            graph.eval(),
            arguments,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dynamic_shapes,
            opset_version=OPSET,
            custom_translation_table=dict(TRANSLATIONS),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # lines of code and paths of this machine
    proto = program.model_proto
    for dim in (dim for each in proto.graph.input for dim in each.type.tensor_type.shape.dim):
        if dim.dim_param and dim.dim_param not in dim_names:  # a sum, which `Dim` cannot express
            dim.dim_param = "past + queries"
    file: bytes = proto.SerializeToString()
    return file


def check_exporter() -> None:
    """Raise ConfigError unless PyTorch can export, for which it needs other packages."""
    if not hasattr(torch.onnx, "ops"):
        raise ConfigError(
            f"ONNX export needs PyTorch 2.8, and this is {torch.__version__}: upgrade torch"
        )
    for name in ("onnx", "onnxscript"):
        try:
            import_module(name)
        except ImportError:
            raise ConfigError(
                f"ONNX export needs {name}, which is not installed: pip install 'cutline[onnx]'"
            ) from None


def check_graph_size(graph: nn.Module) -> None:
    """Raise CheckpointError if the weights of a graph are too large for a file."""
    weights = {**dict(graph.named_parameters()), **dict(graph.named_buffers())}
    size = sum(weight.numel() * weight.element_size() for weight in weights.values())
    if size > MAX_BYTES:
        is_int8 = any(weight.dtype == torch.int8 for weight in weights.values())
        remedy = "choose a smaller model" if is_int8 else "`--int8` needs a quarter"
        raise CheckpointError(
            f"a graph would hold {size / 2**30:.1f} GiB of weights, and at most 2 fit into a file: "
            f"{remedy}"
        )


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of packages that are not needed, and of its own code."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
