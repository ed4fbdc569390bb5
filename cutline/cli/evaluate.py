"""`cutline evaluate`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated

from tyro.conf import arg

from cutline.cli.console import print_message, print_result
from cutline.cli.evaluation_outputs import EvaluationOutputs, print_list, write_json_output
from cutline.cli.flags import (
    Data,
    DataPathFlag,
    Flags,
    GroupedDataFlags,
    MatcherFlags,
    ModelFlags,
    list_changed,
)
from cutline.cli.score_table import format_evaluation
from cutline.config import Columns, DataSource, GenerationConfig, InferenceConfig, MetricConfig
from cutline.errors import ConfigError
from cutline.progress import is_rank_zero, progress_bar
from cutline.web import hide_credentials

DEFAULT_K_TEST = 256


def evaluate_command(
    data: Data,
    outputs: Annotated[EvaluationOutputs, Flags] = EvaluationOutputs(),
    *,
    captions: Annotated[str, arg(metavar="FILE")] = "",
    prompt: str | None = None,
    train_captions: DataPathFlag = "",
    k_test: int = DEFAULT_K_TEST,
    source: Annotated[GroupedDataFlags, Flags] = GroupedDataFlags(),
    model: Annotated[ModelFlags, Flags] = ModelFlags(),
    matcher: Annotated[MatcherFlags, Flags] = MatcherFlags(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
    metrics: Annotated[MetricConfig, Flags] = MetricConfig(),
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),
) -> int:
    """Caption a dataset and measure the captions: BLEU-1..4, ROUGE-L, CIDEr and diversity.

    If images have a domain, as those of NoCaps, every score is shown by domain too. With
    --group-column, every score by group, such as a scene, is in --json and --report. With
    --captions, measure the captions of a file instead, of any captioner; images need not exist.
    With --matcher, measure a matcher: recall of texts and images, before and after re-ranking by
    ITM.

    Examples:
        cutline evaluate photos --model runs/my-run --report evaluation.html

        cutline evaluate dataset_coco.json --split test --image-root coco --json scores.json

        cutline evaluate coco_karpathy_test_gt.json --captions results.json

        cutline evaluate dataset_flickr30k.json --split test --matcher runs/matcher

    Args:
        captions: Captions to measure, one for each image of DATA, matched by path, file name or id:
            what `cutline caption -o` wrote (.jsonl, .csv, .parquet), or COCO results (.json).
        prompt: Prompt of every caption (default: that of each image, else the model's own).
        train_captions: The training data of the model, to measure how many captions are novel.
        k_test: Candidates that a matcher re-ranks by ITM.
    """
    generating = {
        **{f"--{name.replace('_', '-')}": True for name in list_changed(model)},
        "--prompt": prompt is not None,
        "the settings of generation": generation != GenerationConfig(),
    }
    if source.columns.group_column and not matcher.matcher:
        outputs.check_groups()
    if captions:
        others = {
            "--matcher": matcher != MatcherFlags(),
            "--k-test": k_test != DEFAULT_K_TEST,
            "the settings of inference": inference != InferenceConfig(),
        }
        reject_flags(generating | others, "--captions, which measures captions that exist")
        return evaluate_file(captions, source.source(data), outputs, metrics, train_captions)
    if matcher.matcher:
        others = {
            "--output": bool(outputs.output),
            "--report": bool(outputs.report),
            "--json-format": outputs.json_format != "cutline",
            "--group-column": bool(source.columns.group_column),
            "--train-captions": bool(train_captions),
            "the settings of metrics": metrics != MetricConfig(),
        }
        reject_flags(generating | others, "--matcher, which measures a matcher")
        return evaluate_with_matcher(source.source(data), outputs, matcher, inference, k_test)
    if k_test != DEFAULT_K_TEST:
        raise ConfigError("k_test is for matchers: name one with --matcher, or remove --k-test")
    return evaluate_captioner(
        source.source(data), outputs, model, inference, metrics, generation, prompt, train_captions
    )


def evaluate_captioner(
    data: DataSource,
    outputs: EvaluationOutputs,
    model: ModelFlags,
    inference: InferenceConfig,
    metrics: MetricConfig,
    generation: GenerationConfig,
    prompt: str | None,
    train_captions: str,
) -> int:
    """Caption a dataset, measure the captions, write the results, and return the exit code."""
    from cutline.distributed import process_group
    from cutline.evaluation import evaluate, select_samples
    from cutline.report import About, flatten_settings

    outputs.check([data.path, train_captions])
    train_texts = read_train_captions(train_captions, data.columns)
    samples = select_samples(data)
    outputs.check_samples(samples)
    with process_group():
        captioner = model.load(inference)
        evaluation = evaluate(
            captioner,
            samples,
            prompt,
            batch_size=inference.batch_size,
            num_workers=inference.num_workers,
            **dataclasses.asdict(metrics),
            train_captions=train_texts,
            progress=progress_bar,
            **dataclasses.asdict(generation),
        )
    if not is_rank_zero():
        return 0
    for message in evaluation.skipped:
        print_message(f"skipped: {message}")
    settings = {
        "prompt": captioner.config.prompt if prompt is None else prompt,
        **flatten_settings(generation),
        **flatten_settings(metrics),
        **flatten_settings(inference),
        "split": data.split,
        "train_captions": train_captions,
    }
    outputs.write(evaluation, About(data.path, model.name, settings=settings))
    return print_scores(format_evaluation(evaluation), evaluation.skipped)


def evaluate_file(
    captions: str,
    data: DataSource,
    outputs: EvaluationOutputs,
    metrics: MetricConfig,
    train_captions: str,
) -> int:
    """Measure the captions of a file, write the results, and return the exit code."""
    from cutline.data import open_references
    from cutline.evaluation import evaluate_captions, select_samples
    from cutline.evaluation.matching import merge_references
    from cutline.report import About, flatten_settings

    if not is_rank_zero():
        return 0
    outputs.check([captions, data.path, train_captions])
    train_texts = read_train_captions(train_captions, data.columns)
    values = dataclasses.asdict(metrics)
    samples = merge_references(select_samples(data, open_references))
    outputs.check_samples(samples)
    evaluation = evaluate_captions(captions, samples, **values, train_captions=train_texts)
    print_list("left out", evaluation.left_out)
    print_list("skipped", evaluation.skipped)
    if num_empty := sum(not image.caption.text.strip() for image in evaluation.images):
        print_message(f"{captions}: empty captions, which are measured nevertheless: {num_empty:,}")
    settings = {
        **flatten_settings(metrics),
        "split": data.split,
        "train_captions": train_captions,
    }
    others = {"Captions": hide_credentials(captions)}
    outputs.write(evaluation, About(data.path, others=others, settings=settings))
    return print_scores(format_evaluation(evaluation), evaluation.left_out + evaluation.skipped)


def read_train_captions(path: str, columns: Columns) -> list[str] | None:
    """Return all captions of the training data, if that is named."""
    from cutline.data import open_related_data

    if not path:
        return None
    samples = open_related_data(DataSource(path, columns=columns))
    return [caption for sample in samples for caption in sample.captions]


def reject_flags(given: Mapping[str, bool], mode: str) -> None:
    """Raise ConfigError if flags are given that have no effect in a mode, described by its flag."""
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise ConfigError(
            f"{' and '.join(names)} cannot be combined with {mode}: leave out one or the other"
        )


def evaluate_with_matcher(
    data: DataSource,
    outputs: EvaluationOutputs,
    matcher: MatcherFlags,
    inference: InferenceConfig,
    k_test: int,
) -> int:
    """Evaluate a matcher, write its scores, and return the exit code."""
    from cutline.cli.match_table import format_match_evaluation
    from cutline.data import open_data
    from cutline.distributed import process_group
    from cutline.evaluation import evaluate_matcher

    outputs.check([data.path])
    with process_group():
        evaluation = evaluate_matcher(
            matcher.load(inference),
            open_data(data),
            k_test=k_test,
            batch_size=inference.batch_size,
            num_workers=inference.num_workers,
            progress=progress_bar,
        )
    if not is_rank_zero():
        return 0
    for message in evaluation.skipped:
        print_message(f"skipped: {message}")
    if outputs.json_file:
        write_json_output(outputs.json_file, evaluation.to_dict())
    return print_scores(format_match_evaluation(evaluation), evaluation.skipped)


def print_scores(lines: Sequence[str], unmeasured: Sequence[str]) -> int:
    """Print the scores, and return the exit code.

    Args:
        lines: The scores.
        unmeasured: A message for each image or caption that was not measured.
    """
    print_result("".join(f"{line}\n" for line in lines))
    return 3 if unmeasured else 0
