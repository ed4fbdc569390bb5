"""`cutline calibrate`."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from cutline.cli.console import print_message, print_result
from cutline.cli.evaluation_outputs import write_json_output
from cutline.cli.flags import (
    CheckpointFlags,
    Data,
    Flags,
    GroupedDataFlags,
    JsonOutput,
    ReportFlags,
    ReportOutput,
    check_outputs,
    check_report,
)
from cutline.config import CalibrationConfig, GenerationConfig, InferenceConfig
from cutline.errors import ConfigError
from cutline.progress import is_rank_zero, progress_bar

if TYPE_CHECKING:
    from cutline.calibration import CalibrationResult
    from cutline.metrics import CoveragePoint


@dataclasses.dataclass(frozen=True)
class CalibrationReportFlags(ReportFlags):
    """Report: one HTML page, to search, filter and sort."""

    report: ReportOutput = ""
    """HTML report: reliability diagrams, what a threshold keeps, and captions with wrong words
    marked"""


@dataclasses.dataclass(frozen=True)
class CalibrationOutputs:
    """Output files; the figures go to stdout."""

    output: Annotated[str, arg(aliases=["-o"], metavar="FILE")] = ""
    """the calibration (default: calibration.json in the model's folder, where it is found)"""
    report: Annotated[CalibrationReportFlags, Flags] = dataclasses.field(
        default_factory=CalibrationReportFlags
    )
    json_file: JsonOutput = ""
    """figures as JSON"""


def calibrate_command(
    data: Data,
    outputs: Annotated[CalibrationOutputs, Flags] = CalibrationOutputs(),
    *,
    prompt: str | None = None,
    source: Annotated[GroupedDataFlags, Flags] = GroupedDataFlags(),
    halves: Annotated[CalibrationConfig, Flags] = CalibrationConfig(),
    model: Annotated[CheckpointFlags, Flags] = CheckpointFlags(),
    inference: Annotated[InferenceConfig, Flags] = InferenceConfig(),
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),
) -> int:
    """Calibrate the confidence of a captioner, so that it says how often words are right.

    It captions images with references. A word is right if it occurs in a reference of its image. On
    one half of the images a calibration is fitted, and written; the other half measures it. It
    prints the expected calibration error, how well confidence finds wrong words (AUROC), and the
    share of right words among the most confident words and captions.

    Examples:
        cutline calibrate photos/val.jsonl --model runs/my-run --report calibration.html

        cutline calibrate photos/val.jsonl --model model.pth -o calibration.json

    Args:
        prompt: Prompt of every caption (default: that of each image, else the model's own).
    """
    from cutline.calibration import calibrate, write_calibration_report
    from cutline.distributed import process_group
    from cutline.report import About

    if halves.group_pattern and source.columns.group_column:
        raise ConfigError("--group-pattern and --group-column are both given: remove one of them")
    check_report(outputs.report.report)
    output = outputs.output or find_output(model.name)
    check_outputs(output, outputs.report.report, outputs.json_file, inputs=[data])
    with process_group():
        result = calibrate(
            model.load(inference),
            source.source(data),
            prompt,
            config=halves,
            batch_size=inference.batch_size,
            num_workers=inference.num_workers,
            progress=progress_bar,
            **dataclasses.asdict(generation),
        )
    if not is_rank_zero():
        return 0
    for message in result.skipped:
        print_message(f"skipped: {message}")
    result.calibration.save(output)
    print_message(f"{output}: written")
    if outputs.json_file:
        write_json_output(outputs.json_file, result.to_dict())
    if outputs.report.report:
        settings = {"prompt": prompt, **dataclasses.asdict(generation)}
        settings |= dataclasses.asdict(halves) | model.arguments | dataclasses.asdict(inference)
        about = About(data, model.name, settings=settings)
        num_images = outputs.report.report_images
        write_calibration_report(outputs.report.report, result, about, num_images, progress_bar)
    print_result("".join(f"{line}\n" for line in format_calibration(result)))
    return 3 if result.skipped else 0


def find_output(model: str) -> str:
    """Return the calibration.json in the folder of a model.

    Raises:
        CheckpointError: There is no such model.
        ConfigError: It has no folder, because it is a .pth file or a hub id.
    """
    from cutline.checkpoint import find_local_folder
    from cutline.confidence import CALIBRATION_FILE

    folder = find_local_folder(model)
    if folder is None:
        raise ConfigError(
            f"{model}: not a folder on this machine, which could keep the calibration: name a "
            "file, such as -o calibration.json, and give it to other commands with --calibration"
        )
    return str(folder / CALIBRATION_FILE)


def format_calibration(result: "CalibrationResult") -> Iterator[str]:
    """Yield the lines of the figures."""
    words, captions = result.words, result.captions
    calibration = result.calibration
    yield f"fitted on {calibration.num_images:,} captions of {calibration.num_words:,} words"
    yield f"{'tested on other images':<28}{'words':>18}{'captions':>18}"
    yield f"{'number':<28}{words.count:>18,}{captions.count:>18,}"
    yield f"{'share of right words':<28}{words.right:>18.1%}{captions.right:>18.1%}"
    errors = [f"{each.error_before:.4f} → {each.error_after:.4f}" for each in (words, captions)]
    yield f"{'calibration error':<28}{errors[0]:>18}{errors[1]:>18}"
    if words.auroc is not None:
        interval = ""
        if words.auroc_interval:
            interval = f"  [{words.auroc_interval[0]:.4f}, {words.auroc_interval[1]:.4f}]"
        yield f"{'AUROC of wrong words':<28}{words.auroc:>18.4f}{interval}"
    yield ""
    yield f"{'accepted':<10}{'words right':>14}{'from':>9}{'captions right':>18}{'from':>9}"
    for word, caption in zip(words.coverage, captions.coverage, strict=True):
        yield f"{word.coverage:<10.0%}{format_point(word, 14)}{format_point(caption, 18)}"


def format_point(point: "CoveragePoint", width: int) -> str:
    """Return what is right among the accepted, and their lowest confidence."""
    return f"{point.right:>{width}.1%}{point.threshold:>9.4f}"
