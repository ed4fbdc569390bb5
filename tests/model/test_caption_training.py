"""The losses of a captioner in training, against their definitions."""

import math

import pytest
import torch
from tiny_model import VOCAB, make_config, make_images, make_model, make_texts

from cutline.model import make_lm_labels
from cutline.model.caption_training import add_bag_of_words_head


@pytest.mark.parametrize("merged", [0, 1])
def test_the_loss_of_words_is_binary_cross_entropy_of_shares_of_captions(merged: int) -> None:
    captioner = make_model(make_config(merge_tokens=merged))
    model = add_bag_of_words_head(captioner).eval()
    images = make_images(2)
    ids, mask = make_texts([5, 3, 6, 1])  # two captions of each image; the last one is missing
    labels = make_lm_labels(ids, mask, torch.tensor([2, 1, 1, 1]))
    result = model(images, ids, mask, labels)
    tokens = model.vision(images)[:, 1:, : model.config.vision.embed_dim]
    probs = model.bag_of_words_head.linear(tokens.mean(1)).sigmoid()
    expected = 0.0
    for image, captions in enumerate([[ids[0, 2:5], ids[1, 1:3]], [ids[2, 1:6]]]):
        count = sum(len(caption) for caption in captions)
        for token in range(VOCAB):
            share = sum(token in caption.tolist() for caption in captions) / len(captions)
            prob = probs[image, token].item()
            expected -= count * (share * math.log(prob) + (1 - share) * math.log(1 - prob))
    assert result.bag_of_words.item() == pytest.approx(expected, rel=1e-5)
    assert result.lm == captioner(images, ids, mask, labels).loss
    embeds = model.vision(images)
    assert model(None, ids, mask, labels, embeds).bag_of_words == result.bag_of_words
    result.bag_of_words.backward()
    assert model.vision.pos_embed.grad is not None
    assert model.text.token_embed.weight.grad is None


def test_images_without_a_caption_have_no_loss() -> None:
    model = add_bag_of_words_head(make_model())
    ids, mask = make_texts([1, 1])
    labels = make_lm_labels(ids, mask, torch.ones(2, dtype=torch.long))
    assert model(make_images(2), ids, mask, labels).bag_of_words == 0
