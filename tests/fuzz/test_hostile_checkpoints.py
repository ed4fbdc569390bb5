"""Mutated checkpoints of every format: one sentence, no code, little memory.

What loads must also work: it captions an image, or matches texts with it, and is converted.
"""

import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuzz_process import Limits, check_cases
from hostile_pickles import WRITERS
from hostile_vocabularies import write_tokenizer, write_vocabulary
from PIL import Image

import cutline
from cutline.checkpoint import load_checkpoint, load_matcher_checkpoint, save_checkpoint
from cutline.files import atomic_write

GOLDEN = Path(__file__).parents[1] / "golden"
LIMITS = Limits(memory=500_000_000, seconds=60)
NUMBER_OF_CASES = 200
FORMATS = ("cutline", "huggingface", "salesforce")


@functools.cache
def make_models(is_matcher: bool) -> Path:
    """Convert the small golden captioner, or matcher, to all formats, once in a process."""
    folder = Path(tempfile.mkdtemp())
    sizes = GOLDEN / "salesforce-micro" / "config.json"
    checkpoint: Any = load_checkpoint(sizes.with_name("checkpoint.pth"), sizes)
    if is_matcher:
        file = GOLDEN / "salesforce-itm-micro" / "checkpoint.pth"
        vocabulary = sizes.with_name("vocab.txt")
        checkpoint = load_matcher_checkpoint(file, sizes, vocabulary)
    save_checkpoint(folder / "cutline", checkpoint)
    save_checkpoint(folder / "huggingface", checkpoint, "huggingface")
    save_checkpoint(folder / "salesforce" / "model.pth", checkpoint, "salesforce")
    return folder


def run_case(seed: int, folder: Path) -> None:
    rng = random.Random(seed)
    mutate, is_matcher = MUTATIONS[seed % len(MUTATIONS)], seed % 3 == 0
    shutil.copytree(make_models(is_matcher), folder / "models")
    path, image = mutate(folder / "models", rng), Image.new("RGB", (40, 30))
    if is_matcher:
        matcher = cutline.load_matcher(path, device="cpu", precision="fp32", engine="eager")
        matcher.match(image, ["a red star", "two"])
        matcher.similarity(image, "two")
        save_checkpoint(folder / "out", load_matcher_checkpoint(path))
    else:
        captioner = cutline.load(path, device="cpu", precision="fp32", engine="eager")
        captioner.caption(image, max_length=8, min_length=1)
        save_checkpoint(folder / "out", load_checkpoint(path))


# --- safetensors


def mutate_header(models: Path, rng: random.Random) -> Path:
    """Change the header of a safetensors file: sizes, places, names, types."""
    model = models / rng.choice(("cutline", "huggingface"))
    file = model / "model.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    name = rng.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    match rng.randrange(9):
        case 0:
            lengths = (0, 1, size - 1, size + 1, len(content), 100_000_000, 2**63, 2**64 - 1)
            size = rng.choice(lengths)
            file.write_bytes(size.to_bytes(8, "little") + content[8:])
            if size == 100_000_000:
                os.truncate(file, size + 8)
            return model
        case 1:
            begin, end = entry["data_offsets"]
            entry["data_offsets"] = rng.choice(
                ([end, begin], [0, end - begin], [begin, 2**63], [-1, end], [begin], "x", [0, 0])
            )
        case 2:
            entry["dtype"] = rng.choice(
                ("F64", "F16", "F8_E4M3", "F4", "I64", "BOOL", "C64", "X", 3, None)
            )
        case 3:
            entry["shape"] = rng.choice(
                ([2**62, 4], [2**32, 2**32], [0], [], [-1], [1.5], "x", [10**30], [1] * 100_000)
            )
        case 4:
            header[rng.choice(("a\nb", "x" * 100_000, "", "\x00", "vision"))] = header.pop(name)
        case 5:
            del header[name]
        case 6:
            header["__metadata__"] = rng.choice((3, {"a": 3}, {"a": "b" * 10**6}, []))
        case 7:
            extra = {f"w{number}": entry for number in range(50_000)}
            header |= extra
    text = json.dumps(header)
    if rng.randrange(9) == 0:  # one name twice
        text = text[:-1] + f", {json.dumps(name)}: {json.dumps(entry)}}}"
    file.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data)
    return model


def mutate_values(models: Path, rng: random.Random) -> Path:
    """Put NaN or infinity into a weight, or cut or change bytes anywhere."""
    name = rng.choice(("cutline/model.safetensors", "huggingface/model.safetensors"))
    file = models / rng.choice((name, "salesforce/model.pth"))
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice((1, 1, 10, 1000))):
        position = rng.randrange(len(content)) & ~3
        content[position : position + 4] = rng.choice(
            (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\xff", rng.randbytes(4))
        )
    file.write_bytes(content[: rng.choice((len(content), rng.randrange(len(content))))])
    return file


# --- pickles


def mutate_pickle(models: Path, rng: random.Random) -> Path:
    """Replace the pickle of BLIP's or of a Hugging Face folder."""
    content = torch.load(models / "salesforce" / "model.pth", weights_only=True)
    file = models / "salesforce" / "model.pth"
    state = content["model"]
    if rng.randrange(3) == 0:
        file = models / "huggingface" / "pytorch_model.bin"
        (models / "huggingface" / "model.safetensors").unlink()
    rng.choice(WRITERS)(state, file, rng)
    return file


# --- settings

VALUES: tuple[Any, ...] = (
    *(0, -1, 3, 10**6, 10**9, 10**12, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *(None, True, "", "x", "a\nb", "x" * 100_000, [], [384, 224], [[]], [10**9], {}, {"a": 1}),
)
TEXTS: tuple[str, ...] = (
    *("", "{", "[]", "null", "3", '"x"', '{"format": "cutline"}', '{"model_type": "blip"}'),
    *("[" * 100_000, '{"a":' * 100_000, "[" * 900 + "]" * 900, "9" * 10_000, "\x00" * 100),
    *('{"model_type": "gpt2"}', '{"model_type": [["' + "a\\n" * 9999 + '"]]}'),
)


def mutate_settings(models: Path, rng: random.Random) -> Path:
    """Replace a value, a key or all of a file of settings."""
    file = models / rng.choice(
        (
            *("cutline/config.json", "cutline/config.json", "huggingface/config.json"),
            *("huggingface/config.json", "huggingface/preprocessor_config.json"),
        )
    )
    text = file.read_text()
    if rng.randrange(4) == 0:
        text = rng.choice((*TEXTS, text[:-9], text.replace('":', '": 1, "', 1), text + text))
        file.write_bytes(rng.choice((text.encode(), text.encode("utf-16"), text.encode() * 2)))
        if rng.randrange(5) == 0:
            os.truncate(file, 1_000_000_000)
        return file.parent
    values = json.loads(text)
    section = values
    while True:
        key = rng.choice(list(section))
        if not isinstance(section[key], dict) or rng.randrange(5) == 0:
            break
        section = section[key]
    if rng.randrange(4) == 0:
        section[rng.choice(("", "a\nb", "x" * 100_000, "dept"))] = section.pop(key)
    else:
        section[key] = rng.choice(VALUES)
    changed = json.dumps(values)
    if rng.randrange(6) == 0:
        changed = changed.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1)
    file.write_text(changed)
    return file.parent


# --- files that are somewhere else


def mutate_links(models: Path, rng: random.Random) -> Path:
    """Replace a file of a model with a link, a pipe or a folder."""
    model = models / rng.choice(FORMATS)
    file = rng.choice(sorted(model.iterdir()))
    content = file.read_bytes()
    file.unlink()
    target = rng.choice(("/etc/passwd", "/dev/zero", "/dev/stdin", "/", "gone", file, "blob", ""))
    if target:
        file.symlink_to(target)
        (model / "blob").write_bytes(content)  # as in the cache of the hub
    elif rng.randrange(2):
        os.mkfifo(file)
    else:
        file.mkdir()
    return model / "model.pth" if model.name == "salesforce" else model


def mutate_shards(models: Path, rng: random.Random) -> Path:
    """Write an index of shards that names other files."""
    model = models / "huggingface"
    file = (model / "model.safetensors").rename(model / "model-1.safetensors")
    content = torch.load(models / "salesforce" / "model.pth", weights_only=True)
    weight_map: Any = dict.fromkeys(content["model"], file.name)
    name = rng.choice(list(weight_map))
    outside = ("../../etc/passwd", "/etc/passwd", "/dev/zero", str(file), f"../{model.name}/x")
    wrong = ("", ".", "..", "gone", "model-1.safetensors", "config.json", 3, None, [], "x" * 9999)
    weight_map[name] = rng.choice((*outside, *wrong))
    whole = {"weight_map": weight_map}
    values = rng.choice((whole, whole, whole, {"weight_map": list(weight_map)}, {}, []))
    (model / "model.safetensors.index.json").write_text(json.dumps(values))
    return model


# --- vocabularies


def mutate_vocabulary(models: Path, rng: random.Random) -> Path:
    """Replace a vocabulary."""
    name, write = rng.choice(
        (
            *[("tokenizer.json", write_tokenizer)] * 3,
            ("vocab.txt", write_vocabulary),
        )
    )
    model = models / "huggingface"
    text = (model / "tokenizer.json").read_text()
    (model / "tokenizer.json").unlink()
    with atomic_write(model / name) as file:
        write(text, file, rng)
    return model


MUTATIONS: tuple[Callable[[Path, random.Random], Path], ...] = (
    *(mutate_header, mutate_pickle, mutate_settings, mutate_vocabulary, mutate_links),
    *(mutate_pickle, mutate_settings, mutate_values, mutate_vocabulary, mutate_shards),
)


def test_some_checkpoints() -> None:
    outcomes = check_cases(__file__, range(32, 52), LIMITS)  # small ones of every kind
    assert any(outcome.message for outcome in outcomes)
    assert any(not outcome.message for outcome in outcomes)


@pytest.mark.slow
def test_all_checkpoints() -> None:
    outcomes = check_cases(__file__, range(NUMBER_OF_CASES), LIMITS)
    assert any(not outcome.message for outcome in outcomes)
    assert len({outcome.message.split(": ")[-1] for outcome in outcomes}) > 20
