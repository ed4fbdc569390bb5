"""`Matcher`: does a text belong to an image?"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

from cutline.batching.inputs import to_image_list
from cutline.checkpoint import build_matcher, load_matcher_checkpoint
from cutline.config import (
    MAX_TEXT_TOKENS,
    CaptionConfig,
    DeviceConfig,
    Engine,
    InferenceConfig,
    InferencePrecision,
    MatchConfig,
)
from cutline.config.validation import require_choice
from cutline.errors import ConfigError, CutlineError, ImageError
from cutline.image import ImageSource, prefetch_images
from cutline.matching import (
    MAX_ROWS,
    embed_texts,
    encode_texts,
    match_texts,
    pad_texts,
)
from cutline.model import MatchModel
from cutline.pairing import make_equally_long, make_pairing, number_distinct, to_text_list
from cutline.predictor import Predictor

StartToken = Literal["enc", "cls"]
"""first token of a text that reads an image: [ENC], as in training, or [CLS], as in BLIP's class
`BLIP_ITM` and in transformers"""
FeatureMode = Literal["image", "text", "multimodal"]

T = TypeVar("T")


@dataclass(frozen=True)
class MatchScores:
    """How well each text of an image matches it."""

    itm: tuple[float, ...]
    """probability that the text belongs to the image (image-text matching)"""
    itc: tuple[float, ...]
    """cosine of the embeddings of image and text (image-text contrastive)"""
    index: int = 0
    """number of the image in the input of `stream`"""


class Matcher(Predictor):
    """A model and its tokenizer, on a device, ready to match; for attributes see `Predictor`.

    Texts are used as they are, without cleaning, and cut at 35 tokens. In all methods, `batch_size`
    is the number of images, or of texts alone, that are encoded together. Each image is encoded
    once, and each text, even if they are given several times.
    """

    model: MatchModel

    @property
    def config(self) -> MatchConfig:
        """Return the model's sizes."""
        return self.model.config

    @property
    def max_text_tokens(self) -> int:
        """Return the number of tokens at which texts are cut, [SEP] included."""
        return min(MAX_TEXT_TOKENS, self.config.text.max_positions)

    def match(
        self,
        images: ImageSource | Sequence[ImageSource],
        texts: str | Sequence[str],
        *,
        pairs: bool = True,
        start_token: StartToken = "enc",
        batch_size: int = 8,
    ) -> Tensor:
        """Compute the probability that a text belongs to an image (image-text matching).

        Args:
            images: A path, bytes, PIL image or (H, W, 3) uint8 array, or a sequence of them.
            texts: A text or a sequence of them.
            pairs: Whether text i belongs to image i; one image may be given for all texts, or one
                text for all images. Otherwise every text is matched with every image.
            start_token: First token of the texts: "enc", as in training, or "cls", as in BLIP's
                `BLIP_ITM` and transformers. The probabilities differ.
            batch_size: Number of images encoded together.

        Returns:
            float32 on the CPU: (R,) for R pairs, else (B, R) for B images and R texts.

        Raises:
            ImageError: An image cannot be read.
            ConfigError: The numbers of images and texts differ, or a text is not a string.
        """
        pairing = make_pairing(images, texts, pairs)
        start_id = self._start_id(start_token)
        values: list[list[float]] = []
        inputs = zip(pairing.images, pairing.texts, strict=True)
        for image_embeds, batch in self._encode(inputs, batch_size):
            values += self.match_embeds(image_embeds, batch, start_id)
        return pairing.arrange(values)

    def similarity(
        self,
        images: ImageSource | Sequence[ImageSource],
        texts: str | Sequence[str],
        *,
        pairs: bool = True,
        batch_size: int = 8,
    ) -> Tensor:
        """Compute the cosine of the embeddings of images and texts (image-text contrastive).

        Arguments, result and errors are those of `match`.
        """
        image_list, text_list = to_image_list(images), to_text_list(texts)
        if pairs:
            image_list, text_list = make_equally_long(image_list, text_list)
        image_embeds = self.embed_images(image_list, batch_size=batch_size)  # (B, P)
        text_embeds = self.embed_texts(text_list)  # (R, P)
        return (image_embeds * text_embeds).sum(-1) if pairs else image_embeds @ text_embeds.T

    def embed_images(
        self, images: ImageSource | Sequence[ImageSource], *, batch_size: int = 8
    ) -> Tensor:
        """Return the ITC embeddings of images: (B, P), of unit length, float32 on the CPU.

        Raises:
            ImageError: An image cannot be read.
        """
        distinct, numbers = number_distinct(to_image_list(images))
        parts = [torch.empty(0, self.config.projection_dim)]
        for image_embeds, _ in self._encode(((image, None) for image in distinct), batch_size):
            parts.append(self.project_images(image_embeds))
        return torch.cat(parts)[numbers]

    def embed_texts(self, texts: str | Sequence[str], *, batch_size: int = MAX_ROWS) -> Tensor:
        """Return the ITC embeddings of texts: (R, P), of unit length, float32 on the CPU.

        Raises:
            ConfigError: A text is not a string.
        """
        InferenceConfig(batch_size=batch_size)
        self.check_process()
        text_list = to_text_list(texts)
        rows = {text: row for row, text in enumerate(dict.fromkeys(text_list))}
        encoded = encode_texts(list(rows), self.model, self.tokenizer, self.tokenizer.cls_id)
        with self.inference():
            return embed_texts(encoded, self.model, batch_size)[[rows[text] for text in text_list]]

    def features(
        self,
        images: ImageSource | Sequence[ImageSource] | None,
        texts: str | Sequence[str] | None,
        mode: FeatureMode = "multimodal",
        *,
        start_token: StartToken = "enc",
        batch_size: int = 8,
    ) -> Tensor:
        """Return hidden states, as BLIP's feature extractor does: float32 on the CPU.

        Args:
            images: As for `match`; not used by the mode "text".
            texts: As for `match`; not used by the mode "image".
            mode: "image" for the output of the vision encoder, (B, N, D); "text" for texts alone,
                (R, 35, D); "multimodal" for pairs, the texts reading their images, (R, 35, D).
                Positions after the [SEP] of a text have no meaning.
            start_token: First token of texts that read an image; see `match`.
            batch_size: Number of images, or of texts alone, encoded together.

        Raises:
            ImageError: An image cannot be read.
            ConfigError: The numbers of images and texts differ, or the mode is unknown or needs
                others.
        """
        require_choice("mode", mode, ("image", "text", "multimodal"))
        start_id = self._start_id(start_token)
        InferenceConfig(batch_size=batch_size)
        self.check_process()
        for name, values, other in (("images", images, "text"), ("texts", texts, "image")):
            if values is None and mode != other:
                raise ConfigError(f"mode {mode!r} needs {name}: give some, or choose another mode")
        image_list = [] if images is None or mode == "text" else to_image_list(images)
        text_list = [] if texts is None or mode == "image" else to_text_list(texts)
        if mode == "text":
            parts = [torch.empty(0, self.max_text_tokens, self.config.text.embed_dim)]
            for start in range(0, len(text_list), batch_size):
                parts.append(self._read_texts(text_list[start : start + batch_size]))
            return torch.cat(parts)
        if mode == "image":
            tokens, width = self.config.vision.num_tokens, self.config.vision.embed_dim
            text_list = [""] * len(image_list)
        else:
            tokens, width = self.max_text_tokens, self.config.text.embed_dim
            image_list, text_list = make_equally_long(image_list, text_list)
        parts = [torch.empty(0, tokens, width)]
        for hidden, batch in self._encode(zip(image_list, text_list, strict=True), batch_size):
            if mode == "multimodal":
                hidden = self._read_pairs(hidden, batch, start_id)
            parts.append(hidden.float().cpu())
        return torch.cat(parts)

    def stream(
        self,
        inputs: Iterable[tuple[ImageSource, Sequence[str]]],
        *,
        start_token: StartToken = "enc",
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> Iterator[MatchScores | CutlineError]:
        """Score the texts of any number of images, lazily and in order.

        Args:
            inputs: Any iterable of images, each with its texts.
            start_token: First token of texts that read an image; see `match`.
            batch_size: Number of images encoded together.
            num_workers: Number of processes that open images; 0 for threads of this process.

        Yields:
            The scores of the texts of an image, or the error of an image that cannot be read
            (`ImageError`). The attribute `index` of each is the number of its image.
        """
        InferenceConfig(batch_size=batch_size, num_workers=num_workers)  # checks both
        start_id = self._start_id(start_token)
        self.check_process()
        size = self.config.vision.image_size
        opened = prefetch_images(inputs, size, 2 * batch_size, num_workers)
        return self._stream(opened, start_id, batch_size)

    def _stream(
        self,
        opened: Iterator[tuple[Tensor | ImageError, Sequence[str]]],
        start_id: int,
        batch_size: int,
    ) -> Iterator[MatchScores | CutlineError]:
        for start in itertools.count(0, batch_size):
            batch = list(islice(opened, batch_size))
            if not batch:
                return
            readable = [(pixels, texts) for pixels, texts in batch if isinstance(pixels, Tensor)]
            scores = iter(self._score(readable, start_id) if readable else ())
            for index, (pixels, _) in enumerate(batch, start):
                if isinstance(pixels, ImageError):
                    pixels.index = index
                    yield pixels
                else:
                    yield replace(next(scores), index=index)

    def _score(
        self, batch: Sequence[tuple[Tensor, Sequence[str]]], start_id: int
    ) -> list[MatchScores]:
        """Return the scores of the texts of each image, given its pixels."""
        texts = [to_text_list(texts) for _, texts in batch]
        with self.inference():
            image_embeds = self.encode_images(torch.stack([pixels for pixels, _ in batch]))
        matches = self.match_embeds(image_embeds, texts, start_id)
        images = self.project_images(image_embeds)
        rows = self.embed_texts([text for row in texts for text in row])
        cosines = [
            (part @ image).tolist()
            for part, image in zip(rows.split([len(row) for row in texts]), images, strict=True)
        ]
        return [
            MatchScores(tuple(itm), tuple(itc)) for itm, itc in zip(matches, cosines, strict=True)
        ]

    def match_embeds(
        self, image_embeds: Tensor, texts: Sequence[Sequence[str]], start_id: int
    ) -> list[list[float]]:
        """Compute the probability that a text belongs to its image.

        Args:
            image_embeds: (B, N, D), what `encode_images` returns.
            texts: The texts of each image, any number of them; equal ones are read once.
            start_id: The id of their first token.

        Returns:
            The probability of each text of each image.
        """
        encoded = [encode_texts(row, self.model, self.tokenizer, start_id) for row in texts]
        with self.inference():
            return match_texts(image_embeds, encoded, self.model)

    def project_images(self, image_embeds: Tensor) -> Tensor:
        """Return the ITC embeddings (B, P), on the CPU, of image_embeds (B, N, D)."""
        with self.inference():
            return self.model.project_images(image_embeds).cpu()

    def _start_id(self, start_token: StartToken) -> int:
        require_choice("start_token", start_token, get_args(StartToken))
        return self.tokenizer.enc_id if start_token == "enc" else self.tokenizer.cls_id

    def _encode(
        self, inputs: Iterable[tuple[ImageSource, T]], batch_size: int
    ) -> Iterator[tuple[Tensor, list[T]]]:
        """Yield the image_embeds (B, N, D) of batches of images, with the object of each image.

        Raises:
            ImageError: An image cannot be read.
        """
        InferenceConfig(batch_size=batch_size)
        self.check_process()
        opened = prefetch_images(inputs, self.config.vision.image_size, 2 * batch_size)
        while batch := list(islice(opened, batch_size)):
            pixels = [require_pixels(pixels) for pixels, _ in batch]
            with self.inference():
                image_embeds = self.encode_images(torch.stack(pixels))
            yield image_embeds, [item for _, item in batch]

    def _read_texts(self, texts: Sequence[str]) -> Tensor:
        """Return the hidden states (R, 35, D) of texts alone."""
        encoded = encode_texts(texts, self.model, self.tokenizer, self.tokenizer.cls_id)
        with self.inference():
            ids, mask = pad_texts(encoded, self.model, self.max_text_tokens)
            return self.model.read_texts(ids, mask).float().cpu()

    def _read_pairs(self, image_embeds: Tensor, texts: Sequence[str], start_id: int) -> Tensor:
        """Return the hidden states (R, 35, D) of texts that read their images."""
        encoded = encode_texts(texts, self.model, self.tokenizer, start_id)
        with self.inference():
            ids, mask = pad_texts(encoded, self.model, self.max_text_tokens)
            return self.model.read_pairs(ids, mask, image_embeds)


def load_matcher(
    path: str | Path,
    device: str = "auto",
    precision: InferencePrecision = "auto",
    *,
    engine: Engine = "packed",
    config: str | Path | CaptionConfig | None = None,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
) -> Matcher:
    """Load a matcher.

    Args:
        path: A hub id, a retrieval .pth file of BLIP, a Hugging Face folder of
            `BlipForImageTextRetrieval`, a cutline folder or a training run.
        device: As for `load`.
        precision: As for `load`.
        engine: As for `load`.
        config: Sizes of a .pth, which does not contain them: a preset (base, large, tiny), a
            `CaptionConfig` or a JSON file (default: inferred from the weights).
        tokenizer: As for `load`.
        image_size: As for `load`.

    Returns:
        The matcher, on its device.

    Raises:
        CheckpointError: The weights cannot be read or do not fit.
        ConfigError: A setting is invalid.
    """
    DeviceConfig(device, precision, engine)  # checks names before any weights are read
    checkpoint = load_matcher_checkpoint(path, config, tokenizer, image_size)
    model, loaded_tokenizer = build_matcher(checkpoint), checkpoint.tokenizer
    del checkpoint  # so that each weight is freed once it is repacked
    return Matcher(model, loaded_tokenizer, device, precision, engine)


def require_pixels(pixels: Tensor | ImageError) -> Tensor:
    """Return pixels, or raise the error of an image that cannot be read."""
    if isinstance(pixels, ImageError):
        raise pixels
    return pixels
