"""A captioner with random weights, and images for it."""

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

from cutline.captioner import Captioner
from cutline.checkpoint import SALESFORCE, Checkpoint, export_weights, save_native
from cutline.config import CaptionConfig, InitConfig, TextConfig, VisionConfig
from cutline.demo.drawing import draw_scene
from cutline.demo.scenes import make_scenes
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer


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
    model = CaptionModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.35)
    return Captioner(model, tokenizer, "cpu", "fp32")


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
