"""Matchers against `BlipForImageTextRetrieval` of transformers, with random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from blip_models import TEXT, VISION, make_blip_model, save_blip_model
from safetensors.torch import load_file
from torch import Tensor

from cutline.checkpoint import (
    Checkpoint,
    build_matcher,
    load_matcher_checkpoint,
    save_checkpoint,
)
from cutline.config import MatchConfig
from cutline.tokenizer import Tokenizer

TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


@pytest.fixture(scope="module")
def reference(blip: Any, tokenizer: Tokenizer) -> Any:
    """Make a matcher in transformers with random weights."""
    text = TEXT | {"vocab_size": tokenizer.vocab_size, "encoder_hidden_size": 24}
    config = blip.BlipConfig(vision_config=VISION, text_config=text, image_text_hidden_size=10)
    return make_blip_model(blip.modeling_blip.BlipForImageTextRetrieval, config)


@pytest.fixture
def folder(reference: Any, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    return save_blip_model(tmp_path / "reference", reference, tokenizer)


def assert_equal_outputs(reference: Any, checkpoint: Checkpoint[MatchConfig]) -> None:
    """Compare hidden states, match logits and similarities of texts that start with [CLS]."""
    model, tokenizer = build_matcher(checkpoint), checkpoint.tokenizer
    random = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 3, 12, 12, generator=random)
    ids = torch.randint(5, tokenizer.vocab_size, (3, 9), generator=random)
    mask = (torch.arange(9) < torch.tensor([9, 6, 4])[:, None]).long()
    ids[:, 0] = tokenizer.cls_id
    ids = ids.where(mask.bool(), tokenizer.pad_id)
    inputs: dict[str, Tensor] = {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": pixels,
    }
    with torch.no_grad():
        itm, itc = reference(**inputs), reference(**inputs, use_itm_head=False)
        embeds = model.vision(pixels)
        pairs, texts = model.read_pairs(ids, mask, embeds), model.read_texts(ids, mask)
        logits = model.classify(pairs)
        similarity = model.project_images(embeds) @ model.project_texts(texts).T
    real = mask.bool()
    torch.testing.assert_close(embeds, itm.last_hidden_state, **TOLERANCE)
    torch.testing.assert_close(pairs[real], itm.question_embeds[real], **TOLERANCE)
    torch.testing.assert_close(texts[real], itc.question_embeds[real], **TOLERANCE)
    torch.testing.assert_close(logits, itm.itm_score, **TOLERANCE)
    torch.testing.assert_close(similarity, itc.itm_score, **TOLERANCE)
    assert logits.std() > 0.1
    assert similarity.std() > 2e-3


def have_equal_weights(left: Path, right: Path) -> bool:
    before, after = (load_file(folder / "model.safetensors") for folder in (left, right))
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )


def test_reference_model_loaded_here(reference: Any, folder: Path) -> None:
    checkpoint = load_matcher_checkpoint(folder)
    assert checkpoint.config.vision.layer_norm_eps == 1e-5
    assert checkpoint.config.text.num_heads == 8
    assert checkpoint.config.projection_dim == 10
    assert checkpoint.config.temperature == 0.07
    assert_equal_outputs(reference, checkpoint)


@pytest.mark.parametrize("change", ["old names", "pickle and buffers", "no architecture"])
def test_folders_of_other_versions(change: str, reference: Any, folder: Path) -> None:
    expected = load_matcher_checkpoint(folder)
    values = json.loads((folder / "config.json").read_text())
    if change == "old names":
        for name in ("text_config", "vision_config"):
            values[f"{name}_dict"] = values.pop(name)
    if change == "no architecture":
        del values["architectures"]
    if change == "pickle and buffers":
        state = reference.state_dict() | {
            "text_encoder.embeddings.position_ids": torch.arange(17)[None],
            "vision_model.embeddings.position_ids": torch.arange(10)[None],
        }
        torch.save(state, folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    (folder / "config.json").write_text(json.dumps(values))
    read = load_matcher_checkpoint(folder)
    assert read.config == expected.config
    assert read.fingerprint() == expected.fingerprint()


def test_saved_matcher_loaded_in_transformers(
    blip: Any, matcher: Checkpoint[MatchConfig], tmp_path: Path
) -> None:
    weights = {name: weight * 3 for name, weight in matcher.weights.items()}
    matcher = Checkpoint(matcher.config, weights, matcher.tokenizer)
    save_checkpoint(tmp_path / "saved", matcher, "huggingface")
    reference, loading_info = blip.modeling_blip.BlipForImageTextRetrieval.from_pretrained(
        tmp_path / "saved", output_loading_info=True
    )
    assert not any(loading_info.values())
    assert_equal_outputs(reference.eval(), matcher)


def test_round_trip_through_transformers_keeps_all_settings(
    blip: Any, matcher: Checkpoint[MatchConfig], tmp_path: Path
) -> None:
    from transformers import AutoProcessor

    save_checkpoint(tmp_path / "saved", matcher, "huggingface")
    reference = blip.modeling_blip.BlipForImageTextRetrieval.from_pretrained(tmp_path / "saved")
    reference.save_pretrained(tmp_path / "again")
    AutoProcessor.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "again")
    read = load_matcher_checkpoint(tmp_path / "again")
    assert read.config == matcher.config
    assert have_equal_weights(tmp_path / "saved", tmp_path / "again")


def test_round_trip_of_a_reference_model_is_the_identity(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pth", load_matcher_checkpoint(folder), "salesforce")
    save_checkpoint(tmp_path / "native", load_matcher_checkpoint(tmp_path / "model.pth"))
    save_checkpoint(tmp_path / "again", load_matcher_checkpoint(tmp_path / "native"), "huggingface")
    assert have_equal_weights(folder, tmp_path / "again")


def test_the_tokens_of_captions_do_not_matter(folder: Path, tokenizer: Tokenizer) -> None:
    """A captioner with other tokens is refused; transformers does not use them in a matcher."""
    values = json.loads((folder / "config.json").read_text())
    values["text_config"] |= {"bos_token_id": 3, "sep_token_id": 4}
    (folder / "config.json").write_text(json.dumps(values))
    assert load_matcher_checkpoint(folder).tokenizer.dec_id == tokenizer.dec_id
