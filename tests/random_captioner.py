"""A captioner with random weights, and images for it."""

from pathlib import Path

import torch
from PIL import Image

from cutline.captioner import Captioner
from cutline.checkpoint import Checkpoint, save_native
from cutline.config import CaptionConfig, TextConfig, VisionConfig
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


def draw_images(count: int) -> list[Image.Image]:
    """Draw scenes."""
    return [draw_scene(scene) for scene in make_scenes(count, seed=1)]
