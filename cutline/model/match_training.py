"""`MatchTrainingModel`: the matcher's network with its losses and a learned temperature."""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from cutline.config import MatchConfig
from cutline.distributed import all_gather_rows, world_size
from cutline.model.match import MatchModel
from cutline.model.match_loss import (
    contrastive_loss,
    draw_negatives,
    find_positives,
    matching_loss,
)
from cutline.model.momentum import Embeddings, MomentumEncoders, fit_width

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.001, 0.5
"""bounds of the learned temperature"""


class MatchLoss(NamedTuple):
    """The losses of a batch of pairs, each the mean over its rows, (), and the temperature."""

    itc: Tensor
    itm: Tensor
    temperature: Tensor

    @property
    def total(self) -> Tensor:
        """Return what is minimized."""
        return self.itc + self.itm


class _Pairs(NamedTuple):
    """Pairs of an image and a text; R of each."""

    images: Tensor
    """(R, P), ITC embeddings"""
    texts: Tensor
    """(R, P), ITC embeddings"""
    image_keys: Tensor
    """(R, K)"""
    text_keys: Tensor
    """(R,)"""
    image_embeds: Tensor
    """(R, N, D)"""
    input_ids: Tensor
    """(R, T), starting with [ENC]"""
    attention_mask: Tensor
    """(R, T)"""

    @property
    def embeddings(self) -> Embeddings:
        """Return what ITC compares."""
        return Embeddings(self.images, self.texts, self.image_keys, self.text_keys)


Rows = TypeVar("Rows", Embeddings, _Pairs)


class MatchTrainingModel(MatchModel):
    """A matcher that is trained by ITC and ITM.

    Its state is that of `MatchModel`, the temperature and, if there are any, momentum encoders with
    their queues.
    """

    def __init__(self, config: MatchConfig, enc_id: int, negative_all_rank: bool = False) -> None:
        """Build the network.

        Args:
            config: Sizes, and the initial temperature.
            enc_id: Id of [ENC], the first token of a text that reads an image.
            negative_all_rank: Whether, in training mode, images and texts are compared with those
                of all processes.
        """
        super().__init__(config)
        self.enc_id, self.negative_all_rank = enc_id, negative_all_rank
        # One value rather than a scalar, which FSDP2 cannot shard.
        self.temperature = nn.Parameter(torch.tensor([float(config.temperature)]))
        self.momentum: MomentumEncoders | None = None

    def add_momentum(self, decay: float, queue_size: int, num_keys: int) -> None:
        """Add momentum encoders, copies of the encoders as they are now; see there."""
        self.momentum = MomentumEncoders(self, decay, queue_size, num_keys)

    def iter_layers(self) -> Iterator[nn.Module]:
        """Yield the blocks and layers, those of momentum encoders as well."""
        yield from super().iter_layers()
        if self.momentum is not None:
            yield from (*self.momentum.vision.blocks, *self.momentum.text.layers)

    @torch.no_grad()
    def clamp_temperature(self) -> None:
        """Keep the temperature within the bounds of BLIP's code."""
        self.temperature.clamp_(MIN_TEMPERATURE, MAX_TEMPERATURE)

    def forward(
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        image_keys: Tensor,
        text_keys: Tensor,
        image_embeds: Tensor | None = None,
    ) -> MatchLoss:
        """Compute the losses of pairs of an image and a text that belong together.

        Args:
            pixel_values: (R, 3, S, S), normalized; None if image_embeds are given.
            input_ids: (R, T), starting with [CLS], padded on the right.
            attention_mask: (R, T), 1 at tokens and 0 at padding.
            image_keys: (R, K), the keys of all texts that belong to an image, padded with 0.
            text_keys: (R,), the key of each text. A pair whose text has the key 0 is no negative of
                other processes.
            image_embeds: (R, N, D), earlier output of the vision encoder, which is then skipped.
                Momentum encoders read pixel_values if they are given as well.
        """
        if image_embeds is None:
            image_embeds = self.vision(pixel_values)
        own = _Pairs(
            self.project_images(image_embeds),
            self.project_texts(self.read_texts(input_ids, attention_mask)),
            image_keys,
            text_keys,
            image_embeds,
            replace_first(input_ids, self.enc_id),
            attention_mask,
        )
        others = self._gather(own)
        similarities = self._compare(own.embeddings, others.embeddings)
        positives = find_both_positives(own.embeddings, others.embeddings)
        with torch.no_grad():
            negative_images = draw_negatives(similarities[1], positives[1])
            negative_texts = draw_negatives(similarities[0], positives[0])
        if self.momentum is None or not self.training:
            itc = compute_itc(similarities, positives)
        else:
            momentum = self.momentum.embed(pixel_values, image_embeds, input_ids, attention_mask)
            itc = self._distill(own.embeddings, Embeddings(*momentum, image_keys, text_keys))
        itm = self._match(own, others, negative_images, negative_texts)
        return MatchLoss(itc, itm, self.temperature[0].detach())

    def _compare(self, own: Embeddings, others: Embeddings) -> tuple[Tensor, Tensor]:
        """Return the cosines of images with texts, and of texts with images, by the temperature."""
        temperature = self.temperature.clamp(MIN_TEMPERATURE, MAX_TEMPERATURE)
        with torch.autocast(own.images.device.type, enabled=False):
            image_to_text = own.images @ others.texts.T / temperature  # (R, M)
            text_to_image = own.texts @ others.images.T / temperature
        return image_to_text, text_to_image

    def _distill(self, own: Embeddings, momentum: Embeddings) -> Tensor:
        """Compute ITC against momentum embeddings and the queues.

        If gradients are computed, the momentum embeddings of all processes then join the queues.

        Args:
            own: Embeddings of the pairs.
            momentum: Embeddings of the same pairs by the momentum encoders.
        """
        encoders, gathered = self.momentum, gather_pairs(momentum)
        assert encoders is not None
        with torch.no_grad():
            others = encoders.append_queue(gathered if self.negative_all_rank else momentum)
            soft = self._compare(momentum, others)
        if torch.is_grad_enabled():
            encoders.enqueue(gathered)
        similarities, positives = self._compare(own, others), find_both_positives(own, others)
        return compute_itc(similarities, positives, soft, encoders.alpha)

    def _gather(self, own: _Pairs) -> _Pairs:
        """Return the pairs that images and texts are compared with."""
        if not self.negative_all_rank or not self.training or world_size() == 1:
            return own
        return gather_pairs(own)

    def _match(
        self, own: _Pairs, others: _Pairs, negative_images: Tensor, negative_texts: Tensor
    ) -> Tensor:
        """Compute the ITM loss of the pairs, and of their negatives in `others`.

        Args:
            own: The pairs.
            others: Pairs, of which some are negatives.
            negative_images: (R,), for each text the number of its negative image, or -1.
            negative_texts: (R,), for each image the number of its negative text, or -1.
        """
        length = others.input_ids.shape[1]
        ids, mask = (fit_width(tensor, length) for tensor in (own.input_ids, own.attention_mask))
        # An image reads its own and its negative text at once, to be projected only once.
        texts = _interleave(ids, _pick(others.input_ids, negative_texts, ids))
        masks = _interleave(mask, _pick(others.attention_mask, negative_texts, mask))
        logits = self.classify(self.read_pairs(texts, masks, own.image_embeds))
        positive, wrong_text = logits.unflatten(0, (-1, 2)).unbind(1)  # (R, 2) each
        images = _pick(others.image_embeds, negative_images, own.image_embeds)
        wrong_image = self.classify(self.read_pairs(ids, mask, images))
        negatives = [wrong_text[negative_texts >= 0], wrong_image[negative_images >= 0]]
        return matching_loss(positive, torch.cat(negatives))


def gather_pairs(rows: Rows) -> Rows:
    """Return the pairs of all processes, without those whose text has the key 0."""
    is_pair = rows.text_keys > 0
    tensors = [tensor[is_pair] for tensor in rows]
    return type(rows)(*(tensors if world_size() == 1 else all_gather_rows(*tensors)))


def compute_itc(
    similarities: tuple[Tensor, Tensor],
    positives: tuple[Tensor, Tensor],
    soft: tuple[Tensor, Tensor] | None = None,
    alpha: float = 0.0,
) -> Tensor:
    """Return the mean of `contrastive_loss` from images to texts and from texts to images."""
    losses = [
        contrastive_loss(similarities[way], positives[way], soft and soft[way], alpha)
        for way in (0, 1)
    ]
    return (losses[0] + losses[1]) / 2


def find_both_positives(own: Embeddings, others: Embeddings) -> tuple[Tensor, Tensor]:
    """Return which texts belong to which own images, and which images to which own texts."""
    texts_of_image = find_positives(own.image_keys, others.text_keys)
    images_of_text = find_positives(others.image_keys, own.text_keys).T
    return texts_of_image, images_of_text


def replace_first(input_ids: Tensor, token_id: int) -> Tensor:
    """Return input_ids (R, T) with another first token."""
    return torch.cat([torch.full_like(input_ids[:, :1], token_id), input_ids[:, 1:]], 1)


def _pick(rows: Tensor, numbers: Tensor, default: Tensor) -> Tensor:
    """Return the rows with these numbers; instead of -1 that of `default`, which is not used."""
    if not len(rows):
        return default
    return rows[numbers.clamp(min=0)]


def _interleave(first: Tensor, second: Tensor) -> Tensor:
    """Return the rows of both in turn, (2 R, T): that of `first` before that of `second`."""
    return torch.stack([first, second], 1).flatten(0, 1)
