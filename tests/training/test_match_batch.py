"""Batches of pairs: which texts belong to which images."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutline.config import DataConfig, VisionConfig
from cutline.data import Sample
from cutline.model.match_loss import find_positives
from cutline.tokenizer import EncodedText, Tokenizer, clean_caption
from cutline.training.data.dataset import NO_PIXELS, Example, encode_captions
from cutline.training.data.match_batch import collate_pairs, hash_key, make_dummy_pair

TEXTS = ["A red circle.", "a red circle", "two blue squares", "Two blue squares!", "a star"]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 3, 300)


def make_examples(tokenizer: Tokenizer, captions: list[list[str]]) -> list[Example]:
    """Return an example of each caption of each image."""
    samples = [Sample("x.png", tuple(texts), str(id)) for id, texts in enumerate(captions)]
    encoded = encode_captions(samples, tokenizer, DataConfig(), None)
    return [
        Example(NO_PIXELS, [text], torch.zeros(2, 3), sample.id, texts)
        for sample, texts in zip(samples, encoded, strict=True)
        for text in texts
    ]


def test_a_text_starts_with_cls_and_has_no_prompt(tokenizer: Tokenizer) -> None:
    sample = Sample("x.png", ("a star",), "x", prompt="two blue ")
    [texts] = encode_captions([sample], tokenizer, DataConfig(), None)
    example = Example(NO_PIXELS, texts, torch.zeros(2, 3), "x", texts)
    batch = collate_pairs([example, "x.png: broken"], tokenizer, by_image=False)
    assert batch.input_ids.tolist() == [tokenizer.encode_text("a star")]
    assert batch.skipped == ["x.png: broken"]
    assert batch.num_targets == 1
    assert batch.image_embeds is not None
    assert batch.image_embeds.shape == (1, 2, 3)


@given(captions=st.lists(st.lists(st.sampled_from(TEXTS), min_size=1), min_size=1, max_size=5))
def test_a_text_equal_to_an_own_caption_is_never_negative(
    tokenizer: Tokenizer, captions: list[list[str]]
) -> None:
    """Equal after cleaning. By image, only the texts of its own rows belong to an image."""
    examples = make_examples(tokenizer, captions)
    cleaned = [[clean_caption(text, "blip", 30) for text in texts] for texts in captions]
    rows = [(image, text) for image, texts in enumerate(cleaned) for text in texts]
    batch = collate_pairs(examples, tokenizer, by_image=False)
    expected = [[text in cleaned[image] for _, text in rows] for image, _ in rows]
    assert find_positives(batch.image_keys, batch.text_keys).tolist() == expected
    batch = collate_pairs(examples, tokenizer, by_image=True)
    expected = [[image == other for other, _ in rows] for image, _ in rows]
    assert find_positives(batch.image_keys, batch.text_keys).tolist() == expected


def test_an_empty_batch_and_its_stand_in(tokenizer: Tokenizer) -> None:
    batch = collate_pairs([], tokenizer, by_image=False)
    assert (len(batch.pixels), batch.num_targets) == (0, 0)
    config = VisionConfig(image_size=32, embed_dim=8, num_heads=2)
    for has_embeddings in (False, True):
        dummies = [make_dummy_pair(config, has_embeddings, scored) for scored in (False, True)]
        assert [dummy.num_targets for dummy in dummies] == [0, 1]
        assert all(len(dummy.pixels) == 1 for dummy in dummies)


@given(st.text())
def test_keys_are_above_zero_and_fit_into_63_bits(name: str) -> None:
    assert 0 < hash_key(name) < 2**63


def test_long_names_and_half_surrogates_have_keys() -> None:
    assert hash_key("\ud800" + "x" * 10_000) > 0


def test_the_first_token_has_no_effect_on_a_key(tokenizer: Tokenizer) -> None:
    caption = EncodedText([tokenizer.dec_id, 9, tokenizer.sep_id], 1)
    text = EncodedText([tokenizer.cls_id, 9, tokenizer.sep_id], 1)
    examples = [Example(NO_PIXELS, [caption], torch.zeros(1, 1), "a", [text])]
    batch = collate_pairs(examples, tokenizer, by_image=False)
    assert find_positives(batch.image_keys, batch.text_keys).tolist() == [[True]]
