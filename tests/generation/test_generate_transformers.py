"""Captions of random models as transformers' `BlipForConditionalGeneration` writes them."""

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_search import next_probabilities
from torch import Tensor
from toy_steps import END, Case, cases
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cutline.checkpoint import HUGGINGFACE, import_weights, compute_weight_shapes
from cutline.checkpoint.huggingface import config_from_huggingface
from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, Prompts, generate
from cutline.model import CaptionModel

VOCAB, START, SEP, PAD = 80, 78, 7, 0
quick = settings(max_examples=18, deadline=None, derandomize=True)


@cache
def models(seed: int, end_bias: float) -> tuple[Any, CaptionModel]:
    """The same random captioner, theirs and ours; weights are large, so that no ranking hinges on rounding."""
    sides = {
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
    config = BlipConfig(
        vision_config={**sides, "image_size": 16, "patch_size": 8},
        text_config={**sides, **tokens, "max_position_embeddings": 32, "encoder_hidden_size": 32},
    )
    theirs: Any = BlipForConditionalGeneration(config)
    theirs.eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            weight.copy_(
                torch.randn(weight.shape, generator=generator) * 0.3
                + ("norm" in name.lower() and name.endswith("weight"))
            )
        theirs.text_decoder.cls.predictions.bias[SEP] += end_bias
    settings = config_from_huggingface(config.to_dict(), "config.json")
    ours = CaptionModel(settings).eval()
    ours.load_state_dict(
        import_weights(theirs.state_dict(), HUGGINGFACE, compute_weight_shapes(settings), "random weights")
    )
    return theirs, ours


def their_captions(
    model: Any, pixels: Tensor, prompt: list[int], config: GenerationConfig
) -> list[Hypothesis]:
    """One image, (1, 3, S, S). Their `generate` drops the last id of a prompt and overwrites the first."""
    asked: dict[str, Any] = {
        name: getattr(config, name)
        for name in (
            "num_beams",
            "max_length",
            "min_length",
            "repetition_penalty",
            "length_penalty",
            "no_repeat_ngram_size",
        )
    }
    if config.num_beams == 1:
        del asked["length_penalty"]
    found = model.generate(
        pixels,
        torch.tensor([[101, *prompt[1:], SEP]]),
        num_return_sequences=config.num_captions,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **asked,
    )
    rows = [row[len(prompt) :] for row in found.sequences.tolist()]
    scores = found.sequences_scores.tolist() if config.num_beams > 1 else [0.0]
    return [
        Hypothesis(tuple(row[: row.index(SEP)] if SEP in row else row), score)
        for row, score in zip(rows, scores, strict=True)
    ]


def our_captions(
    model: CaptionModel, pixels: Tensor, rows: list[list[int]], config: GenerationConfig
) -> list[list[Hypothesis]]:
    """All images at once, their prompts padded on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[PAD] * (longest - len(row)) + row for row in rows])
    mask = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in rows])
    return generate(
        model.step,
        model.start(model.vision(pixels), config.max_length + longest, mask),
        Prompts(ids, mask, SEP),
        config,
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
def test_captions_and_scores_are_theirs(
    config: GenerationConfig, prompts: list[list[int]], seed: int, end_bias: float
) -> None:
    theirs, ours = models(seed, end_bias)
    rows = [[START, *prompt] for prompt in prompts]
    pixels = torch.randn(len(rows), 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    for number, captions in enumerate(our_captions(ours, pixels, rows, config)):
        expected = their_captions(theirs, pixels[number : number + 1], rows[number], config)
        assert [caption.token_ids for caption in captions] == [
            caption.token_ids for caption in expected
        ]
        if config.num_beams > 1:  # they score no greedy caption
            assert [caption.score for caption in captions] == pytest.approx(
                [caption.score for caption in expected], rel=1e-5, abs=1e-4
            )


@settings(quick, max_examples=50)
@given(cases(sample=True))
def test_tokens_are_drawn_from_their_distribution(case: Case) -> None:
    config, tokens = case.config, case.prompts[0]
    chain: Any = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(config.repetition_penalty),
            MinLengthLogitsProcessor(config.min_length, END),
            TemperatureLogitsWarper(config.temperature),
            TopKLogitsWarper(config.top_k or case.vocab),
            TopPLogitsWarper(config.top_p),
        ]
    )
    if config.no_repeat_ngram_size:
        chain.insert(1, NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    logits = case.model().logits(0, tuple(tokens))
    expected = chain(torch.tensor([tokens]), logits[None].clone()).softmax(-1)[0]
    plain = next_probabilities(logits, tuple(tokens), END, config)
    assert [plain.get(token, 0.0) for token in range(case.vocab)] == pytest.approx(
        expected.tolist(), abs=1e-5
    )
