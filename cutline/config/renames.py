"""Old spellings of settings: one table for recipe keys, flags and keyword arguments.

An old spelling is never accepted: it raises one error that names the new spelling.
"""

import difflib
from collections.abc import Iterable, Sequence
from itertools import pairwise

from cutline.errors import ConfigError

RENAMED = {
    # recipe keys, and the flags of `cutline train`; an entry holds for everything below it, too
    "start": "init",
    "data.prompt": "model.prompt",
    "data.val_share": "data.val_fraction",
    "data.epoch_rows": "data.samples_per_epoch",
    "data.shuffle_rows": "data.shuffle_buffer",
    "data.quarter_turns": "data.rot90",
    "optim.label_smoothing": "model.label_smoothing",
    "optim.dropout": "model.text.dropout` and `model.text.attn_dropout",
    "optim.drop_path": "model.vision.drop_path",
    "optim.lora": "lora",
    "optim.vit_grad_ckpt": "memory.vit_grad_ckpt",
    "optim.vit_ckpt_layer": "memory.vit_ckpt_layer",
    "optim.text_grad_ckpt": "memory.text_grad_ckpt",
    "optim.recompute_cheap": "memory.selective_checkpointing",
    "optim.shard": "distributed.fsdp",
    "optim.compile": "compile",
    "eval.every": "eval.every_epochs",
    "eval.first": "eval.start_epoch",
    "eval.max_pictures": "eval.max_images",
    "eval.tokens": "eval.metric_tokenizer",
    "eval.by": "eval.select_by",
    # flags of the other commands, and keyword arguments
    "workers": "num_workers",
    "out": "output",
    "tokens": "metric_tokenizer",
    "learned": "train_captions",
    "bootstrap": "resamples",
    "columns.image": "image_column",
    "columns.caption": "caption_column",
    "columns.prompt": "prompt_column",
    "columns.template": "prompt_template",
}
"""old name → new name"""

RENAMED_VALUES = {("engine", "plain"): "eager"}
"""(setting, old value) → new value"""


def find_new_name(name: str) -> str:
    """Return the new spelling of the setting `name`, or "" if it never had another one."""
    head, tail = name, ""
    while head:
        if head in RENAMED:
            return RENAMED[head] + tail
        head, _, last = head.rpartition(".")
        tail = f".{last}{tail}"
    return ""


def find_new_value(name: str, value: object) -> str:
    """Return the new spelling of `value` of the setting `name`, or "" if it has none."""
    return RENAMED_VALUES.get((name, str(value)), "")


def reject_renamed_keywords(names: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ConfigError for a keyword argument of `names` that is not `allowed`."""
    allowed = tuple(allowed)
    for name in names:
        if name not in allowed:
            if new := find_new_name(name):
                raise ConfigError(f"the argument `{name}` is now `{new}`")
            if similar := difflib.get_close_matches(name, allowed, n=1):
                raise ConfigError(f"unknown argument `{name}`: did you mean `{similar[0]}`?")
            raise ConfigError(f"unknown argument `{name}`; the arguments are {', '.join(allowed)}")


def reject_renamed_flags(argv: Sequence[str]) -> None:
    """Raise ConfigError for a flag, or the value of one, that has a new spelling."""
    for word, following in pairwise([*argv, ""]):
        if not word.startswith("--"):
            continue
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if new := find_new_name(name):
            raise ConfigError(f"{flag} is now {_as_flag(new)}")
        if new := find_new_value(name.rpartition(".")[2], value if equals else following):
            raise ConfigError(f"{flag} {value or following} is now {flag} {new}")


def _as_flag(name: str) -> str:
    return " and ".join("--" + part.replace("_", "-") for part in name.split("` and `"))
