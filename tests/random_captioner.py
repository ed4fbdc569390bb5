"""A captioner with random weights, and images for it."""

from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from safetensors.torch import save_file

from cutline.captioner import Captioner
from cutline.checkpoint import SALESFORCE, Checkpoint, export_weights, save_native
from cutline.config import CaptionConfig, InitConfig, TextConfig, VisionConfig
from cutline.demo.drawing import draw_scene
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer

M = TypeVar("M", bound=torch.nn.Module)


def make_captioner() -> Captioner:
    """Make a small captioner with weights so large that captions differ between images."""
    tokenizer = Tokenizer.train(
        ["a picture of a red blue green circle star above below the left one two three"] * 3, 300
    )
    config = CaptionConfig(
        vision=VisionConfig(image_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2),
        text=TextConfig(
            vocab_size=tokenizer.vocab_size,
            embed_dim=32,
            depth=2,
            num_heads=2,
            mlp_dim=64,
            max_positions=48,
        ),
    )
    torch.manual_seed(1)
    model = enlarge_weights(CaptionModel(config))
    return Captioner(model, tokenizer, "cpu", "fp32")


def enlarge_weights(model: M, std: float = 0.35) -> M:
    """Give a model so large random weights, but for biases and norms, that inputs matter."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=std)
    return model


def save_captioner(folder: Path) -> Captioner:
    """Save the captioner to a folder, and return it."""
    captioner = make_captioner()
    weights = captioner.model.state_dict()
    save_native(folder, Checkpoint(captioner.config, weights, captioner.tokenizer))
    return captioner


def save_encoders(folder: Path, captioner: Captioner) -> InitConfig:
    """Save a captioner as a Vision Transformer and a BERT; return the settings to start from."""
    weights = export_weights(captioner.model.state_dict(), SALESFORCE)
    for name, prefix in (("vision", "visual_encoder."), ("text", "text_decoder.")):
        part = {
            key.removeprefix(prefix): weight
            for key, weight in weights.items()
            if key.startswith(prefix) and "crossattention" not in key
        }
        save_file(part, folder / f"{name}.safetensors")
    captioner.tokenizer.save(folder / "tokenizer.json")
    names = ("vision.safetensors", "text.safetensors", "tokenizer.json")
    vision, text, tokenizer = (str(folder / name) for name in names)
    return InitConfig(vision=vision, text=text, tokenizer=tokenizer)


def draw_images(count: int) -> list[Image.Image]:
    """Draw scenes."""
    return [draw_scene(scene) for scene in make_scenes(count, seed=1)]


def write_images(folder: Path, count: int) -> list[Path]:
    """Write scenes to a folder, which also gets the data file of their captions."""
    write_scenes(folder, make_scenes(count, seed=3), size=48)
    return sorted(folder.glob("*.png"))
