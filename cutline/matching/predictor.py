"""`MatchPredictor`: a matcher's model ready for inference, and its embeddings."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeVar, get_args

from torch import Tensor

from cutline.config import MAX_TEXT_TOKENS, MatchConfig
from cutline.config.validation import require_choice
from cutline.engine import choose_text_threads, limit_threads
from cutline.image import ImageSource
from cutline.matching.texts import MAX_ROWS, embed_texts, encode_texts, match_texts
from cutline.model import MatchModel
from cutline.predictor import Predictor

StartToken = Literal["enc", "cls"]
"""first token of a text that reads an image: [ENC], as in training, or [CLS], as in BLIP's class
`BLIP_ITM` and in transformers"""

T = TypeVar("T")


class MatchPredictor(Predictor[MatchModel]):
    """A matcher's model and its tokenizer, on a device; for attributes see `Predictor`."""

    @property
    def config(self) -> MatchConfig:
        """Return the model's sizes."""
        return self.model.config

    @property
    def max_text_tokens(self) -> int:
        """Return the number of tokens at which texts are cut, [SEP] included."""
        return min(MAX_TEXT_TOKENS, self.config.text.max_positions)

    def start_id(self, start_token: StartToken) -> int:
        """Return the id of the first token of texts that read an image.

        Raises:
            ConfigError: `start_token` is none of both.
        """
        require_choice("start_token", start_token, get_args(StartToken))
        return self.tokenizer.enc_id if start_token == "enc" else self.tokenizer.cls_id

    def encode_readable(
        self, inputs: Iterable[tuple[ImageSource, T]], batch_size: int
    ) -> Iterator[tuple[Tensor, list[T]]]:
        """Yield the image_embeds (B, N, D) of batches of images, with the object of each image.

        Raises:
            ImageError: An image cannot be read.
        """
        for batch in self.encode_batches(inputs, batch_size):
            yield batch.require_embeds(), batch.items

    def project_images(self, image_embeds: Tensor) -> Tensor:
        """Return the ITC embeddings (B, P), on the CPU, of image_embeds (B, N, D)."""
        with self.inference():
            return self.model.project_images(image_embeds).cpu()

    def project_texts(self, texts: Sequence[str], batch_size: int = MAX_ROWS) -> Tensor:
        """Return the ITC embeddings (R, P), on the CPU, of texts; equal ones are read once."""
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        encoded = encode_texts(list(rows), self.model, self.tokenizer, self.tokenizer.cls_id)
        num_tokens = sum(map(len, encoded))
        on_cpu = self.device.type == "cpu"
        num_threads = choose_text_threads(self.config, num_tokens) if on_cpu else None
        with self.inference(), limit_threads(num_threads):
            embeds = embed_texts(encoded, self.model, batch_size)
        return embeds[[rows[text] for text in texts]]

    def match_embeds(
        self, image_embeds: Tensor, texts: Sequence[Sequence[str]], start_id: int
    ) -> list[list[float]]:
        """Compute the match probabilities of texts and their images.

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
