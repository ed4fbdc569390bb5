"""`Matcher`: does a text belong to an image?"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cutline.batching.inputs import to_image_list
from cutline.checkpoint import build_matcher, load_matcher_checkpoint
from cutline.config import (
    CaptionConfig,
    DeviceConfig,
    Engine,
    InferenceConfig,
    InferencePrecision,
)
from cutline.config.validation import require_choice
from cutline.errors import ConfigError, CutlineError
from cutline.image import ImageSource
from cutline.matching import (
    MAX_ROWS,
    MatchPredictor,
    MatchScores,
    StartToken,
    make_equally_long,
    make_pairing,
    number_distinct,
    read_images,
    read_pairs,
    read_texts,
    score_texts,
    to_text_list,
)

__all__ = ["MatchScores", "Matcher", "load_matcher"]

FeatureMode = Literal["image", "text", "multimodal"]


class Matcher(MatchPredictor):
    """A model and its tokenizer, on a device, ready to match; for attributes see `Predictor`.

    Texts are used as they are, without cleaning, and cut at 35 tokens. In all methods, `batch_size`
    is the number of images, or of texts alone, that are encoded together. In all but `features` and
    `stream`, each image and each text is encoded once, even if it is given several times.
    """

    def match(
        self,
        images: ImageSource | Sequence[ImageSource],
        texts: str | Sequence[str],
        *,
        pairs: bool = True,
        start_token: StartToken = "enc",
        batch_size: int = 8,
    ) -> Tensor:
        """Compute match probabilities: how likely a text describes an image (image-text matching).

        Args:
            images: A path, bytes, PIL image or (H, W, 3) uint8 array, or a sequence of them.
            texts: A text or a sequence of them.
            pairs: Whether text i is matched with image i; one image may be given for all texts, or
                one text for all images. Otherwise every text is matched with every image.
            start_token: First token of the texts: "enc", as in training, or "cls", as in BLIP's
                `BLIP_ITM` and transformers. The probabilities differ.
            batch_size: Number of images encoded together.

        Returns:
            float32 on the CPU: (R,) for R pairs, else (B, R) for B images and R texts.

        Raises:
            ImageError: An image cannot be read.
            ConfigError: The numbers of images and texts differ, or a text is not a string.
        """
        InferenceConfig(batch_size=batch_size)
        pairing = make_pairing(images, texts, pairs)
        start_id = self.start_id(start_token)
        values: list[list[float]] = []
        inputs = zip(pairing.images, pairing.texts, strict=True)
        for image_embeds, batch in self.encode_readable(inputs, batch_size):
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
        InferenceConfig(batch_size=batch_size)
        distinct, numbers = number_distinct(to_image_list(images))
        parts = [torch.empty(0, self.config.projection_dim)]
        for image_embeds, _ in self.encode_readable(((i, None) for i in distinct), batch_size):
            parts.append(self.project_images(image_embeds))
        return torch.cat(parts)[numbers]

    def embed_texts(self, texts: str | Sequence[str], *, batch_size: int = MAX_ROWS) -> Tensor:
        """Return the ITC embeddings of texts: (R, P), of unit length, float32 on the CPU.

        Raises:
            ConfigError: A text is not a string.
        """
        InferenceConfig(batch_size=batch_size)
        self.check_process()
        return self.project_texts(to_text_list(texts), batch_size)

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
        start_id = self.start_id(start_token)
        InferenceConfig(batch_size=batch_size)
        self.check_process()
        if images is None and mode != "text":
            raise _missing("images", mode)
        if texts is None and mode != "image":
            raise _missing("texts", mode)
        image_list = [] if images is None or mode == "text" else to_image_list(images)
        text_list = [] if texts is None or mode == "image" else to_text_list(texts)
        if mode == "image":
            return read_images(self, image_list, batch_size)
        if mode == "text":
            return read_texts(self, text_list, batch_size)
        pairs = make_equally_long(image_list, text_list)
        return read_pairs(self, *pairs, start_id, batch_size)

    def stream(
        self,
        inputs: Iterable[tuple[ImageSource, Sequence[str]]],
        *,
        start_token: StartToken = "enc",
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> Iterator[MatchScores | CutlineError]:
        """Score the texts of any number of images, lazily and in order.

        A sequence, such as a list, is scored in batches of `batch_size`. Any other iterable is read
        in a thread of its own, and an image is scored as soon as it arrives, with those that have
        arrived meanwhile, even if the next one takes long.

        Args:
            inputs: Any iterable of images, each with its texts.
            start_token: First token of texts that read an image; see `match`.
            batch_size: Number of images encoded together.
            num_workers: Number of processes that open images; 0 for threads of this process.

        Yields:
            The scores of the texts of an image, or the error of an image that cannot be read
            (`ImageError`). The attribute `index` of each is the number of its image.

        Raises:
            ConfigError: A text is not a string.
        """
        InferenceConfig(batch_size=batch_size, num_workers=num_workers)  # checks both
        start_id = self.start_id(start_token)
        score = partial(score_texts, self, start_id=start_id)
        return self.stream_results(inputs, score, batch_size, num_workers)


def load_matcher(
    path: str | Path,
    device: str = "auto",
    precision: InferencePrecision = "auto",
    *,
    engine: Engine = "auto",
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


def _missing(name: str, mode: FeatureMode) -> ConfigError:
    return ConfigError(f"mode {mode!r} needs {name}: give some, or choose another mode")
