"""The loss of the words of an image, against its definition."""

import math

import pytest
import torch
from tiny_model import VOCAB, make_config, make_images, make_model, make_texts

from cutline.model import make_lm_labels


@pytest.mark.parametrize("merged", [0, 1])
def test_the_loss_is_binary_cross_entropy_of_the_shares_of_captions(merged: int) -> None:
    model = make_model(make_config(merge_tokens=merged))
    model.add_words_head()
    assert model.words_head is not None
    images = make_images(2)
    ids, mask = make_texts([5, 3, 6, 1])  # two captions of each image; the last one is missing
    labels = make_lm_labels(ids, mask, torch.tensor([2, 1, 1, 1]))
    result = model(images, ids, mask, labels)
    assert result.words is not None
    tokens = model.vision(images)[:, 1:, : model.config.vision.embed_dim]
    probs = model.words_head.linear(tokens.mean(1)).sigmoid()
    for image, captions in enumerate([[ids[0, 2:5], ids[1, 1:3]], [ids[2, 1:6]]]):
        loss = 0.0
        for token in range(VOCAB):
            share = sum(token in caption.tolist() for caption in captions) / len(captions)
            prob = probs[image, token].item()
            loss -= share * math.log(prob) + (1 - share) * math.log(1 - prob)
        count = sum(len(caption) for caption in captions)
        assert result.words[image].item() == pytest.approx(loss * count, rel=1e-5)
    assert result.loss == make_model(model.config)(images, ids, mask, labels).loss
    result.words.sum().backward()
    assert model.vision.pos_embed.grad is not None
    assert model.text.token_embed.weight.grad is None


def test_images_without_a_caption_have_no_loss() -> None:
    model = make_model()
    model.add_words_head()
    ids, mask = make_texts([1, 1])
    labels = make_lm_labels(ids, mask, torch.ones(2, dtype=torch.long))
    assert model(make_images(2), ids, mask, labels).words.tolist() == [0, 0]
