"""Settings of self-critical sequence training (SCST)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cutline.config.validation import Settings, require, require_at_least

if TYPE_CHECKING:
    from cutline.config.recipe import Recipe

MAX_SAMPLES = 1000
"""captions that are sampled of each image"""


@dataclass(frozen=True)
class ScstConfig(Settings):
    """Self-critical sequence training: sampled captions, their reward, and regularization.

    Samples are at most `generation.max_length` tokens long, and words are those of
    `eval.metric_tokenizer`.
    """

    num_samples: int = 5
    """captions sampled of each image"""
    baseline: Literal["leave_one_out", "greedy"] = "leave_one_out"
    """what the reward of a sample is compared with: the mean reward of the image's other samples,
    or the reward of its caption by greedy search"""
    cider_weight: float = 1.0
    """weight of CIDEr-D (0 to 10) in the reward; document frequencies are those of the training
    captions"""
    bleu4_weight: float = 0.0
    """weight of BLEU-4 (0 to 1) in the reward"""
    matcher_weight: float = 0.0
    """weight of the match probability of image and sample in the reward"""
    matcher: str = ""
    """with `matcher_weight`: the matcher, a path as of `init.matcher`"""
    lm_weight: float = 0.0
    """weight of the LM loss (cross-entropy) of the image's own captions, per token"""
    kl_weight: float = 0.0
    """weight of the KL divergence from the initial model, which is subtracted from the reward (0:
    none; otherwise a copy of the initial model takes memory)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "num_samples", maximum=MAX_SAMPLES)
        weights = ("cider_weight", "bleu4_weight", "matcher_weight")
        require_at_least(self, 0, *weights, "lm_weight", "kl_weight")
        require(
            any(getattr(self, name) for name in weights),
            "the reward is always 0: set `scst.cider_weight`, `scst.bleu4_weight` or "
            "`scst.matcher_weight` above 0",
        )
        require(
            self.num_samples > 1 or self.baseline == "greedy",
            "`scst.num_samples` 1 leaves no other sample to compare with: raise it, or set "
            "`scst.baseline` to greedy",
        )
        require(
            bool(self.matcher_weight) == bool(self.matcher),
            "`scst.matcher_weight` and `scst.matcher` go together: set both or neither",
        )


def check_scst(recipe: "Recipe") -> None:
    """Raise ConfigError if a recipe with `task: scst` has settings that exclude it."""
    require(
        bool(recipe.init.captioner),
        "`task: scst` improves a trained captioner: set `init.captioner`",
    )
    for name, is_set, reason in _list_conflicts(recipe):
        require(not is_set, f"`{name}` and `task: scst` exclude each other: {reason}")


def _list_conflicts(recipe: "Recipe") -> Iterator[tuple[str, bool, str]]:
    """Yield settings, whether they are set, and why they cannot be."""
    model, data = recipe.model, recipe.data
    one_distribution = (
        "samples and gradients must be of one distribution, so that there is no dropout; remove it"
    )
    yield "model.text.dropout", bool(model.text.dropout), one_distribution
    yield "model.text.attn_dropout", bool(model.text.attn_dropout), one_distribution
    yield "model.vision.drop_path", bool(model.vision.drop_path), one_distribution
    yield "lora.dropout", bool(recipe.lora.dropout), one_distribution
    yield "data.stream", data.stream, "the reward needs the captions beforehand; turn it off"
    yield (
        "distributed.fsdp",
        recipe.distributed.fsdp,
        "processes that share weights must take equally many steps, and captions differ in length; "
        "turn it off",
    )
    yield (
        "data.cache_embeddings",
        bool(data.cache_embeddings and recipe.scst.matcher),
        "the matcher of the reward needs the images; remove it or `scst.matcher`",
    )
