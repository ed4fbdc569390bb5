"""Every setting of cutline: frozen dataclasses, checked when they are made. No torch in here.

A recipe is YAML that becomes a `Recipe`; a model's sizes are a `CaptionConfig` that travels inside its checkpoint.
"""

import dataclasses
import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar, get_args, get_origin, get_type_hints

from cutline.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]
BeamScoring = Literal["blip", "huggingface"]
Cleaning = Literal["blip", "none"]
T = TypeVar("T")


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def _require_choices(config: Any) -> None:
    """Fields that are a `Literal` must hold one of its values."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            value = getattr(config, name)
            _require(value in get_args(hint), f"{name} {value!r} is not one of {', '.join(get_args(hint))}")


# ---------------------------------------------------------------------------------------------- the model's sizes


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the Vision Transformer."""

    image_size: int = 384
    """side of the square picture, in pixels"""
    patch_size: int = 16
    """side of a patch, in pixels"""
    embed_dim: int = 768
    """width D"""
    depth: int = 12
    """number of blocks"""
    num_heads: int = 12
    """attention heads"""
    mlp_ratio: float = 4.0
    """width of the MLP, in embed_dim"""
    drop_path: float = 0.0
    """stochastic depth, growing linearly from 0 in the first block to this in the last (training only)"""
    layer_norm_eps: float = 1e-6
    """epsilon of every LayerNorm"""

    def __post_init__(self) -> None:
        _require(min(self.image_size, self.patch_size, self.embed_dim, self.depth, self.num_heads) > 0, "vision sizes must be positive")
        _require(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        _require(
            self.embed_dim % self.num_heads == 0,
            f"vision embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}",
        )
        _require(0 <= self.drop_path < 1, f"drop_path {self.drop_path} is not in [0, 1)")

    @property
    def num_tokens(self) -> int:
        """Visual tokens N: the patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the BERT text side."""

    vocab_size: int = 30524
    """pieces V, [DEC] and [ENC] included; training takes it from the vocabulary"""
    embed_dim: int = 768
    """width"""
    depth: int = 12
    """number of layers"""
    num_heads: int = 12
    """attention heads"""
    mlp_dim: int = 3072
    """width of the MLP"""
    max_positions: int = 512
    """longest text, in tokens"""
    dropout: float = 0.1
    """dropout of embeddings and sub-layer outputs (training only)"""
    attn_dropout: float = 0.1
    """dropout of attention weights (training only)"""
    layer_norm_eps: float = 1e-12
    """epsilon of every LayerNorm"""

    def __post_init__(self) -> None:
        _require(
            min(self.vocab_size, self.embed_dim, self.depth, self.num_heads, self.mlp_dim, self.max_positions) > 0,
            "text sizes must be positive",
        )
        _require(
            self.embed_dim % self.num_heads == 0,
            f"text embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}",
        )
        for name in ("dropout", "attn_dropout"):
            _require(0 <= getattr(self, name) < 1, f"{name} {getattr(self, name)} is not in [0, 1)")


@dataclass(frozen=True)
class ImageConfig:
    """How pixels become numbers: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """mean of red, green, blue"""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """standard deviation of red, green, blue"""

    def __post_init__(self) -> None:
        _require(all(s > 0 for s in self.std), "image std must be positive")


@dataclass(frozen=True)
class CaptionConfig:
    """Everything that defines a captioner besides its weights and its vocabulary."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    prompt: str = "a picture of "
    """what every caption begins with, unless the caller says otherwise"""
    label_smoothing: float = 0.1
    """label smoothing of the LM loss"""

    def __post_init__(self) -> None:
        _require(0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} is not in [0, 1)")

    @classmethod
    def preset(cls, name: str) -> "CaptionConfig":
        """The published sizes `base` and `large`, or `tiny`, the demonstration's. Raises ConfigError for another name."""
        if name not in PRESETS:
            raise ConfigError(f"no preset is called {name!r}; there are {', '.join(PRESETS)}")
        return PRESETS[name]


PRESETS = {
    "tiny": CaptionConfig(
        vision=VisionConfig(image_size=64, patch_size=16, embed_dim=128, depth=4, num_heads=4),
        text=TextConfig(vocab_size=256, embed_dim=128, depth=3, num_heads=4, mlp_dim=512, max_positions=64),
    ),
    "base": CaptionConfig(),
    "large": CaptionConfig(vision=VisionConfig(embed_dim=1024, depth=24, num_heads=16, drop_path=0.1)),
}


# --------------------------------------------------------------------------------------------- writing a caption


@dataclass(frozen=True)
class GenerationConfig:
    """How captions are searched for. Lengths are in tokens and include the start token and the prompt."""

    num_beams: int = 3
    """beams; 1 is greedy search"""
    max_length: int = 20
    """longest caption"""
    min_length: int = 5
    """the end token is forbidden below this length"""
    repetition_penalty: float = 1.0
    """above 1, tokens already present become less likely"""
    length_penalty: float = 1.0
    """score = sum of log-probabilities / length ** length_penalty"""
    no_repeat_ngram_size: int = 0
    """no run of this many tokens occurs twice (0: off)"""
    num_captions: int = 1
    """captions per picture, best first"""
    beam_scoring: BeamScoring = "blip"
    """what length counts: prompt without end token (blip), or new tokens with it (huggingface)"""
    sample: bool = False
    """draw tokens at random instead of searching"""
    temperature: float = 1.0
    """sampling: below 1 is safer, above 1 is wilder"""
    top_k: int = 50
    """sampling: keep only this many of the likeliest tokens (0: all)"""
    top_p: float = 0.9
    """sampling: keep the likeliest tokens that together reach this probability (1: all)"""
    seed: int = 0
    """sampling: the same seed gives the same caption of a picture, whatever its neighbours"""

    def __post_init__(self) -> None:
        _require_choices(self)
        _require(self.num_beams >= 1, f"num_beams {self.num_beams} is below 1")
        _require(self.num_captions >= 1, f"num_captions {self.num_captions} is below 1")
        _require(self.max_length >= 1, f"max_length {self.max_length} is below 1")
        _require(self.min_length >= 0, f"min_length {self.min_length} is negative")
        _require(
            self.min_length <= self.max_length,
            f"min_length {self.min_length} is above max_length {self.max_length}",
        )
        _require(self.repetition_penalty > 0, f"repetition_penalty {self.repetition_penalty} is not positive")
        _require(self.temperature > 0, f"temperature {self.temperature} is not positive")
        _require(0 < self.top_p <= 1, f"top_p {self.top_p} is not in (0, 1]")
        _require(self.top_k >= 0, f"top_k {self.top_k} is negative")
        _require(self.no_repeat_ngram_size >= 0, f"no_repeat_ngram_size {self.no_repeat_ngram_size} is negative")
        _require(
            self.sample or self.num_captions <= self.num_beams,
            f"{self.num_captions} captions need at least as many beams, not {self.num_beams}; or sample=True",
        )


class GenerationSettings(TypedDict, total=False):
    """The fields of `GenerationConfig`, as keyword arguments."""

    num_beams: int
    max_length: int
    min_length: int
    repetition_penalty: float
    length_penalty: float
    no_repeat_ngram_size: int
    num_captions: int
    beam_scoring: BeamScoring
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int


# --------------------------------------------------------------------------------------------------------- recipes


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
        _require_choices(self)
        _require(0 <= self.val_share < 1, f"val_share {self.val_share} is not in [0, 1)")
        _require(self.max_words >= 1, f"max_words {self.max_words} is below 1")
        _require(self.max_tokens >= 3, f"max_tokens {self.max_tokens} is below 3")
        _require(self.captions_per_image >= 0, f"captions_per_image {self.captions_per_image} is negative")
        low, high = self.crop_scale
        _require(0 < low <= high <= 1, f"crop_scale {low}, {high} is not within (0, 1]")
        _require(self.num_workers >= 0, f"num_workers {self.num_workers} is negative")


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
        _require_choices(self)
        for name in ("batch_size", "grad_accum_steps", "epochs"):
            _require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is below 1")
        for name in ("max_steps", "warmup_steps", "weight_decay", "clip_norm", "min_lr", "vit_ckpt_layer"):
            _require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")
        _require(self.lr > 0, f"lr {self.lr} is not positive")
        _require(0 <= self.ema_decay < 1, f"ema_decay {self.ema_decay} is not in [0, 1)")
        _require(
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
        _require_choices(self)
        for name in ("every", "batch_size"):
            _require(getattr(self, name) >= 1, f"{name} {getattr(self, name)} is below 1")
        for name in ("first", "max_pictures"):
            _require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} is negative")


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
        _require_choices(self)
        _require(self.log_every >= 1, f"log_every {self.log_every} is below 1")
        _require(
            not self.start.captioner or self.model == CaptionConfig(),
            "`model` and `start.captioner` are both given: a captioner to fine-tune brings its own sizes",
        )
        _require(
            not (self.start.captioner and (self.start.vision or self.start.text)),
            "`start.captioner` already brings vision and text weights: drop `start.vision` and `start.text`",
        )
        for name in ("config", "image_size"):
            _require(
                bool(self.start.captioner) or not getattr(self.start, name),
                f"`start.{name}` only makes sense with `start.captioner`",
            )


# -------------------------------------------------------------------------------------------- reading and writing


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """Build the dataclass `kind` from plain `values`, strictly. Raises ConfigError naming the wrong key or value."""
    import msgspec

    _reject_unknown(kind, values, "", where)
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, ConfigError) as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def _reject_unknown(kind: type, values: Any, path: str, where: str) -> None:
    """msgspec lets unknown keys of dataclasses pass; a misspelt setting must not."""
    if not dataclasses.is_dataclass(kind) or not isinstance(values, dict):
        return
    hints = get_type_hints(kind)
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"; did you mean `{path}{near[0]}`?" if near else f"; there are {', '.join(hints)}"
            raise ConfigError(f"{where + ': ' if where else ''}unknown setting `{path}{key}`{hint}")
        _reject_unknown(hints[key], value, f"{path}{key}.", where)


def to_dict(config: Any) -> dict[str, Any]:
    """The plain values of a settings dataclass, ready for JSON or YAML."""
    return json.loads(json.dumps(dataclasses.asdict(config)))  # type: ignore[no-any-return]  # tuples become lists


def _recipe_loader() -> type:
    """YAML in which 1e-5 is a number, as YAML 1.2 has it; PyYAML's 1.1 reads it as a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
    return Loader


def read_recipe(path: str | Path) -> Recipe:
    """Read a YAML recipe. Raises ConfigError naming the file and the wrong key."""
    import yaml

    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _recipe_loader())
    except OSError as error:
        raise ConfigError(f"{path}: the recipe cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a YAML mapping such as `data: {{train: photos.jsonl}}`")
    return from_dict(Recipe, values, str(path))
