"""Captions of BLIP's code (the reference), token for token; see tests/golden/README.md."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from golden_folder import GoldenFolder
from torch import Tensor

from cutline.checkpoint import build_model, load_checkpoint
from cutline.config import GenerationConfig
from cutline.generation import Hypothesis, Prompts, generate
from cutline.image import open_image, preprocess
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer

SEEN = [
    {"num_beams": 3, "max_length": 20, "min_length": 5},
    {"num_beams": 3, "max_length": 30, "min_length": 10},
    {"num_beams": 1, "max_length": 20, "min_length": 5},
    {"num_beams": 5, "max_length": 20, "min_length": 5},
    {"num_beams": 3, "max_length": 20, "min_length": 5, "repetition_penalty": 1.1},
    {"num_beams": 4, "max_length": 16, "min_length": 12, "repetition_penalty": 1.5},
    {"num_beams": 2, "max_length": 12, "min_length": 1},
    {"num_beams": 8, "max_length": 24, "min_length": 8},
]
DEFAULTS = {"num_beams": 3, "max_length": 20, "min_length": 5}
UNSEEN = [
    DEFAULTS,
    DEFAULTS | {"min_length": 15},
    {"num_beams": 5, "max_length": 30, "min_length": 20},
    DEFAULTS | {"length_penalty": 0.0},
    DEFAULTS | {"length_penalty": 2.0},
    DEFAULTS | {"num_beams": 4, "repetition_penalty": 1.5},
    DEFAULTS | {"num_beams": 1},
    DEFAULTS | {"num_beams": 1, "min_length": 12, "repetition_penalty": 1.3},
    {"num_beams": 3, "max_length": 24, "min_length": 16, "no_repeat_ngram_size": 2},
    DEFAULTS | {"num_beams": 6, "num_captions": 4},
    DEFAULTS | {"prompt": "a photo of a"},
    DEFAULTS | {"prompt": ""},
]


@dataclass(frozen=True)
class Golden:
    """A reference captioner, and the embeddings of images it was trained on and of others."""

    model: CaptionModel
    tokenizer: Tokenizer
    seen: Tensor  # (12, N, D)
    unseen: Tensor  # (16, N, D)
    expected: dict[str, list[dict[str, Any]]]

    def captions(
        self, image_embeds: Tensor, prompt: str, config: GenerationConfig
    ) -> list[list[Hypothesis]]:
        """Generate captions with cutline."""
        ids = torch.tensor([self.tokenizer.encode_prompt(prompt)] * len(image_embeds))
        prompts = Prompts(ids, torch.ones_like(ids, dtype=torch.bool), self.tokenizer.sep_id)
        return generate(
            self.model.step,
            self.model.prefill_images(image_embeds, config.max_length),
            prompts,
            config,
        )

    def find_expected(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Return what the reference generated with these settings."""
        (entry,) = [entry for entry in self.expected[name] if entry["settings"] == settings]
        return entry


@cache
def load(folder: GoldenFolder) -> Golden:
    unseen, config = folder.read_json("unseen"), folder.config
    checkpoint = load_checkpoint(folder.checkpoint, config, folder.vocabulary)
    model = build_model(checkpoint)
    pixels = [
        preprocess(
            open_image(folder.path / "unseen" / name), config.vision.image_size, config.image
        )
        for name in unseen["images"]
    ]
    with torch.no_grad():
        seen_embeds = model.vision(folder.tensors["pixel_values"])
        unseen_embeds = model.vision(torch.stack(pixels))
    expected = {"seen": folder.expected["generate"], "unseen": unseen["generate"]}
    return Golden(model, checkpoint.tokenizer, seen_embeds, unseen_embeds, expected)


@pytest.fixture
def golden(golden_folder: GoldenFolder) -> Golden:
    return load(golden_folder)


def test_every_golden_setting_is_tested(golden: Golden) -> None:
    assert [entry["settings"] for entry in golden.expected["seen"]] == SEEN
    assert [entry["settings"] for entry in golden.expected["unseen"]] == UNSEEN


@torch.no_grad()
@pytest.mark.parametrize("settings", SEEN, ids=str)
def test_captions_of_training_images_are_those_of_the_reference(
    golden: Golden, settings: dict[str, Any]
) -> None:
    expected = golden.find_expected("seen", settings)
    prompt, end_id = golden.tokenizer.encode_prompt("a picture of "), golden.tokenizer.sep_id
    results = golden.captions(golden.seen, "a picture of ", GenerationConfig(**settings))
    rows = zip(results, expected["token_ids"], expected["captions"], strict=True)
    for (caption,), row, text in rows:
        assert row[: len(prompt)] == prompt
        new = [token for token in row[len(prompt) :] if token != golden.tokenizer.pad_id]
        assert list(caption.token_ids) == (new[: new.index(end_id)] if end_id in new else new)
        assert golden.tokenizer.decode(caption.token_ids) == text


@torch.no_grad()
@pytest.mark.parametrize("settings", UNSEEN, ids=str)
def test_captions_and_scores_of_other_images_are_those_of_the_reference(
    golden: Golden, settings: dict[str, Any]
) -> None:
    expected = golden.find_expected("unseen", settings)
    prompt = settings.get("prompt", "a picture of ")
    config = GenerationConfig(
        **{name: value for name, value in settings.items() if name != "prompt"}
    )
    results = golden.captions(golden.unseen, prompt, config)
    assert [len(captions) for captions in results] == [config.num_captions] * 16
    flat = [caption for captions in results for caption in captions]
    assert [list(caption.token_ids) for caption in flat] == expected["token_ids"]
    if expected.get("scores"):
        assert [caption.score for caption in flat] == pytest.approx(expected["scores"], abs=1e-4)
    else:
        assert config.num_beams == 1  # the reference does not score greedy captions
