"""A training run, whole."""

from dataclasses import dataclass, field
from typing import Literal

from cutline.config.data import DataConfig
from cutline.config.generation import GenerationConfig
from cutline.config.metrics import MetricTokenizer
from cutline.config.model import CaptionConfig
from cutline.config.optim import OptimConfig
from cutline.config.validation import require, require_choices

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class InitConfig:
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
    """another image size for a captioner to fine-tune; positions are interpolated (0: its own)"""


@dataclass(frozen=True)
class EvalConfig:
    """Captioning the validation images during training."""

    every: int = 1
    """epochs between two evaluations"""
    first: int = 0
    """the first epoch that is evaluated (0: that numbered `every`)"""
    batch_size: int = 32
    """images per batch"""
    max_pictures: int = 0
    """use only the first so many validation images (0: all)"""
    tokens: MetricTokenizer = "auto"
    """what counts as a word: ptb (English), words, characters (Chinese, Japanese, Thai …), or auto, which sees by the references"""
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
    """the run's folder: best/, last/, state.safetensors, log.jsonl, report.html, recipe.yaml, run.json, tensorboard/"""
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
    tensorboard: Literal["auto", "on", "off"] = "auto"
    """also log for TensorBoard: where it is installed (auto)"""
    model: CaptionConfig = field(default_factory=CaptionConfig)
    start: InitConfig = field(default_factory=InitConfig)
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
        require(
            not self.data.stream or bool(self.start.captioner or self.start.tokenizer),
            "with `data.stream` the captions are not read beforehand: give a vocabulary, `start.tokenizer`, or a `start.captioner`",
        )
        require(
            not self.data.stream or bool(self.data.val) or self.data.val_share == 0,
            "with `data.stream` no images can be set apart: give `data.val`, or set `data.val_share` to 0",
        )
        for name in ("config", "image_size"):
            require(
                bool(self.start.captioner) or not getattr(self.start, name),
                f"`start.{name}` only makes sense with `start.captioner`",
            )
        lora = self.optim.lora
        require(
            not self.data.cache_embeddings
            or "vision.*" in self.optim.freeze
            or (lora.rank > 0 and all(target.startswith("text.") for target in lora.targets)),
            "data.cache_embeddings needs a vision side that stays as it is: set `optim.freeze` to 'vision.*', "
            "or let every one of `optim.lora.targets` begin with 'text.'",
        )
