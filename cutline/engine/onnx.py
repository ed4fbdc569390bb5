"""A captioner whose vision encoder and text side are ONNX graphs, run by ONNX Runtime on the CPU.

Tensors go in and out by name. Shapes: B images of S x S pixels, Q = K * T queries of an image
(T new tokens of each of its K beams), P earlier tokens, L layers, H heads, N visual tokens,
d dimensions per head, V vocabulary.

encoder.onnx:
    pixels (B, 3, S, S), uint8
    -> for each layer, image_keys_I and image_values_I (B, H, N, d); if visual tokens merge,
    image_bias (B, 1, 1, N) for their sizes
decoder.onnx:
    input_ids (B, Q), position_ids (B, Q), mask (B, 1, Q, P + Q), true where a query may attend;
    what encoder.onnx returned; for each layer, past_keys_I and past_values_I (B, H, P, d)
    -> logits (B, Q, V); for each layer, new_keys_I and new_values_I (B, H, Q, d)
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from cutline.config import CaptionConfig
from cutline.engine.module import InferenceModule
from cutline.engine.onnx_graph import OnnxGraph
from cutline.engine.threads import choose_num_threads, limit_threads
from cutline.model import CaptionModel, KeysValues
from cutline.model.cache import TextCache
from cutline.model.vision import check_image_size

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
MAX_QUERIES = 256
"""queries of an image that are scored at once; attention among them grows with their square"""


def name_tensors(kind: str, num_layers: int) -> list[str]:
    """Return the names of the keys and values of all layers, of kind "image", "past" or "new"."""
    pairs = ((f"{kind}_keys_{i}", f"{kind}_values_{i}") for i in range(num_layers))
    return list(chain.from_iterable(pairs))


def name_image_tensors(config: CaptionConfig) -> list[str]:
    """Return the names of what the encoder returns, and the decoder takes."""
    bias = ["image_bias"] if config.merge_tokens else []
    return [*name_tensors("image", config.text.depth), *bias]


class OnnxVision(InferenceModule):
    """A vision encoder that is a graph, which also projects keys and values of all layers."""

    def __init__(self, file: Path, config: CaptionConfig) -> None:
        super().__init__()
        self.config = config.vision
        self.count = 2 * config.text.depth
        self.run_graph = OnnxGraph(file, ["pixels"], name_image_tensors(config))

    def forward(self, pixels: Tensor) -> Tensor:
        """Map uint8 pixels (B, 3, S, S) to keys and values of all layers.

        Returns:
            (B, 2 * L, H, N, d), or (B, 2 * L, H, N, d + 1) if tokens merge, with their bias in the
            last channel.

        Raises:
            ValueError: The images have another size.
        """
        check_image_size(pixels, self.config.image_size)
        outputs = self.run_graph(pixels)
        image_kv = torch.stack(outputs[: self.count], dim=1)
        for bias in outputs[self.count :]:
            channel = bias[:, None].transpose(-1, -2).expand(*image_kv.shape[:-1], 1)
            image_kv = torch.cat([image_kv, channel], -1)
        return image_kv


class OnnxText(InferenceModule):
    """A text side that is a graph, which includes the LM head: hidden states are logits already."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, file: Path, config: CaptionConfig) -> None:
        super().__init__()
        self.config = config.text
        self.head_dim = config.text.embed_dim // config.text.num_heads
        past, new = (name_tensors(kind, config.text.depth) for kind in ("past", "new"))
        inputs = ["input_ids", "position_ids", "mask", *name_image_tensors(config), *past]
        self.run_graph = OnnxGraph(file, inputs, ["logits", *new])

    def project_image(self, image_embeds: Tensor) -> Iterator[KeysValues]:
        """Yield each layer's keys and values, (B, H, N, d) each, of what `OnnxVision` returns."""
        image_kv, bias = image_embeds.split_with_sizes(
            [self.head_dim, image_embeds.shape[-1] - self.head_dim], dim=-1
        )
        image_bias = bias[:, 0, :1].transpose(-1, -2) if bias.shape[-1] else None  # (B, 1, 1, N)
        for layer in image_kv.unflatten(1, (-1, 2)).unbind(1):
            yield KeysValues(layer[:, 0], layer[:, 1], image_bias)

    def step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Run one decoding step.

        Args:
            input_ids: (B, K, T).
            cache: Keys and values of images and earlier tokens; the new tokens are added.

        Returns:
            Logits of the last token of each beam, (B, K, V).
        """
        layers, position_ids, mask = cache.advance(*input_ids.shape)
        # The graph reads the new tokens behind all entries of the cache, not at their places.
        write_index = layers[0].write_index
        old_mask = mask.index_fill(3, write_index, False)
        mask = torch.cat([old_mask, mask[..., write_index]], 3)  # (B, 1, Q, P * K' + Q)
        image_kv = list_image_tensors([layer.image_kv for layer in layers])
        token_kv = chain.from_iterable(layer.token_kv for layer in layers)
        logits, *new = self.run_graph(
            input_ids.flatten(1), position_ids.flatten(1), mask, *image_kv, *token_kv
        )
        for layer, k, v in zip(layers, new[::2], new[1::2], strict=True):
            layer.append(k, v)
        return logits.view(*input_ids.shape, -1)[:, :, -1]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, *, image_kv: Sequence[KeysValues]
    ) -> Tensor:
        """Compute the logits (R, T, V) of complete texts.

        Args:
            input_ids: (R, T), padded on the right; R = B * K rows, K per image.
            attention_mask: (R, T), false at padding.
            image_kv: What `project_image` yields.
        """
        tensors = [tensor.contiguous() for tensor in list_image_tensors(image_kv)]
        num_tokens = input_ids.shape[1]
        columns = max(1, MAX_QUERIES // num_tokens)
        ids, valid = (
            each.view(len(tensors[0]), -1, num_tokens).split(columns, 1)
            for each in (input_ids, attention_mask)
        )
        parts = [self._read_texts(*part, tensors) for part in zip(ids, valid, strict=True)]
        return torch.cat(parts, 1).flatten(0, 1)

    def _read_texts(self, ids: Tensor, valid: Tensor, image_kv: Sequence[Tensor]) -> Tensor:
        """Return the logits of K texts of each image, (B, K, T, V).

        Args:
            ids: (B, K, T).
            valid: (B, K, T), false at padding.
            image_kv: What `list_image_tensors` returns.
        """
        num_images, num_texts, num_tokens = ids.shape
        position = torch.arange(num_tokens)
        # A token attends to tokens of its own text, up to itself; a pad attends to itself, too.
        causal = position <= position[:, None]
        itself = position == position[:, None]
        seen = (valid[:, :, None] & causal) | itself  # (B, K, T, T)
        mask = seen.new_zeros(num_images, num_texts, num_tokens, num_texts, num_tokens)
        for text in range(num_texts):
            mask[:, text, :, text] = seen[:, text]
        position_ids = position.expand(ids.shape)
        past = torch.empty(num_images, self.config.num_heads, 0, self.head_dim)
        logits = self.run_graph(
            ids.flatten(1),
            position_ids.flatten(1),
            mask.flatten(3).flatten(1, 2)[:, None],
            *image_kv,
            *[past] * (2 * self.config.depth),
        )[0]
        return logits.view(*ids.shape, -1)

    def compute_logits(self, logits: Tensor) -> Tensor:
        """Return its argument, which `forward` and `step` have computed."""
        return logits


def list_image_tensors(image_kv: Sequence[KeysValues]) -> list[Tensor]:
    """Return keys and values of all layers, and their bias if there is one, in order."""
    tensors = [tensor for layer in image_kv for tensor in (layer.keys, layer.values)]
    bias = image_kv[0].bias
    return tensors if bias is None else [*tensors, bias]


def attach_graphs(model: CaptionModel, folder: Path) -> None:
    """Replace the vision encoder and the text side of a model without weights by graphs.

    Args:
        model: The model, with the sizes of the graphs.
        folder: The folder of the graphs.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        CheckpointError: A graph cannot be read.
    """
    config = model.config
    with limit_threads(choose_num_threads(config)):  # graphs keep their number
        model.vision = OnnxVision(folder / ENCODER_FILE, config)  # type: ignore[assignment]
        model.text = OnnxText(folder / DECODER_FILE, config)  # type: ignore[assignment]
