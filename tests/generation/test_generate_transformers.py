"""Captions of random models compared with transformers' `BlipForConditionalGeneration`."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from naive_search import next_probabilities
from torch import Tensor
from toy_model import END, Case, cases, encode_words, make_search

from cutline.checkpoint import HUGGINGFACE, compute_weight_shapes, import_weights
from cutline.checkpoint.huggingface_config import parse_huggingface_config
from cutline.checkpoint.kinds import CAPTIONER
from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, LogitsProcessor, Prompts, generate
from cutline.generation.interfaces import NO_TOKEN
from cutline.generation.logits_processors import (
    MinLength,
    NoBadWords,
    NoRepeatNgrams,
    RepetitionPenalty,
)
from cutline.model import CaptionModel

VOCAB, START, SEP, PAD = 80, 78, 7, 0
quick = settings(max_examples=14, deadline=None, derandomize=True)


@cache
def make_models(seed: int, end_bias: float) -> tuple[Any, CaptionModel]:
    """Make the same random captioner in transformers and in cutline.

    Weights are large, so that no ranking depends on rounding.
    """
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    tokens = {
        "vocab_size": VOCAB,
        "bos_token_id": START,
        "sep_token_id": SEP,
        "eos_token_id": SEP,
        "pad_token_id": PAD,
    }
    config = transformers.BlipConfig(
        vision_config={**sizes, "image_size": 16, "patch_size": 8},
        text_config={**sizes, **tokens, "max_position_embeddings": 32, "encoder_hidden_size": 32},
    )
    blip: Any = transformers.BlipForConditionalGeneration(config)
    blip.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in blip.named_parameters():
            is_norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3 + is_norm)
        blip.text_decoder.cls.predictions.bias[SEP] += end_bias
    settings = parse_huggingface_config(config.to_dict(), "config.json", CAPTIONER)
    shapes = compute_weight_shapes(settings)
    model = CaptionModel(settings).eval()
    model.load_state_dict(import_weights(blip.state_dict(), HUGGINGFACE, shapes, "random weights"))
    return blip, model


def generate_with_transformers(
    model: Any,
    pixels: Tensor,
    prompt: list[int],
    config: GenerationConfig,
    processors: Sequence[LogitsProcessor] = (),
) -> list[Hypothesis]:
    """Caption one image, (1, 3, S, S).

    BLIP's `generate` in transformers drops the last token of a prompt and overwrites the first.
    """
    names = [
        "num_beams",
        "max_length",
        "min_length",
        "repetition_penalty",
        "length_penalty",
        "no_repeat_ngram_size",
    ]
    words = encode_words(config.bad_words)
    if config.num_beams == 1:
        names.remove("length_penalty")
    output = model.generate(
        pixels,
        torch.tensor([[101, *prompt[1:], SEP]]),
        num_return_sequences=config.num_captions,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        bad_words_ids=words or None,
        logits_processor=transformers.LogitsProcessorList(processors),
        **{name: getattr(config, name) for name in names},
    )
    rows = [row[len(prompt) :] for row in output.sequences.tolist()]
    scores = output.sequences_scores.tolist() if config.num_beams > 1 else [0.0]
    return [
        Hypothesis(tuple(row[: row.index(SEP)] if SEP in row else row), score)
        for row, score in zip(rows, scores, strict=True)
    ]


def generate_with_cutline(
    model: CaptionModel,
    pixels: Tensor,
    rows: list[list[int]],
    config: GenerationConfig,
    processors: Sequence[LogitsProcessor] = (),
) -> list[list[Hypothesis]]:
    """Caption all images at once, with prompts padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    return generate(
        model.step,
        model.prefill_images(model.vision(pixels), config.max_length + longest, mask),
        Prompts(ids, mask, SEP),
        config,
        logits_processors=processors,
        make_search=make_search,
    )


@st.composite
def searches(draw: st.DrawFn) -> GenerationConfig:
    num_beams = draw(st.integers(1, 8))
    max_length = draw(st.integers(6, 12))
    return GenerationConfig(
        num_beams=num_beams,
        max_length=max_length,
        min_length=draw(st.integers(0, max_length)),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3, 2.0, 0.7])),
        length_penalty=draw(st.sampled_from([1.0, 0.0, 2.0, -1.0])),
        no_repeat_ngram_size=draw(st.sampled_from([0, 2, 1, 3])),
        num_captions=draw(st.integers(1, num_beams)),
        beam_scoring="huggingface",
    )


@torch.no_grad()
@quick
@given(
    searches(),
    st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=4), min_size=1, max_size=3),
    st.integers(0, 4),
    st.sampled_from([0.0, 3.0, 6.0]),
)
def test_captions_and_scores_equal_transformers(
    config: GenerationConfig, prompts: list[list[int]], seed: int, end_bias: float
) -> None:
    blip, model = make_models(seed, end_bias)
    rows = [[START, *prompt] for prompt in prompts]
    pixels = torch.randn(len(rows), 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    for image, captions in enumerate(generate_with_cutline(model, pixels, rows, config)):
        expected = generate_with_transformers(blip, pixels[image : image + 1], rows[image], config)
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected
        ]
        if config.num_beams > 1:  # transformers does not score greedy captions
            assert [caption.score for caption in captions] == pytest.approx(
                [caption.score for caption in expected], rel=1e-5, abs=1e-4
            )


@torch.no_grad()
@quick
@given(searches(), st.integers(0, 4), st.integers(1, 3), st.data())
def test_captions_without_bad_words_equal_transformers(
    config: GenerationConfig, seed: int, size: int, data: st.DataObject
) -> None:
    """Bad words are taken from the captions that there are without them."""
    blip, model = make_models(seed, 3.0)
    pixels = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    row = [START, 5, 9]
    words: tuple[str, ...] = ()
    for _ in range(3):
        config = replace(config, bad_words=words)
        [captions] = generate_with_cutline(model, pixels, [row], config)
        expected = generate_with_transformers(blip, pixels, row, config)
        assert [c.token_ids for c in captions] == [c.token_ids for c in expected]
        if config.num_beams > 1:
            assert [c.score for c in captions] == pytest.approx(
                [c.score for c in expected], rel=1e-5, abs=1e-4
            )
        tokens = (*row, *captions[0].token_ids)
        start = data.draw(st.integers(0, max(0, len(tokens) - size)))
        words = (*words, " ".join(map(str, tokens[start : start + size])))


def change_all(input_ids: Tensor, scores: Tensor) -> Tensor:
    """Change all scores, and allow what the settings forbid: it must come after these."""
    assert input_ids.shape[0] == scores.shape[0]
    assert (input_ids[:, 0] == START).all()
    phase = input_ids.sum(-1, keepdim=True) + torch.arange(scores.shape[1])
    return scores.clamp(min=-9) + phase.float().sin()


@torch.no_grad()
@quick
@given(
    searches(),
    st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=4), min_size=1, max_size=3),
    st.integers(0, 4),
)
def test_captions_with_a_logits_processor_equal_transformers(
    config: GenerationConfig, prompts: list[list[int]], seed: int
) -> None:
    blip, model = make_models(seed, 6.0)
    rows = [[START, *prompt] for prompt in prompts]
    pixels = torch.randn(len(rows), 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    found = generate_with_cutline(model, pixels, rows, config, [change_all])
    for number, captions in enumerate(found):
        image, row = pixels[number : number + 1], rows[number]
        expected = generate_with_transformers(blip, image, row, config, [change_all])
        assert [c.token_ids for c in captions] == [c.token_ids for c in expected]
        if config.num_beams > 1:
            assert [c.score for c in captions] == pytest.approx(
                [c.score for c in expected], rel=1e-5, abs=1e-4
            )


def to_greedy(case: Case) -> Case:
    return replace(case, config=replace(case.config, sample=False, num_beams=1, num_captions=1))


@settings(quick, max_examples=60)
@given(st.one_of(cases(), cases(sample=True), cases(sample=True).map(to_greedy)))
def test_processors_of_transformers_do_what_the_settings_do(case: Case) -> None:
    """For prompts of different lengths."""
    config = case.config
    # else the settings may forbid all tokens of a small vocabulary in greedy search
    assume(config.num_beams > 1 or case.vocab > 12)
    processors: list[Any] = [
        transformers.RepetitionPenaltyLogitsProcessor(config.repetition_penalty)
    ]
    if config.no_repeat_ngram_size:
        processors.append(transformers.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.bad_words:
        processors.append(transformers.NoBadWordsLogitsProcessor(encode_words(config.bad_words)))
    processors.append(transformers.MinLengthLogitsProcessor(config.min_length, END))
    plain = replace(
        config, repetition_penalty=1.0, no_repeat_ngram_size=0, bad_words=(), min_length=0
    )
    model, prompts = case.make_model(), case.make_prompts()
    expected, found = (
        generate(
            model.step,
            model.start(prompts),
            prompts,
            each,
            logits_processors=custom,
            make_search=make_search,
        )
        for each, custom in ((config, []), (plain, processors))
    )
    for captions, others in zip(found, expected, strict=True):
        assert [c.token_ids for c in captions] == [c.token_ids for c in others]
        assert [c.score for c in captions] == pytest.approx([c.score for c in others], abs=1e-5)


@settings(quick, max_examples=50)
@given(st.one_of(cases(), cases(sample=True)), st.integers(0, 3), st.integers(4, 9))
def test_own_processors_have_the_call_of_transformers(
    case: Case, padding: int, length: int
) -> None:
    """They return what its classes return, also after padding on the left."""
    config, generator = case.config, torch.Generator().manual_seed(case.seed)
    words = [tokens for tokens in encode_words(config.bad_words) if len(tokens) <= length]
    pairs: list[tuple[LogitsProcessor, Any]] = [
        (RepetitionPenalty(1.3), transformers.RepetitionPenaltyLogitsProcessor(1.3)),
        (
            MinLength(config.min_length, END),
            transformers.MinLengthLogitsProcessor(config.min_length, END),
        ),
        (NoRepeatNgrams(2), transformers.NoRepeatNGramLogitsProcessor(2)),
    ]
    if words:
        bad_words = NoBadWords(words, torch.device("cpu"))
        pairs.append((bad_words, transformers.NoBadWordsLogitsProcessor(words)))
    input_ids: Any = torch.randint(case.vocab, (3, length), generator=generator)
    scores: Any = torch.randn(3, case.vocab, generator=generator)
    padded: Any = torch.nn.functional.pad(input_ids, (padding, 0), value=NO_TOKEN)
    for own, other in pairs:
        expected = other(input_ids, scores.clone())
        torch.testing.assert_close(own(input_ids, scores.clone()), expected)
        torch.testing.assert_close(own(padded, scores.clone()), expected)


@settings(quick, max_examples=50)
@given(cases(sample=True))
def test_sampling_probabilities_equal_transformers(case: Case) -> None:
    config, tokens = case.config, case.prompts[0]
    processors: Any = transformers.LogitsProcessorList(
        [
            transformers.RepetitionPenaltyLogitsProcessor(config.repetition_penalty),
            transformers.MinLengthLogitsProcessor(config.min_length, END),
            transformers.TemperatureLogitsWarper(config.temperature),
            transformers.TopKLogitsWarper(config.top_k or case.vocab),
            transformers.TopPLogitsWarper(config.top_p),
        ]
    )
    if config.no_repeat_ngram_size:
        processors.insert(1, transformers.NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.bad_words:
        processors.insert(1, transformers.NoBadWordsLogitsProcessor(encode_words(config.bad_words)))
    logits = case.make_model().logits(0, tuple(tokens))
    expected = processors(torch.tensor([tokens]), logits[None].clone()).softmax(-1)[0]
    probabilities = next_probabilities(logits, tuple(tokens), END, config)
    assert [probabilities.get(token, 0.0) for token in range(case.vocab)] == pytest.approx(
        expected.tolist(), abs=1e-5
    )
