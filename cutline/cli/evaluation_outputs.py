"""`EvaluationOutputs`: what `cutline evaluate` writes besides the scores on stdout."""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cutline.cli.console import print_message
from cutline.cli.flags import JsonOutput, Output, ReportFlags, ReportOutput, check_outputs
from cutline.errors import ConfigError
from cutline.files import write_text
from cutline.progress import progress_bar

if TYPE_CHECKING:
    from cutline.data import Sample
    from cutline.evaluation import EvaluatedImage, Evaluation
    from cutline.report import About

JsonFormat = Literal["cutline", "coco"]
MAX_LISTED = 20
"""messages of a kind that are printed; a caption file may lack thousands of images"""


@dataclasses.dataclass(frozen=True)
class EvaluationOutputs(ReportFlags):
    """Output files; the scores go to stdout."""

    output: Output = ""
    """captions with their scores: .jsonl, .csv or .parquet, which `cutline compare` compares, or
    COCO results, .json, whose images have integers as ids"""
    report: ReportOutput = ""
    """HTML report: findings, scores, words, lengths, and images from the worst caption to the
    best"""
    json_file: JsonOutput = ""
    """scores as JSON"""
    json_format: JsonFormat = "cutline"
    """names in the JSON: cutline, or coco for those of pycocoevalcap, with the scores of each
    image"""

    def check(self, inputs: Sequence[str]) -> None:
        """Raise CutlineError for a file that cannot be written, or is one of `inputs`."""
        if self.output and not self.output.lower().endswith(
            (".jsonl", ".csv", ".parquet", ".json")
        ):
            raise ConfigError(
                f"{self.output}: evaluate writes captions to a .jsonl, .csv or .parquet file, or "
                "to COCO results (.json)"
            )
        if self.json_format != "cutline" and not self.json_file:
            raise ConfigError(
                f"--json-format {self.json_format} is the format of --json: name that file, too"
            )
        check_outputs(self.output, self.report, self.json_file, inputs=inputs)

    def check_groups(self) -> None:
        """Raise ConfigError if no output has the scores by group."""
        if not self.report and (not self.json_file or self.json_format == "coco"):
            raise ConfigError(
                "--group-column is for --json in cutline's format and for --report, which have the "
                "scores by group: name one of them"
            )

    def check_samples(self, samples: Sequence["Sample"]) -> None:
        """Raise ConfigError if captions of these samples cannot be written as COCO results."""
        from cutline.data import is_results_path
        from cutline.data.coco_results import ImageIds

        if is_results_path(self.output):
            ids = ImageIds(Path(self.output))
            for sample in samples:
                ids.add(sample.id, sample.name)

    def write(self, evaluation: "Evaluation", about: "About") -> None:
        """Write the captions, the report and the scores, if they are requested.

        Args:
            evaluation: The result.
            about: What the report says of it.
        """
        from cutline.evaluation import make_coco_scores, write_evaluation_report

        if self.output:
            self._write_captions(evaluation)
        if self.report:
            write_evaluation_report(
                self.report, evaluation, about, self.report_images, progress_bar
            )
        if self.json_file:
            is_coco = self.json_format == "coco"
            values = make_coco_scores(evaluation) if is_coco else evaluation.to_dict()
            write_json_output(self.json_file, values)

    def _write_captions(self, evaluation: "Evaluation") -> None:
        from cutline.data import is_results_path, write_captions, write_results

        rows = map(make_caption_row, evaluation.images)
        if is_results_path(self.output):
            write_results(self.output, rows)
        else:
            write_captions(self.output, rows)


def make_caption_row(image: "EvaluatedImage") -> dict[str, Any]:
    """Return the columns of an image; without the numbers that a given caption does not have."""
    from cutline.bulk.record import describe_caption

    columns = describe_caption(image.caption)
    columns = {name: value for name, value in columns.items() if not is_nan(value)}
    sample, cider = image.sample, round(image.scores.cider, 6)
    return {"image": sample.name, "id": sample.id, **columns, "cider": cider}


def is_nan(value: object) -> bool:
    """Return whether a value is a number that is not known."""
    return isinstance(value, float) and math.isnan(value)


def write_json_output(path: str, values: Mapping[str, Any]) -> None:
    """Write the results of a command as JSON."""
    write_text(path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")


def print_list(kind: str, messages: Sequence[str]) -> None:
    """Print the first of many messages to stderr, and how many more there are."""
    for message in _shorten_list(messages):
        print_message(f"{kind}: {message}")


def _shorten_list(messages: Sequence[str]) -> Iterator[str]:
    yield from messages[:MAX_LISTED]
    if (more := len(messages) - MAX_LISTED) > 0:
        yield f"{more:,} more, which --json FILE lists"
