"""Caption images with the ONNX graphs beside this file: python caption.py IMAGE...

It needs onnxruntime, tokenizers, numpy and Pillow, and prints a line "IMAGE<TAB>CAPTION" for each
image: the caption of a greedy search, as `cutline caption --num-beams 1` prints it. Images that
cannot be read are reported on stderr, and the exit code is then 3.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
    from PIL import Image, ImageOps
    from tokenizers import Tokenizer
except ImportError as error:
    sys.exit(f"{error.name} is missing: pip install onnxruntime tokenizers numpy Pillow")

FOLDER = Path(__file__).parent
USAGE = "usage: python caption.py IMAGE..."
# Scripts that are written without spaces between words, and characters that they share with others.
WIDE = (
    "\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40"
    "\uff5b-\uff9f\U00020000-\U0003ffff"
)
SHARED = "\\d\u00b7\u2013-\u2015\u2018-\u201d\u2026"
WIDE_SPACE = re.compile(f"(?<=[{WIDE}]) (?=[{WIDE}{SHARED}])|(?<=[{SHARED}]) (?=[{WIDE}])")
CONTRACTIONS = {
    **{f" {mark}": mark for mark in ".?!,"},
    " ' ": "'",
    **{f" {end}": end for end in ("n't", "'m", "'s", "'ve", "'re")},
}


class OnnxCaptioner:
    """Captions images by greedy search."""

    def __init__(self, folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.config, self.generate = values["config"], values["generate"]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.prefix = self.tokenizer.model.continuing_subword_prefix
        added = self.tokenizer.get_added_tokens_decoder().items()
        self.special = {index for index, token in added if token.special}
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
            for name in ("encoder.onnx", "decoder.onnx")
        )

    def caption(self, image: Image.Image) -> str:
        """Return the caption of an RGB image."""
        size = self.config["vision"]["image_size"]
        resized = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))  # (S, S, 3)
        pixels = resized.transpose(2, 0, 1)[None]
        names = [each.name for each in self.encoder.get_outputs()]
        image_kv = dict(zip(names, self.encoder.run(None, {"pixels": pixels}), strict=True))
        return self.decode(self.search(image_kv))

    def search(self, image_kv: dict[str, Any]) -> list[int]:
        """Return the tokens of a caption, without prompt and end token."""
        text, limits = self.config["text"], self.generate
        heads = text["num_heads"]
        empty = np.zeros((1, heads, 0, text["embed_dim"] // heads), np.float32)
        names = [each.name for each in self.decoder.get_outputs()][1:]
        past = dict.fromkeys((name.replace("new", "past") for name in names), empty)
        prompt, ids = limits["prompt_ids"], list(limits["prompt_ids"])
        new = ids
        while len(ids) < limits["max_length"]:
            queries, length = len(new), len(ids)
            feeds = {
                "input_ids": np.array([new]),
                "position_ids": np.arange(length - queries, length)[None],
                "mask": np.tri(queries, length, length - queries, dtype=bool)[None, None],
            }
            logits, *kv = self.decoder.run(None, {**feeds, **image_kv, **past})
            scores = logits[0, -1]
            if length < limits["min_length"]:
                scores[limits["end_id"]] = -np.inf
            new = [int(scores.argmax())]
            if new[0] == limits["end_id"]:
                break
            ids += new
            for name, values in zip(list(past), kv, strict=True):
                past[name] = np.concatenate([past[name], values], 2)
        return ids[len(prompt) :]

    def decode(self, ids: list[int]) -> str:
        """Return the text of tokens."""
        tokens = [str(self.tokenizer.id_to_token(i)) for i in ids if i not in self.special]
        text = " ".join(tokens).replace(f" {self.prefix}", "").removeprefix(self.prefix).strip()
        for spaced, joined in CONTRACTIONS.items():
            text = text.replace(spaced, joined)
        return WIDE_SPACE.sub("", text)


def read_image(file: str) -> Image.Image:
    """Open an image upright in RGB, transparent parts on white; gray gets 8 bits."""
    with Image.open(file) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        gray = np.asarray(upright).astype(np.float64)
        whites = [65535] if upright.mode.startswith("I;16") else [1, 255, 65535, gray.max()]
        white = next(white for white in whites if gray.max() <= white)
        levels = np.rint(gray * (255 / white)).clip(0, 255).astype(np.uint8)
        return Image.fromarray(levels).convert("RGB")
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    colors = upright.convert("RGBA")
    flat = Image.new("RGB", colors.size, "white")
    flat.paste(colors, mask=colors.getchannel("A"))
    return flat


def caption_files(files: list[str]) -> int:
    """Print the caption of each file, and return the exit code."""
    if files in (["-h"], ["--help"]):
        print(USAGE, __doc__, sep="\n\n", end="")
        return 0
    if not files or files[0].startswith("-"):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        captioner = OnnxCaptioner(FOLDER)
    except Exception as error:  # each library raises its own
        reason = str(error).partition("\n")[0]
        print(f"{FOLDER}: cannot be read ({reason}); copy the folder again", file=sys.stderr)
        return 1
    failed = 0
    for file in files:
        try:
            image = read_image(file)
        except Exception as error:  # decoders may raise anything
            reason = getattr(error, "strerror", None) or "not an image that can be read"
            print(f"{file}: {reason}; check the file", file=sys.stderr)
            failed += 1
        else:
            print(f"{file}\t{captioner.caption(image)}", flush=True)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(caption_files(sys.argv[1:]))
