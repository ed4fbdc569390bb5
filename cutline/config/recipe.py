"""A recipe: every setting of one training run."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from cutline.config.data import DataConfig
from cutline.config.generation import GenerationConfig
from cutline.config.inference import CheckpointOptions, require_device
from cutline.config.limits import MAX_BATCH_SIZE, MAX_VOCAB_SIZE
from cutline.config.metrics import MetricTokenizer
from cutline.config.model import ModelSettings
from cutline.config.optim import DistributedConfig, LoraConfig, MemoryConfig, OptimConfig
from cutline.config.scst import ScstConfig, check_scst
from cutline.config.task import (
    MAX_PRETRAIN_TOKENS,
    MAX_TEXT_TOKENS,
    CaptionTaskConfig,
    MatchTaskConfig,
    TaskName,
)
from cutline.config.validation import (
    Settings,
    reject,
    require,
    require_at_least,
)

TrainingPrecision = Literal["auto", "fp32", "bf16"]

MAX_SEED = 2**32 - 1
"""seed of a run, from which the 64-bit seed of each step is computed"""


@dataclass(frozen=True)
class InitConfig(CheckpointOptions):
    """Initial weights and vocabulary (default: random weights of the sizes in `model`)."""

    captioner: str = ""
    """captioner to fine-tune: hub id, .pth, Hugging Face folder, cutline folder or training run; it
    brings its own sizes and vocabulary. With `task: match` or `pretrain`, training starts from its
    weights"""
    matcher: str = ""
    """with `task: match` or `pretrain`: matcher to fine-tune, in place of `captioner`. Pre-training
    starts from captioner and matcher if either path has both, as BLIP's pretrained models do"""
    tokenizer: str = ""
    """vocabulary: vocab.txt, tokenizer.json or a folder with one of them (default: that of
    `captioner` or `matcher`, else one trained on the training captions)"""
    vision: str = ""
    """pretrained vision encoder (timm or DeiT names): .safetensors or .pth"""
    text: str = ""
    """pretrained BERT: .safetensors or .bin"""
    vocab_size: int = 8000
    """maximum size of a vocabulary that is trained on the training captions"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "vocab_size", maximum=MAX_VOCAB_SIZE)
        require(
            not (self.captioner and self.matcher),
            "`init.captioner` and `init.matcher` are both given: remove one of them",
        )
        for name in ("captioner", "matcher"):
            require(
                not (getattr(self, name) and (self.vision or self.text)),
                f"`init.{name}` already brings vision and text weights: "
                "remove `init.vision` and `init.text`",
            )
        for name in ("config", "image_size"):
            require(
                bool(self.model) or not getattr(self, name),
                f"`init.{name}` needs `init.captioner` or `init.matcher`: without these, set sizes "
                "in `model`",
            )

    @property
    def model(self) -> str:
        """Return the captioner or matcher to start from; empty if there is none."""
        return self.captioner or self.matcher


@dataclass(frozen=True)
class EvalConfig(Settings):
    """Evaluation on the validation images during training."""

    every_epochs: int = 1
    """epochs between two evaluations"""
    start_epoch: int = 0
    """first epoch to evaluate (0: epoch `every_epochs`)"""
    before_training: bool = True
    """evaluate the initial weights, too, before the first step: the log and the report then show
    where training started. They are never the best checkpoint"""
    batch_size: int = 32
    """images per batch"""
    max_images: int = 0
    """use only the first validation images, up to this number (0: all)"""
    metric_tokenizer: MetricTokenizer = "auto"
    """what counts as a word: ptb (English), words, characters (Chinese, Japanese, Thai …), or auto,
    which depends on the script of the reference captions"""
    select_by: Literal["captions", "loss"] = "captions"
    """choose the best checkpoint by CIDEr + BLEU-4 of its captions (a matcher: by mean recall;
    pre-training: by the product of both), or by the loss on the reference captions"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "every_epochs")
        require_at_least(self, 1, "batch_size", maximum=MAX_BATCH_SIZE)
        require_at_least(self, 0, "start_epoch", "max_images")


@dataclass(frozen=True)
class Recipe(Settings):
    """Run settings: everything that defines a training run."""

    task: TaskName = "caption"
    """what to train: a captioner by cross-entropy (caption), or by the CIDEr of what it samples
    (scst); a matcher of images and texts (match), or both at once, with shared weights
    (pretrain)"""
    output: str = "runs/captioner"
    """run directory: best/, last/, state.safetensors, log.jsonl, report.html, recipe.yaml,
    run.json, tensorboard/"""
    seed: int = 0
    """seed of initial weights, data order, augmentation and dropout"""
    precision: TrainingPrecision = "auto"
    """fp32 or bf16 autocast (auto: bf16 where the hardware has native bf16)"""
    device: str = "auto"
    """cpu, cuda, cuda:N or mps (auto: cuda if available, else cpu)"""
    compile: bool = False
    """compile the layers with torch.compile: takes minutes at the start; no gain where a CPU
    already runs matrix products near its peak"""
    log_every: int = 20
    """steps between two lines of the log"""
    save_minutes: float = 5.0
    """minutes between two saves of the state that a killed run resumes from (0: save it after every
    step)"""
    tensorboard: Literal["auto", "on", "off"] = "auto"
    """write TensorBoard event files (auto: if TensorBoard is installed)"""
    model: ModelSettings = field(default_factory=ModelSettings)
    init: InitConfig = field(default_factory=InitConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    caption: CaptionTaskConfig = field(default_factory=CaptionTaskConfig)
    match: MatchTaskConfig = field(default_factory=MatchTaskConfig)
    scst: ScstConfig = field(default_factory=ScstConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.output:
            reject(self, "output", "is empty: name the run directory")
        require_device(self.device, type(self))
        require_at_least(self, 0, "seed", maximum=MAX_SEED)
        require_at_least(self, 1, "log_every")
        require_at_least(self, 0, "save_minutes")
        if self.task in ("caption", "scst"):
            self._check_caption()
        else:
            self._check_match()
        require(
            self.task == "caption" or self.caption == CaptionTaskConfig(),
            "the settings of `caption` need `task: caption`: set it, or remove them",
        )
        require(
            self.task == "scst" or self.scst == ScstConfig(),
            "the settings of `scst` need `task: scst`: set it, or remove them",
        )
        require(
            not (self.caption.bag_of_words_weight and self._freezes_vision()),
            "`caption.bag_of_words_weight` trains the vision encoder only, which is frozen: remove "
            "it, or train the encoder",
        )
        kind = "matcher" if self.init.matcher else "captioner"
        require(
            not (self.init.model and self.model.sets_sizes),
            f"`model` and `init.{kind}` both set sizes: with a {kind} to fine-tune, `model` "
            "may set only prompt, label_smoothing, merge_tokens, text.dropout, text.attn_dropout, "
            "vision.drop_path",
        )
        data = self.data
        require(
            not data.stream or bool(self.init.model or self.init.tokenizer),
            "`data.stream` does not read the captions beforehand: "
            "set `init.tokenizer`, `init.captioner` or `init.matcher` for the vocabulary",
        )
        require(
            not data.stream or bool(data.val) or data.val_fraction == 0,
            "`data.stream` cannot hold out images: set `data.val`, or set `data.val_fraction` to 0",
        )
        require(
            self.optim.optimizer == "adamw" or not (self.lora.rank or self.distributed.fsdp),
            "`optim.optimizer: muon` needs whole matrices: remove `lora` and `distributed.fsdp`",
        )
        require(
            not data.cache_embeddings or self._freezes_vision(),
            "`data.cache_embeddings` needs a frozen vision encoder: set `optim.freeze` to "
            "'vision.*', or start every one of `lora.targets` with 'text.'",
        )

    @property
    def setting_names(self) -> dict[str, str]:
        """Return the full names of the settings in which other commands have flags of their own.

        They are for `blame_setting`, by the keys in errors: the names of the fields, and "model".
        """
        model = "init.matcher" if self.init.matcher else "init.captioner"
        names = {setting.name: f"data.{setting.name}" for setting in fields(self.data)}
        names |= {setting.name: f"init.{setting.name}" for setting in fields(self.init)}
        return names | {"model": model}

    def _check_caption(self) -> None:
        require(
            not self.init.matcher,
            "`init.matcher` needs `task: match` or `task: pretrain`: set one, or give a captioner "
            "in `init.captioner`",
        )
        require(
            self.match == MatchTaskConfig(),
            "the settings of `match` need `task: match` or `task: pretrain`: set one, or remove "
            "them",
        )
        if self.task == "scst":
            check_scst(self)

    def _check_match(self) -> None:
        """Reject the settings that only a captioner has, and limit the length of texts."""
        require(
            not self.model.merge_tokens,
            f"`model.merge_tokens` is for captioners, which `task: {self.task}` does not train "
            "alone: remove it",
        )
        for name, is_set in self._list_caption_settings():
            text = "is for captioners only: remove it, or `task: match`"
            if self.task == "pretrain":
                text = "has no effect with `task: pretrain`, whose texts have no prompt: remove it"
            require(not is_set, f"`{name}` {text}")
        require(
            self.data.captions_per_image <= 1,
            "a matcher has one caption per example: set `data.captions_per_image` to 0 for an "
            "example of each caption, or to 1 for one of each image",
        )
        require(
            self.optim.batch_size > 1
            or self.match.negative_all_rank
            or bool(self.match.queue_size),
            "`optim.batch_size` 1 leaves no other text or image to compare with: raise it",
        )
        require(
            not (self.match.momentum and self.lora.rank),
            "`match.momentum` follows all weights, and `lora` trains few: remove one of them",
        )
        limit = MAX_PRETRAIN_TOKENS if self.task == "pretrain" else MAX_TEXT_TOKENS
        limited = replace(self.data, max_tokens=min(self.data.max_tokens, limit))
        object.__setattr__(self, "data", limited)

    def _list_caption_settings(self) -> Iterator[tuple[str, bool]]:
        """Yield the settings that have no effect on this task, and whether they are set."""
        data, model = self.data, self.model
        yield "model.prompt", model.prompt is not None
        if self.task == "match":
            yield "model.label_smoothing", model.label_smoothing is not None
            yield "generation", self.generation != GenerationConfig()
            yield "eval.metric_tokenizer", self.eval.metric_tokenizer != "auto"
        yield "data.prompt_column", bool(data.prompt_column)
        yield "data.prompt_template", bool(data.prompt_template)

    def _freezes_vision(self) -> bool:
        text_lora = all(target.startswith("text.") for target in self.lora.targets)
        return "vision.*" in self.optim.freeze or (self.lora.rank > 0 and text_lora)
