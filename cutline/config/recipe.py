"""A training run, whole."""

from dataclasses import dataclass, field
from typing import Literal

from cutline.config.checks import require, require_choices
from cutline.config.generation import GenerationConfig
from cutline.config.model import CaptionConfig

Precision = Literal["auto", "fp32", "bf16"]
Cleaning = Literal["blip", "none"]


@dataclass(frozen=True)
class StartConfig:
    """What training starts from; nothing at all means random weights of the sizes in `model`."""

    captioner: str = ""
    """a captioner to fine-tune: hub id, .pth, Hugging Face folder or own folder; brings its own sizes and vocabulary"""
    vision: str = ""
    """vision weights (timm or DeiT layout): .safetensors or .pth"""
    text: str = ""
    """BERT weights: .safetensors or .bin"""
    tokenizer: str = ""
    """vocab.txt, tokenizer.json or a folder; without it a vocabulary is made from the training captions"""
    vocab_size: int = 8000
    """the most pieces of a vocabulary made from the captions"""
    config: str = ""
    """sizes of a .pth captioner: base, large, tiny or a JSON file"""
    image_size: int = 0
    """another picture size for a captioner to fine-tune; positions are interpolated (0: its own)"""


@dataclass(frozen=True)
class DataConfig:
    """The pictures and captions, and what is done to them."""

    train: str = ""
    """training data: JSONL, COCO or Karpathy JSON, or a folder of pictures with .txt files beside them"""
    val: str = ""
    """validation data; without it `val_share` of the training pictures is set apart"""
    train_split: str = ""
    """split of a dataset_coco.json to train on, such as train"""
    val_split: str = ""
    """split of a dataset_coco.json to validate on, such as val"""
    image_root: str = ""
    """folder that picture paths are relative to (default: the data file's own)"""
    val_share: float = 0.05
    """share of the training pictures set apart when `val` is not given (0: none, the best checkpoint is the lowest training loss)"""
    prompt: str | None = None
    """put before each caption and not scored (default: the model's own prompt)"""
    clean: Cleaning = "blip"
    """caption cleaning: blip (lower case, punctuation dropped) or none"""
    max_words: int = 30
    """captions are cut after this many words"""
    max_tokens: int = 40
    """captions are cut after this many tokens, prompt included; the end token is kept"""
    captions_per_image: int = 0
    """captions of a picture trained on at once, chosen anew each epoch; 0 makes a row of every caption, as the reference does"""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """area of the random crop, as a share of the picture"""
    flip: bool = True
    """mirror half of the pictures"""
    quarter_turns: bool = False
    """turn pictures by a random multiple of 90 degrees: for pictures from above"""
    randaugment: bool = True
    """the reference's RandAugment: 2 operations of magnitude 5"""
    cache: bool = False
    """keep decoded pictures in memory: for small data sets"""
    num_workers: int = 2
    """processes that decode pictures (0: the training process does it)"""

    def __post_init__(self) -> None:
        require_choices(self)
        require(0 <= self.val_share < 1, f"val_share {self.val_share} is not in [0, 1)")
        require(self.max_words >= 1, f"max_words {self.max_words} is below 1")
        require(self.max_tokens >= 3, f"max_tokens {self.max_tokens} is below 3")
        require(self.captions_per_image >= 0, f"captions_per_image {self.captions_per_image} is negative")
        low, high = self.crop_scale
        require(0 < low <= high <= 1, f"crop_scale {low}, {high} is not within (0, 1]")
        require(self.num_workers >= 0, f"num_workers {self.num_workers} is negative")


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser, its schedule, and what keeps it in memory."""

    batch_size: int = 32
    """pictures per step and process"""
    grad_accum_steps: int = 1
    """batches per optimiser step; losses are weighed by tokens"""
    epochs: int = 5
    """passes over the training data"""
    max_steps: int = 0
    """stop after this many optimiser steps (0: after `epochs`)"""
    lr: float = 1e-5
    """peak learning rate"""
    min_lr: float = 0.0
    """learning rate at the end"""
    warmup_steps: int = 0
    """steps of linear warm-up"""
    schedule: Literal["cosine", "cosine_epoch", "constant"] = "cosine"
    """cosine per step, cosine stepped once per epoch (the reference's), or constant"""
    weight_decay: float = 0.05
    """AdamW weight decay, on all parameters as in the reference"""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW averages"""
    clip_norm: float = 0.0
    """largest gradient norm (0: no clipping)"""
    ema_decay: float = 0.0
    """evaluate and keep an exponential moving average of the weights (0: off)"""
    label_smoothing: float | None = None
    """label smoothing (default: the model's own)"""
    dropout: float | None = None
    """text dropout (default: the model's own)"""
    drop_path: float | None = None
    """stochastic depth of the vision side (default: the model's own)"""
    vit_grad_ckpt: bool = False
    """recompute activations of the last `vit_ckpt_layer` vision blocks instead of keeping them"""
    vit_ckpt_layer: int = 0
    """how many of the last vision blocks to recompute"""
    text_grad_ckpt: bool = False
    """recompute activations of the text layers"""

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("batch_size", "grad_accum_steps", "epochs"):
            require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is below 1")
        for name in ("max_steps", "warmup_steps", "weight_decay", "clip_norm", "min_lr", "vit_ckpt_layer"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")
        require(self.lr > 0, f"lr {self.lr} is not positive")
        require(0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay} is not in [0, 1)")
        require(
            not self.vit_grad_ckpt or self.vit_ckpt_layer > 0,
            "vit_grad_ckpt is on but vit_ckpt_layer is 0: say how many of the last blocks to recompute",
        )


@dataclass(frozen=True)
class EvalConfig:
    """Captioning the validation pictures during training."""

    every: int = 1
    """epochs between two evaluations"""
    first: int = 0
    """the first epoch that is evaluated (0: that numbered `every`)"""
    batch_size: int = 32
    """pictures per batch"""
    max_pictures: int = 0
    """use only the first so many validation pictures (0: all)"""
    by: Literal["captions", "loss"] = "captions"
    """what the best checkpoint is chosen by: CIDEr + BLEU-4 of its captions, or the loss of the references"""

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("every", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is below 1")
        for name in ("first", "max_pictures"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")


@dataclass(frozen=True)
class Recipe:
    """One training run, whole."""

    output: str = "runs/captioner"
    """the run's folder: best/, state.safetensors, log.jsonl, recipe.yaml"""
    seed: int = 0
    """decides initial weights, order, augmentation and dropout"""
    precision: Precision = "auto"
    """bf16 autocast where the processor is fast at it (auto), or fp32, or bf16"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    log_every: int = 20
    """steps between two lines of the log"""
    save_minutes: float = 5.0
    """minutes between two saves of the state that a killed run resumes from"""
    model: CaptionConfig = field(default_factory=CaptionConfig)
    start: StartConfig = field(default_factory=StartConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    def __post_init__(self) -> None:
        require_choices(self)
        require(self.log_every >= 1, f"log_every {self.log_every} is below 1")
        require(
            not self.start.captioner or self.model == CaptionConfig(),
            "`model` and `start.captioner` are both given: a captioner to fine-tune brings its own sizes",
        )
        require(
            not (self.start.captioner and (self.start.vision or self.start.text)),
            "`start.captioner` already brings vision and text weights: drop `start.vision` and `start.text`",
        )
        for name in ("config", "image_size"):
            require(
                bool(self.start.captioner) or not getattr(self.start, name),
                f"`start.{name}` only makes sense with `start.captioner`",
            )
