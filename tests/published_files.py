"""Stand-ins for the files with which the paper's numbers are reproduced: tiny models and data."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cutline.checkpoint import Checkpoint, save_checkpoint
from cutline.config import CaptionConfig, TextConfig, VisionConfig
from cutline.demo.drawing import Scene, draw_scene
from cutline.demo.grammar import describe_scene
from cutline.demo.scenes import make_scenes
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer

MODELS = (
    "model_base_capfilt_large.pth",
    "model_large.pth",
    "model_base_caption_capfilt_large.pth",
    "model_large_caption.pth",
)
SPLITS = {"train": "train2014", "val": "val2014", "test": "val2014"}
"""names in BLIP's annotation files, and the folders of their images"""


def write_published_files(folder: Path) -> None:
    """Write small files of the form of the published ones, under their names."""
    scenes = make_scenes(24, seed=5)
    tokenizer = Tokenizer.train([f"a picture of {describe_scene(scene)}" for scene in scenes], 300)
    tokens = tokenizer.convert_ids_to_tokens(range(tokenizer.vocab_size - 2))  # not [DEC], [ENC]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    for number, name in enumerate(MODELS):
        write_model(folder / name, tokenizer, number)
    for index, (split, images) in enumerate(SPLITS.items()):
        part = scenes[8 * index : 8 * index + 8]
        write_karpathy_split(folder, split, images, part, first_id=100 * index)
    write_nocaps(folder / "nocaps", scenes[:6])


def write_model(file: Path, tokenizer: Tokenizer, seed: int) -> None:
    """Write a captioner with random weights, without sizes and without a vocabulary."""
    # Sizes are inferred with 64 dimensions per head.
    config = CaptionConfig(
        vision=VisionConfig(image_size=32, embed_dim=64, depth=1, num_heads=1),
        text=TextConfig(
            vocab_size=tokenizer.vocab_size,
            embed_dim=64,
            depth=1,
            num_heads=1,
            mlp_dim=64,
            max_positions=64,
        ),
    )
    torch.manual_seed(seed)
    weights = CaptionModel(config).state_dict()
    save_checkpoint(file, Checkpoint(config, weights, tokenizer), "salesforce")
    torch.save({"model": torch.load(file)["model"]}, file)
    file.with_suffix(".tokenizer.json").unlink()


def write_karpathy_split(
    folder: Path, split: str, images: str, scenes: Sequence[Scene], first_id: int
) -> None:
    """Write images of COCO, and BLIP's list of their captions."""
    (folder / "coco" / images).mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, scene in enumerate(scenes, first_id):
        name = f"{images}/COCO_{images}_{number:012d}.jpg"
        draw_scene(scene).save(folder / "coco" / name)
        caption = describe_scene(scene)
        row = {"image": name, "caption": caption, "image_id": f"coco_{number}"}
        rows.append(row if split == "train" else {"image": name, "caption": [caption] * 5})
    (folder / f"coco_karpathy_{split}.json").write_text(json.dumps(rows))


def write_nocaps(folder: Path, scenes: Sequence[Scene]) -> None:
    """Write images and captions in the form of NoCaps' validation data."""
    (folder / "val").mkdir(parents=True)
    images, annotations = [], []
    for number, scene in enumerate(scenes):
        domain = ("in-domain", "near-domain", "out-domain")[number % 3]
        name = f"{number:016x}.jpg"
        images.append({"id": number, "file_name": name, "domain": domain})
        annotations.append({"image_id": number, "caption": describe_scene(scene)})
        draw_scene(scene).save(folder / "val" / name)
    content = {"images": images, "annotations": annotations}
    (folder / "nocaps_val_4500_captions.json").write_text(json.dumps(content))
