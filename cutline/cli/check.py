"""`cutline check`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cutline.cli.console import print_message, print_result
from cutline.cli.flags import (
    ColumnFlags,
    Data,
    DataFlags,
    DataPathFlag,
    Flags,
    Output,
    ReportFlags,
    ReportOutput,
    check_outputs,
)
from cutline.config import (
    CaptionConfig,
    CaptionText,
    Columns,
    DataSource,
    InitConfig,
    Recipe,
    read_recipe,
)
from cutline.errors import CheckpointError, ConfigError, blame_setting
from cutline.progress import progress_bar

if TYPE_CHECKING:
    from cutline.check import CheckResult
    from cutline.check.run import Split
    from cutline.data import Sample
    from cutline.report import About
    from cutline.tokenizer import Tokenizer


@dataclass(frozen=True)
class CheckOutputs(ReportFlags):
    """Outputs: files to write besides the summary on stdout."""

    output: Output = ""
    """findings, one per line: .jsonl"""
    report: ReportOutput = ""
    """HTML report: findings with what to do, caption lengths, image sizes, and images"""

    def check(self, inputs: Sequence[str]) -> None:
        """Raise CutlineError for a file that cannot be written, or is one of `inputs`."""
        if self.output and not self.output.lower().endswith(".jsonl"):
            raise ConfigError(f"{self.output}: check writes its findings to a .jsonl file")
        check_outputs(self.output, self.report, inputs=inputs)

    def write(self, result: "CheckResult", about: "About") -> None:
        """Write the requested files; `about` says what was checked."""
        from cutline.check import write_check_report
        from cutline.data import write_captions

        if self.output:
            rows = [
                {"kind": finding.kind, "image": finding.image, "detail": finding.detail}
                for finding in result.findings
            ]
            write_captions(self.output, rows)
        if self.report:
            write_check_report(self.report, result, about, self.report_images, progress_bar)


@dataclass(frozen=True)
class AgainstFlags:
    """Other data: images that must not also be in DATA."""

    against: DataPathFlag = ""
    """dataset that must not share images with DATA, such as the validation data; it is only
    compared with DATA (default: what the recipe holds out, if there is one)"""
    against_split: str = ""
    """split of that dataset"""

    def source(self, flags: DataFlags) -> DataSource | None:
        """Return the other dataset, with the image settings of `flags`."""
        if self.against_split and not self.against:
            raise ConfigError("--against-split needs --against DATA")
        columns = Columns(flags.columns.image_column, flags.columns.caption_column)
        data = DataSource(self.against, flags.image_root, self.against_split, columns)
        return data if self.against else None


@dataclass(frozen=True)
class VocabularyFlags:
    """Model: its vocabulary, prompt and maximum length. Weights are not read."""

    model: Annotated[str, arg(aliases=["-m"], metavar="MODEL")] = ""
    """captioner (default: the recipe's init.captioner; without a vocabulary, tokens are not
    checked)"""
    tokenizer: str = ""
    """another vocabulary: vocab.txt, tokenizer.json or a folder (default: the recipe's
    init.tokenizer)"""
    prompt: str | None = None
    """prompt of images that have none of their own; its tokens count (default: that of the recipe,
    else of the captioner, else "a picture of ")"""


def make_check_command(argv: Sequence[str]) -> Callable[..., int]:
    """Return the `check` command; its flags default to the settings of the recipe in `argv`."""
    path = find_recipe(argv)
    settings = read_recipe(path) if path else Recipe()
    data_settings = settings.data
    caption_text = CaptionText(
        data_settings.clean, data_settings.max_words, data_settings.max_tokens
    )
    data_flags = DataFlags(
        data_settings.image_root, columns=ColumnFlags(**vars(data_settings.columns))
    )

    def check_command(
        data: Data,
        outputs: Annotated[CheckOutputs, Flags] = CheckOutputs(),
        *,
        recipe: Annotated[str, arg(metavar="RECIPE.yaml")] = "",
        num_workers: int = 0,
        source: Annotated[DataFlags, Flags] = data_flags,
        other: Annotated[AgainstFlags, Flags] = AgainstFlags(),
        text: Annotated[CaptionText, Flags] = caption_text,
        model: Annotated[VocabularyFlags, Flags] = VocabularyFlags(),
    ) -> int:
        """Check a dataset before training: images, captions, duplicates and leaks.

        Exit code 3: images are missing, unreadable, without a usable caption, or also in the
        dataset --against; or no image of that dataset can be read.

        Examples:
            cutline check photos --report check.html

            cutline check train.jsonl --against val.jsonl --recipe recipes/own-photos.yaml

        Args:
            recipe: Recipe of the training run, whose columns, image_root, caption cleaning,
                limits, prompt and vocabulary are the defaults of the flags below. Without
                --against, the images that it holds out for validation are compared with the others.
            num_workers: Processes that open images (0: threads of this process).
        """
        from cutline.check import check_data, summarize
        from cutline.report import flatten_settings

        outputs.check([data, other.against])
        against = other.source(source)
        config, tokenizer = load_model_text(model, settings)
        text = replace(text, max_tokens=min(text.max_tokens, config.text.max_positions))
        prompt = config.prompt if model.prompt is None else model.prompt
        result = check_data(
            source.source(data),
            against=against,
            split=make_split(data, settings) if recipe else None,
            text=text,
            prompt=prompt,
            tokenizer=tokenizer,
            num_workers=num_workers,
            progress=progress_bar,
        )
        inputs = {"Compared with": against.path if against else "", "Recipe": recipe}
        about = describe_check(data, inputs, model, settings.init)
        used = {**flatten_settings(text), "prompt": prompt, "num_workers": num_workers}
        outputs.write(result, replace(about, settings=used))
        print_result(summarize(result))
        return 3 if result.has_errors else 0

    return check_command


def describe_check(
    data: str, inputs: dict[str, str], flags: VocabularyFlags, init: InitConfig
) -> "About":
    """Return what a report says of a check, apart from its settings.

    Args:
        data: Path of the dataset.
        inputs: Other files that are read, by name.
        flags: Model of the command line.
        init: Model of the recipe.
    """
    from cutline.report import About

    model = flags.model or init.model
    vocabulary = flags.tokenizer or ("" if flags.model else init.tokenizer)
    return About(data, model, {**inputs, "Vocabulary": vocabulary})


def make_split(path: str, recipe: Recipe) -> "Split | None":
    """Return how training with `recipe` divides the dataset at `path`; None if it does not."""
    from cutline.data import split_samples

    data = recipe.data
    if data.val or data.val_split or data.stream or not data.val_fraction:
        return None

    def split(samples: "Sequence[Sample]") -> "tuple[list[Sample], list[Sample]]":
        with blame_setting("", recipe.setting_names):
            return split_samples(samples, replace(data, train=path), recipe.seed)

    return split


def find_recipe(argv: Sequence[str]) -> str:
    """Return the value of --recipe in `argv`, or ""."""
    for word, following in pairwise([*argv, ""]):
        flag, equals, value = word.partition("=")
        if flag == "--recipe":
            return value if equals else following
    return ""


def load_model_text(
    flags: VocabularyFlags, recipe: Recipe
) -> "tuple[CaptionConfig, Tokenizer | None]":
    """Return the settings and the vocabulary of the model that captions are checked for.

    The model of a recipe may not be downloaded yet: then a message says so, and the settings of the
    recipe alone are used.

    Raises:
        CheckpointError: The model or the vocabulary in the flags cannot be read.
    """
    from cutline.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(flags.tokenizer) if flags.tokenizer else None
    if flags.model:
        return read_settings(flags.model, recipe), tokenizer or read_vocabulary("", flags.model)
    init = recipe.init
    try:
        config = read_settings(init.captioner, recipe)
        return config, tokenizer or read_vocabulary(init.tokenizer, init.captioner)
    except CheckpointError as error:
        effect = "" if tokenizer else ", so tokens are not checked"
        print_message(f"the model of the recipe cannot be read{effect}: {error}")
        return recipe.model.to_config(), tokenizer


def read_settings(captioner: str, recipe: Recipe) -> CaptionConfig:
    """Return the settings of the model that is trained from `captioner`, or from scratch if ""."""
    if not captioner:
        return recipe.model.to_config()
    from cutline.checkpoint import load_config

    config = load_config(captioner, recipe.init.config or None)
    return recipe.model.override(config or CaptionConfig())  # a .pth has the default settings


def read_vocabulary(tokenizer: str, captioner: str) -> "Tokenizer | None":
    """Return the vocabulary `tokenizer`, else that of `captioner`, or None if both are ""."""
    from cutline.checkpoint import load_tokenizer
    from cutline.tokenizer import Tokenizer

    if tokenizer:
        return Tokenizer.load(tokenizer)
    return load_tokenizer(captioner) if captioner else None
