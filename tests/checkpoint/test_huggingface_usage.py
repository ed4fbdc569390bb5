"""The code that `cutline convert --to huggingface` prints, run in transformers."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_folder import GoldenFolder
from PIL import Image
from random_captioner import draw_images, make_captioner, save_captioner
from random_matcher import save_matcher

from cutline.captioner import Captioner
from cutline.checkpoint import (
    Checkpoint,
    build_model,
    format_usage,
    load_checkpoint,
    save_checkpoint,
)
from cutline.checkpoint.huggingface_generation import make_generation_config
from cutline.cli.main import run_command
from cutline.config import GenerationConfig
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer

pytest.importorskip("transformers")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_messages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Run each test in a folder of its own, and fail if transformers logs a warning."""
    monkeypatch.chdir(tmp_path)
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    monkeypatch.setattr(handler, "emit", lambda record: messages.append(record.getMessage()))
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert messages == []


def export(model: str, capsys: Capture) -> str:
    """Convert a model with the command; return the lines that it prints."""
    assert run_command(["convert", model, "exported", "--to", "huggingface"]) == 0
    printed, messages = capsys.readouterr()
    assert messages == "cutline: wrote exported\n"
    assert len(printed.splitlines()) == 5
    return printed


def run_for_each(
    code: str, images: Iterable[Image.Image], capsys: Capture
) -> Iterator[tuple[Path, str]]:
    """Run the lines, as printed, for each image; yield its file with what the lines print."""
    path = Path("photo.jpg")
    for image in images:
        image.save(path)
        exec(code, {})
        yield path, capsys.readouterr().out.removesuffix("\n")


def test_captions_equal_those_of_cutline(capsys: Capture) -> None:
    captioner = save_captioner(Path("model"))
    code = export("model", capsys)
    found = [
        (text, captioner.caption(path, beam_scoring="huggingface")[0].text)
        for path, text in run_for_each(code, draw_images(16), capsys)
    ]
    assert [text for text, _ in found] == [expected for _, expected in found]
    assert len({text for text, _ in found}) > 8


@pytest.mark.parametrize("prompt", ["", "The RED  'circle\\\n\"", "l' "])
def test_captions_with_other_prompts(prompt: str, capsys: Capture) -> None:
    captioner = make_captioner()
    config = replace(captioner.config, prompt=prompt)
    checkpoint = Checkpoint(config, captioner.model.state_dict(), captioner.tokenizer)
    save_checkpoint("it's", checkpoint, "huggingface")
    code = format_usage("it's", checkpoint)
    for path, text in run_for_each(code, draw_images(2), capsys):
        [caption] = captioner.caption(path, prompt, beam_scoring="huggingface")
        assert text == caption.text


def test_captions_of_a_trained_captioner(golden_folder: GoldenFolder, capsys: Capture) -> None:
    checkpoint = load_checkpoint(
        golden_folder.checkpoint, golden_folder.config, golden_folder.vocabulary
    )
    captioner = Captioner(build_model(checkpoint), checkpoint.tokenizer, "cpu", "fp32")
    save_checkpoint("exported", checkpoint, "huggingface")
    images = (Image.open(path).convert("RGB") for path in golden_folder.images[:2])
    for path, text in run_for_each(format_usage("exported", checkpoint), images, capsys):
        [caption] = captioner.caption(path, beam_scoring="huggingface")
        assert text == caption.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Using the model-agnostic default:UserWarning")
def test_the_documentation_says_how_often_plain_generate_agrees(
    shared: Path, capsys: Capture
) -> None:
    """Which table of docs/formats.md has the numbers."""
    golden = GoldenFolder(shared / "fixtures" / "salesforce-tiny")
    checkpoint = load_checkpoint(golden.checkpoint, golden.config, golden.vocabulary)
    captioner = Captioner(build_model(checkpoint), checkpoint.tokenizer, "cpu", "fp32")
    save_checkpoint("exported", checkpoint, "huggingface")
    images = [*golden.images, *sorted((golden.path / "unseen").iterdir())]
    expected = [captioner.caption(each, beam_scoring="huggingface")[0].text for each in images]
    head, model, generation, batch, show = format_usage("exported", checkpoint).splitlines()
    text = f"text={checkpoint.config.prompt!r}, "
    assert text in batch
    without_text = (batch.replace(text, ""), show.replace("[0, 4:]", "[0]"))
    counts = []
    for setup, each in (
        ((head, model, generation), (batch, show)),
        ((head, model), (batch, show)),
        ((head, model), without_text),
    ):
        variables: dict[str, object] = {}
        exec("\n".join(setup), variables)
        found = []
        for path in images:
            Image.open(path).convert("RGB").save("photo.png")
            exec("\n".join(each).replace("photo.jpg", "photo.png"), variables)
            found.append(capsys.readouterr().out.removesuffix("\n"))
        counts.append(sum(map(str.__eq__, found, expected)))
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert f"for {len(images)} photographs" in page
    rows = re.findall(r"^\| (?:the five|without the third) .*\| (\d+) \|$", page, re.M)
    assert counts == list(map(int, rows))


def test_generation_config_holds_the_defaults(tokenizer: Tokenizer) -> None:
    from transformers import GenerationConfig as TransformersConfig

    save_captioner(Path("model"))
    save_checkpoint("exported", load_checkpoint("model"), "huggingface")
    read = TransformersConfig.from_pretrained("exported")
    defaults = GenerationConfig()
    assert (read.num_beams, read.do_sample) == (defaults.num_beams, defaults.sample)
    assert (read.max_length, read.min_length) == (defaults.max_length, defaults.min_length)


def test_generation_config_of_a_short_model(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint()
    values = make_generation_config(checkpoint.config, checkpoint.tokenizer)
    assert values["max_length"] == checkpoint.config.text.max_positions == 17


def test_new_files_are_not_read_here(make_checkpoint: Callable[..., Checkpoint]) -> None:
    checkpoint = make_checkpoint()
    save_checkpoint("exported", checkpoint, "huggingface")
    Path("exported", "generation_config.json").write_text("no JSON")
    read = load_checkpoint("exported")
    assert read.config == checkpoint.config
    assert read.fingerprint() == checkpoint.fingerprint()


def test_contractions_are_written_as_here() -> None:
    from transformers import AutoProcessor

    text = "a dog's ball, isn't it. we've i'm you're 3 - 4"
    captioner = make_captioner()
    tokenizer = Tokenizer.train([text] * 3, 300)
    config = replace(
        captioner.config, text=replace(captioner.config.text, vocab_size=tokenizer.vocab_size)
    )
    weights = CaptionModel(config).state_dict()
    save_checkpoint("exported", Checkpoint(config, weights, tokenizer), "huggingface")
    ids = tokenizer.encode(text).token_ids
    processor = AutoProcessor.from_pretrained("exported")
    assert processor.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids) == text


def test_probabilities_equal_those_of_a_matcher(capsys: Capture) -> None:
    matcher = save_matcher(Path("model"))
    code = export("model", capsys)
    text = "a dog on grass"
    assert repr(text) in code
    found = [
        (float(printed), float(matcher.match(path, text)))
        for path, printed in run_for_each(code, draw_images(16), capsys)
    ]
    probabilities = torch.tensor(found)
    torch.testing.assert_close(*probabilities.unbind(1), atol=1e-5, rtol=0)
    assert probabilities.std() > 0.01
