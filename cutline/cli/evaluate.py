"""`cutline evaluate`."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cutline.cli.console import print_message, print_result
from cutline.cli.flags import (
    Data,
    DataFlags,
    DataPathFlag,
    Flags,
    JsonOutput,
    MatcherFlags,
    ModelFlags,
    Output,
    ReportOutput,
    check_outputs,
)
from cutline.config import Columns, DataSource, GenerationConfig, InferenceConfig, MetricConfig
from cutline.errors import ConfigError
from cutline.files import write_text
from cutline.progress import is_rank_zero, progress_bar

if TYPE_CHECKING:
    from cutline.evaluation import Evaluation, MatchEvaluation


DEFAULT_K_TEST = 256


@dataclasses.dataclass(frozen=True)
class EvaluationOutputs:
    """Output files; the scores go to stdout."""

    output: Output = ""
    """captions with their scores: .jsonl or .csv; `cutline compare` compares two such files"""
    report: ReportOutput = ""
    """HTML report with the best and the worst captions"""
    json_file: JsonOutput = ""
    """scores as JSON"""

    def check(self, inputs: Sequence[str]) -> None:
        """Raise CutlineError for a file that cannot be written, or is one of `inputs`."""
        if self.output and not self.output.lower().endswith((".jsonl", ".csv")):
            raise ConfigError(f"{self.output}: evaluate writes captions to a .jsonl or .csv file")
        check_outputs(self.output, self.report, self.json_file, inputs=inputs)


def evaluate_command(
    data: Data,
    outputs: Annotated[EvaluationOutputs, Flags] = EvaluationOutputs(),
    *,
    prompt: str | None = None,
    train_captions: DataPathFlag = "",
    k_test: int = DEFAULT_K_TEST,
    source: Annotated[DataFlags, Flags] = DataFlags(),
    model: Annotated[ModelFlags, Flags] = ModelFlags(),
    matcher: Annotated[MatcherFlags, Flags] = MatcherFlags(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
    metrics: Annotated[MetricConfig, Flags] = MetricConfig(),
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),
) -> int:
    """Caption a dataset and measure the captions: BLEU-1..4, ROUGE-L, CIDEr and diversity.

    If images have a domain, as those of NoCaps, every score is shown by domain too. With --matcher,
    measure a matcher instead: recall of texts and images, before and after re-ranking by ITM.

    Examples:
        cutline evaluate photos --model runs/my-run --report evaluation.html

        cutline evaluate dataset_coco.json --split test --image-root coco --json scores.json

        cutline evaluate dataset_flickr30k.json --split test --matcher runs/matcher

    Args:
        prompt: Prompt of every caption (default: that of each image, else the model's own).
        train_captions: The training data of the model, to measure how many captions are novel.
        k_test: Candidates that a matcher re-ranks by ITM.
    """
    if matcher.matcher:
        captioner_flags = {
            "--model": model != ModelFlags(),
            "--output": bool(outputs.output),
            "--report": bool(outputs.report),
            "--prompt": prompt is not None,
            "--train-captions": bool(train_captions),
            "the settings of metrics": metrics != MetricConfig(),
            "the settings of generation": generation != GenerationConfig(),
        }
        reject_captioner_flags(captioner_flags)
        return evaluate_with_matcher(source.source(data), outputs, matcher, inference, k_test)
    if k_test != DEFAULT_K_TEST:
        raise ConfigError("k_test is for matchers: name one with --matcher, or remove --k-test")
    from cutline.distributed import process_group
    from cutline.evaluation import evaluate

    outputs.check([data, train_captions])
    captions = read_train_captions(train_captions, source.columns) if train_captions else None
    with process_group():
        evaluation = evaluate(
            model.load(inference),
            source.source(data),
            prompt,
            batch_size=inference.batch_size,
            num_workers=inference.num_workers,
            metric_tokenizer=metrics.metric_tokenizer,
            metrics=metrics.metrics,
            resamples=metrics.resamples,
            train_captions=captions,
            progress=progress_bar,
            **dataclasses.asdict(generation),
        )
    if not is_rank_zero():
        return 0
    write_scores(evaluation, outputs.json_file)
    write_captions_and_report(evaluation, outputs)
    return print_scores(evaluation, format_evaluation(evaluation))


def read_train_captions(path: str, columns: Columns) -> list[str]:
    """Return all captions of the training data."""
    from cutline.data import open_related_data

    samples = open_related_data(DataSource(path, columns=columns))
    return [caption for sample in samples for caption in sample.captions]


def reject_captioner_flags(given: Mapping[str, bool]) -> None:
    """Raise ConfigError if flags are given that only a captioner needs."""
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise ConfigError(
            f"{' and '.join(names)} cannot be combined with --matcher, which measures a matcher: "
            "leave out one or the other"
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
    write_scores(evaluation, outputs.json_file)
    return print_scores(evaluation, format_match_evaluation(evaluation))


def write_captions_and_report(evaluation: "Evaluation", outputs: EvaluationOutputs) -> None:
    """Write the captions and the report, if they are requested."""
    from cutline.bulk.record import describe_caption
    from cutline.data import write_captions
    from cutline.evaluation import write_evaluation_report

    if outputs.output:
        rows = [
            {
                "image": image.sample.name,
                **describe_caption(image.caption),
                "cider": round(image.scores.cider, 6),
            }
            for image in evaluation.images
        ]
        write_captions(outputs.output, rows)
    if outputs.report:
        write_evaluation_report(outputs.report, evaluation)


def write_scores(evaluation: "Evaluation | MatchEvaluation", json_file: str) -> None:
    """List the skipped images, and write the scores as JSON if that is requested."""
    for message in evaluation.skipped:
        print_message(f"skipped: {message}")
    if json_file:
        write_json_output(json_file, evaluation.to_dict())


def print_scores(evaluation: "Evaluation | MatchEvaluation", lines: Sequence[str]) -> int:
    """Print the scores, and return the exit code."""
    print_result("".join(f"{line}\n" for line in lines))
    return 3 if evaluation.skipped else 0


def write_json_output(path: str, values: Mapping[str, Any]) -> None:
    """Write the results of a command as JSON."""
    write_text(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")


def format_evaluation(evaluation: "Evaluation") -> list[str]:
    """Return a line per score, and a table of the scores by domain."""
    from cutline.evaluation import make_domain_table

    intervals = {
        name: f"  [{low:.4f}, {high:.4f}]" for name, (low, high) in evaluation.intervals.items()
    }
    lines = [
        f"{name:<14}{format_number(value)}{intervals.get(name, '')}"
        for name, value in evaluation.scores.to_dict().items()
    ]
    lines += [
        f"{name:<14}{format_number(value)}"
        for name, value in evaluation.diversity.to_dict().items()
    ]
    if evaluation.domains:
        rows, header = make_domain_table(evaluation)
        lines += ["", f"{header[0]:<14}" + "".join(f"{cell:>14}" for cell in header[1:])]
        lines += [
            f"{row[0]:<14}" + "".join(f"{format_number(value):>14}" for value in row[1:])
            for row in rows
        ]
    return lines


def format_number(value: object) -> str:
    """Return a score with four decimals, and a count as it is."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
