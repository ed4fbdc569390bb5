"""What an evaluation says about words, lengths, and the spread of scores."""

import json
from random import Random

import pytest
from fake_captioner import CAPTIONS, REFERENCES, fake_captioner, make_samples

from cutline.evaluation import evaluate
from cutline.metrics import Histogram, compute_word_usage

WORDS = ("dog", "cat", "horse", "man", "red", "runs", "on", "grass")


def test_words_are_compared_with_the_references() -> None:
    random = Random(0)
    references = [tuple(" ".join(random.sample(WORDS, 4)) for _ in range(3)) for _ in range(40)]
    captions = ["A photo: " + " ".join(random.sample(WORDS, 4)) for _ in references]
    result = evaluate(fake_captioner(*captions), make_samples(*references))
    tokens = [caption.lower().replace(":", "").split() for caption in captions]
    expected = compute_word_usage(tokens, [[text.split() for text in each] for each in references])
    assert result.word_usage == expected
    assert {usage.word for usage in result.word_usage.overused} >= {"a", "photo"}
    values = json.loads(json.dumps(result.to_dict()))["word_usage"]
    assert values["overused"][0]["captions"] == 1


def test_lengths_are_counted_in_words() -> None:
    result = evaluate(fake_captioner(*CAPTIONS[:3], "A dog."), make_samples(*REFERENCES))
    assert result.caption_lengths == Histogram({2: 2, 4: 1, 6: 1})
    assert result.caption_lengths.mean == result.diversity.mean_length
    lengths = [len(text.split()) for texts in REFERENCES for text in texts]
    assert result.reference_lengths == Histogram.from_values(lengths)


def test_quantiles_are_those_of_the_images() -> None:
    result = evaluate(fake_captioner(*CAPTIONS), make_samples(*REFERENCES))
    assert list(result.quantiles) == ["bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"]
    ciders = sorted(image.scores.cider for image in result.images)
    assert result.quantiles["cider"][2] == pytest.approx((ciders[1] + ciders[2]) / 2)
    assert ciders[0] <= result.quantiles["cider"][0] <= result.quantiles["cider"][4] <= ciders[-1]
