"""Vocabularies that are wrong, large or slow."""

import json
import os
import random
from pathlib import Path
from typing import Any

BOMB = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
REGEX = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "x"}
SPLIT = {"type": "Split", "pattern": {"Regex": "(a*)*b"}, "behavior": "Isolated", "invert": False}
NESTED: Any = {"type": "Sequence", "normalizers": []}
for _ in range(100):
    NESTED = {"type": "Sequence", "normalizers": [NESTED]}

PARTS: tuple[Any, ...] = (
    *(None, 3, [], {}, {"type": "x" * 9999}, {"type": "a\nb"}, {"type": []}, BOMB, REGEX, SPLIT),
    *({"type": "Sequence", "normalizers": [BOMB] * 40}, {"type": "Sequence"}, NESTED),
    *({"type": "Precompiled", "precompiled_charsmap": "AAAA"}, {"type": "ByteLevel"}),
    {"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}, SPLIT]},
    {"type": "CharDelimiterSplit", "delimiter": "ab"},
    {"type": "Strip"},
)
MODEL_VALUES: tuple[Any, ...] = (
    *(None, -1, 0, 2**64, 10**30, 1.5, "", "x", "a\nb", "x" * 100_000, [], {}),
)
ADDED: tuple[Any, ...] = (
    *(3, {"a": 1}, [3], [{}], [{"id": 5}]),
    [{"id": 2**32, "content": "y", "special": True}],
    [{"id": 5, "content": "", "special": False}],
)


def write_tokenizer(text: str, file: Path, rng: random.Random) -> None:
    """Write a tokenizer.json with wrong parts."""
    values = json.loads(text)
    model = values["model"]
    match rng.randrange(8):
        case 0:
            values[rng.choice(("normalizer", "pre_tokenizer"))] = rng.choice(PARTS)
        case 1:
            values[rng.choice(("decoder", "post_processor", "truncation", "padding"))] = rng.choice(
                PARTS
            )
        case 2:
            model[rng.choice([name for name in model if name != "vocab"])] = rng.choice(
                MODEL_VALUES
            )
        case 3:
            model["type"] = rng.choice(("BPE", "Unigram", "WordLevel", "x" * 9999, 3, None))
            model["merges"] = rng.choice(([], ["a b"], [["a"]], 3, ["x" * 9999] * 10))
        case 4:
            vocabulary = model["vocab"]
            vocabulary[rng.choice(list(vocabulary))] = rng.choice(
                (2**32, -1, 1.5, "x", None, 3, 10**6, 10**9, 10**30)
            )
            if rng.randrange(2):
                del vocabulary[rng.choice(list(vocabulary))]
        case 5:
            size = rng.choice((10, 1_000, 200_000, 1_100_000))
            model["vocab"] |= {f"w{index}": index for index in range(size)}
        case 6:
            plain = dict.fromkeys(
                ("single_word", "lstrip", "rstrip", "normalized", "special"), False
            )
            flood = [{"id": 200 + i, "content": f"w{i}", **plain} for i in range(20_000)]
            values["added_tokens"] = rng.choice((*ADDED, flood, flood[:9_000]))
        case 7:
            text = rng.choice(
                (
                    *("[" * 100_000, "", "null", '{"model": {}}', '{"model": {"vocab": 3}}'),
                    *(
                        text[: rng.randrange(len(text))],
                        text.replace('"vocab"', '"vocab":{},"vocab"'),
                    ),
                    text.replace("[UNK]", rng.choice(("\\ud800", "\x00", "")), 1),
                )
            )
            file.write_text(text)
            if rng.randrange(8) == 0:
                os.truncate(file, 1_000_000_000)
            return
    file.write_text(json.dumps(values))


def write_vocabulary(text: str, file: Path, rng: random.Random) -> None:
    """Write a vocab.txt with wrong lines."""
    vocabulary = json.loads(text)["model"]["vocab"]
    lines = sorted(vocabulary, key=vocabulary.__getitem__)
    position = rng.randrange(len(lines))
    match rng.randrange(7):
        case 0:
            lines[position] = rng.choice((lines[3], "", "\x00", "[hole 3]", "a b", "x" * 100_000))
        case 1:
            del lines[position:]
        case 2:
            lines[position:position] = ["w"] * rng.choice((1, 1000, 10_000_000))
        case 3:
            lines = [f"w{index}" for index in range(900_000)] + lines
        case 4:
            lines[position] = "x" * 40_000_000
        case 5:
            rng.shuffle(lines)
        case 6:
            file.write_bytes("\n".join(lines).encode(rng.choice(("utf-16", "utf-8-sig"))))
            return
    file.write_text(rng.choice(("\n", "\r\n", "\r")).join(lines))
