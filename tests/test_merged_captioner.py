"""Captioners that merge tokens: engines, settings, checkpoints, training and commands."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from random_captioner import draw_images, make_captioner, save_captioner
from random_matcher import make_matcher

import cutline
from cutline.captioner import Captioner
from cutline.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_native
from cutline.cli.main import run_command
from cutline.config import CaptionerOptions, LoadOptions, ModelSettings, Recipe, VisionConfig
from cutline.engine.compiled import graph_dependencies
from cutline.errors import ConfigError
from cutline.model import CaptionModel
from cutline.model.vision import VisionTransformer

MERGED = 6  # of 17 tokens: 11 remain after one block, 6 after two
IMAGES = draw_images(7)
SEARCHES: list[dict[str, Any]] = [{"num_beams": 3}, {"sample": True, "num_captions": 2, "seed": 1}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a captioner of four by four patches, which merges none."""
    folder = tmp_path_factory.mktemp("models") / "plain"
    tiny = make_captioner()
    config = replace(tiny.config, vision=replace(tiny.config.vision, patch_size=8))
    torch.manual_seed(1)
    weights = {
        name: weight.normal_(std=0.35) if weight.dim() > 1 else weight
        for name, weight in CaptionModel(config).state_dict().items()
    }
    save_native(folder, Checkpoint(config, weights, tiny.tokenizer))
    return folder


@pytest.fixture(scope="module")
def merging(folder: Path) -> Captioner:
    return cutline.load(folder, "cpu", "fp32", merge_tokens=MERGED)


def encode(captioner: Captioner, count: int = 3) -> torch.Tensor:
    """Return the image_embeds of the first images."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    with captioner.inference():
        return captioner.encode_images(pixels)


def read_ids(captioner: Captioner, **settings: Any) -> list[tuple[int, ...]]:
    return [caption.token_ids for caption in captioner.caption(IMAGES, **settings)]


@pytest.mark.parametrize(
    ("precision", "search"), [("fp32", SEARCHES[0]), ("int8", SEARCHES[0]), ("fp32", SEARCHES[1])]
)
def test_captions_do_not_depend_on_the_batch(
    folder: Path, precision: Any, search: dict[str, Any]
) -> None:
    """Images come and go in the cache, with their sizes."""
    captioner = cutline.load(folder, "cpu", precision, merge_tokens=MERGED)
    expected = [captioner.caption(image, batch_size=1, **search)[0].token_ids for image in IMAGES]
    for batch_size in (3, 8):
        assert read_ids(captioner, batch_size=batch_size, **search) == expected
    assert len(set(expected)) > 1


def test_engines_agree(folder: Path, merging: Captioner) -> None:
    eager = cutline.load(folder, "cpu", "fp32", engine="eager", merge_tokens=MERGED)
    torch.testing.assert_close(encode(merging), encode(eager))
    for search in SEARCHES:
        assert read_ids(merging, **search) == read_ids(eager, **search)
    texts = ["a red circle", "two blue star"]
    for one, two in zip(
        merging.score(IMAGES[0], texts), eager.score(IMAGES[0], texts), strict=True
    ):
        assert one.log_prob == pytest.approx(two.log_prob, rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_merge_too(folder: Path, merging: Captioner, precision: Any) -> None:
    other = cutline.load(folder, "cpu", precision, merge_tokens=MERGED)
    exact, rounded = encode(merging), encode(other).float()
    assert exact.shape == rounded.shape == (3, 6, 33)
    assert exact[..., -1].sum(1).tolist() == rounded[..., -1].sum(1).tolist() == [17] * 3
    assert len(other.caption(IMAGES)) == len(IMAGES)


@pytest.mark.slow
def test_the_compiled_encoder_merges_as_the_eager_one(
    folder: Path, merging: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUTLINE_CACHE", str(tmp_path))
    compiled = cutline.load(folder, "cpu", "fp32", engine="compiled", merge_tokens=MERGED)
    torch.testing.assert_close(encode(compiled), encode(merging))
    assert read_ids(compiled) == read_ids(merging)
    with pytest.raises(ConfigError, match=r'engine compiled .* engine="packed", or with merge_'):
        cutline.explain(compiled, IMAGES[0], "a red circle", method="attention")


def test_each_number_has_a_compiled_graph_of_its_own() -> None:
    encoders = [VisionTransformer(VisionConfig(depth=1), number) for number in (0, 1, 2, 2)]
    keys = [str(graph_dependencies(vision)) for vision in encoders]
    assert len(set(keys)) == 3


def test_zero_is_the_captioner_without_merging_to_the_bit(folder: Path) -> None:
    plain = cutline.load(folder, "cpu", "fp32")
    zero = cutline.load(folder, "cpu", "fp32", merge_tokens=0)
    assert torch.equal(encode(plain), encode(zero))
    assert plain.fingerprint == zero.fingerprint
    assert [caption.score for caption in plain.caption(IMAGES)] == [
        caption.score for caption in zero.caption(IMAGES)
    ]


def test_a_matcher_with_the_same_weights_reads_the_images_itself() -> None:
    tiny = make_captioner()
    weights, config = tiny.model.state_dict(), replace(tiny.config, merge_tokens=1)
    model = CaptionModel(config)
    model.load_state_dict(weights)
    matcher, settings = make_matcher(encoder_of=tiny), {"num_beams": 3, "num_captions": 3}
    captioner = Captioner(model, tiny.tokenizer, "cpu", "fp32")
    for image, caption in zip(
        IMAGES, captioner.caption(IMAGES, rerank=matcher, **settings), strict=True
    ):
        [expected] = matcher.match(image, [caption.text]).tolist()
        assert caption.match == pytest.approx(expected, rel=1e-4)


def test_a_checkpoint_keeps_the_setting_and_load_changes_it(folder: Path, tmp_path: Path) -> None:
    plain = load_checkpoint(folder)
    trained = replace(plain, config=replace(plain.config, merge_tokens=MERGED))
    save_native(tmp_path / "merged", trained)
    assert json.loads((tmp_path / "merged/config.json").read_text())["config"]["merge_tokens"] == 6
    loaded = cutline.load(tmp_path / "merged", "cpu", "fp32")
    assert loaded.config.merge_tokens == MERGED
    assert torch.equal(encode(loaded), encode(cutline.load(folder, "cpu", "fp32", merge_tokens=6)))
    zero = cutline.load(tmp_path / "merged", "cpu", "fp32", merge_tokens=0)
    assert torch.equal(encode(zero), encode(cutline.load(folder, "cpu", "fp32")))
    assert plain.fingerprint() == zero.fingerprint != trained.fingerprint() == loaded.fingerprint
    assert "merge_tokens" not in repr(plain.config)  # else calibrations of before would not fit


def test_other_formats_warn(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    plain = load_checkpoint(folder)
    save_checkpoint(tmp_path / "plain", plain, "huggingface")
    assert not caplog.records
    merged = replace(plain, config=replace(plain.config, merge_tokens=MERGED))
    save_checkpoint(tmp_path / "model.pth", merged, "salesforce")
    save_checkpoint(tmp_path / "merged", merged, "huggingface")
    assert [record.message.split(": ")[1] for record in caplog.records] == [
        f"this captioner merges 6 visual tokens per block, which the code that reads the {format} "
        "format does not do"
        for format in ("salesforce", "huggingface")
    ]
    assert load_checkpoint(tmp_path / "model.pth").config.merge_tokens == MERGED  # cutline does


def test_the_command_line_loads_it(
    folder: Path, merging: Captioner, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tmp_path / f"{number}.png") for number in range(len(IMAGES))]
    for image, file in zip(IMAGES, files, strict=True):
        image.save(file)
    flags = ["--model", str(folder), "--device", "cpu", "--precision", "fp32"]
    printed = []
    for number in (MERGED, 0):
        assert run_command(["caption", *files, *flags, "--merge-tokens", str(number)]) == 0
        printed.append(re.findall(r"\t(.*)", capsys.readouterr().out))
    assert printed[0] == [caption.text for caption in merging.caption(IMAGES)] != printed[1]


@pytest.mark.parametrize("value", [-1, 1_000_001])
def test_impossible_numbers_are_errors(folder: Path, value: int) -> None:
    message = f"merge_tokens must be between 0 and 1000000, not {value}"
    for make in (LoadOptions, ModelSettings):
        with pytest.raises(ConfigError, match=message):
            make(merge_tokens=value)
    with pytest.raises(ConfigError, match=message):
        cutline.load(folder, "cpu", merge_tokens=value)


def test_the_setting_needs_a_captioner() -> None:
    with pytest.raises(ConfigError, match="captioner_merge_tokens has no effect without a captio"):
        CaptionerOptions(captioner_merge_tokens=3)
    options = CaptionerOptions("model", captioner_merge_tokens=3).checkpoint_options
    assert options.arguments["merge_tokens"] == 3
    for task in ("match", "pretrain"):
        with pytest.raises(ConfigError, match=f"`model.merge_tokens` is for .* `task: {task}`"):
            Recipe(task=task, model=ModelSettings(merge_tokens=3))


def test_tokens_merge_until_few_remain(tmp_path: Path) -> None:
    """A number above all tokens merges half of them in each block."""
    save_captioner(tmp_path / "model")
    captioner = cutline.load(tmp_path / "model", "cpu", "fp32", merge_tokens=999)
    assert captioner.model.embeds_shape == (2, 33)
    assert VisionConfig().list_merges_per_block(999)[:3] == [288, 144, 72]
    assert len(captioner.caption(IMAGES)) == len(IMAGES)
