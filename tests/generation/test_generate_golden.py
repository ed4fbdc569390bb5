"""The reference's own captions, token for token: see the fixtures' README."""

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
DEFAULT_COLUMNS = {"num_beams": 3, "max_length": 20, "min_length": 5}
UNSEEN = [
    DEFAULT_COLUMNS,
    DEFAULT_COLUMNS | {"min_length": 15},
    {"num_beams": 5, "max_length": 30, "min_length": 20},
    DEFAULT_COLUMNS | {"length_penalty": 0.0},
    DEFAULT_COLUMNS | {"length_penalty": 2.0},
    DEFAULT_COLUMNS | {"num_beams": 4, "repetition_penalty": 1.5},
    DEFAULT_COLUMNS | {"num_beams": 1},
    DEFAULT_COLUMNS | {"num_beams": 1, "min_length": 12, "repetition_penalty": 1.3},
    {"num_beams": 3, "max_length": 24, "min_length": 16, "no_repeat_ngram_size": 2},
    DEFAULT_COLUMNS | {"num_beams": 6, "num_captions": 4},
    DEFAULT_COLUMNS | {"prompt": "a photo of a"},
    DEFAULT_COLUMNS | {"prompt": ""},
]


@dataclass(frozen=True)
class Golden:
    """The tiny captioner and the embeddings of the images it was trained on, and of others."""

    model: CaptionModel
    tokenizer: Tokenizer
    seen: Tensor  # (12, N, D)
    unseen: Tensor  # (16, N, D)
    expected: dict[str, list[dict[str, Any]]]

    def captions(
        self, image_embeds: Tensor, prompt: str, config: GenerationConfig
    ) -> list[list[Hypothesis]]:
        """What we write for the images."""
        ids = torch.tensor([self.tokenizer.encode_prompt(prompt)] * len(image_embeds))
        prompts = Prompts(ids, torch.ones_like(ids, dtype=torch.bool), self.tokenizer.sep_id)
        return generate(
            self.model.step, self.model.start(image_embeds, config.max_length), prompts, config
        )

    def wanted(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        """What the reference wrote under these settings."""
        (found,) = [entry for entry in self.expected[name] if entry["settings"] == settings]
        return found


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
def test_captions_of_pictures_seen_in_training(golden: Golden, settings: dict[str, Any]) -> None:
    wanted = golden.wanted("seen", settings)
    prompt, end = golden.tokenizer.encode_prompt("a picture of "), golden.tokenizer.sep_id
    found = golden.captions(golden.seen, "a picture of ", GenerationConfig(**settings))
    for (caption,), row, text in zip(found, wanted["token_ids"], wanted["captions"], strict=True):
        assert row[: len(prompt)] == prompt
        told = [token for token in row[len(prompt) :] if token != golden.tokenizer.pad_id]
        assert list(caption.token_ids) == (told[: told.index(end)] if end in told else told)
        assert golden.tokenizer.decode(caption.token_ids) == text


@torch.no_grad()
@pytest.mark.parametrize("settings", UNSEEN, ids=str)
def test_captions_of_unseen_pictures_and_their_scores(
    golden: Golden, settings: dict[str, Any]
) -> None:
    wanted = golden.wanted("unseen", settings)
    config = GenerationConfig(
        **{name: value for name, value in settings.items() if name != "prompt"}
    )
    found = golden.captions(golden.unseen, settings.get("prompt", "a picture of "), config)
    assert [len(captions) for captions in found] == [config.num_captions] * 16
    flat = [caption for captions in found for caption in captions]
    assert [list(caption.token_ids) for caption in flat] == wanted["token_ids"]
    if wanted.get("scores"):
        assert [caption.score for caption in flat] == pytest.approx(wanted["scores"], abs=1e-4)
    else:
        assert config.num_beams == 1  # the reference scores no greedy caption
