"""`cutline explain`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.cli.caption import SourceFlags, find_collection
from cutline.cli.console import escape_name, print_message, print_result
from cutline.cli.flags import BatchedDeviceFlags, CheckpointFlags, Flags, Output, list_changed
from cutline.config import DeviceConfig, ExplainConfig, GenerationConfig
from cutline.errors import ConfigError, CutlineError
from cutline.progress import no_progress, progress_bar

if TYPE_CHECKING:
    from cutline.bulk.sources import Collection
    from cutline.captioner import Captioner
    from cutline.data import Sample
    from cutline.explanation import ExplainedImage
    from cutline.explanation.output import ExplanationOutput

DEFAULT_OUTPUT = "explanation.html"
DEFAULT_SPEED = (DeviceConfig().precision, DeviceConfig().engine)


def explain_command(
    images: Positional[Annotated[list[str], arg(metavar="IMAGE [IMAGE …]")]],
    *,
    caption: str | None = None,
    prompt: str | None = None,
    output: Output = DEFAULT_OUTPUT,
    method: Annotated[ExplainConfig, Flags] = ExplainConfig(),
    model: Annotated[CheckpointFlags, Flags] = CheckpointFlags(),
    inference: Annotated[BatchedDeviceFlags, Flags] = BatchedDeviceFlags(),
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),
) -> int:
    """Show where the captioner looked for each word of a caption: a heat-map over the image.

    `path<TAB>caption` lines go to stdout, the heat-maps to the output.

    Examples:
        cutline explain photo.jpg --model runs/my-run

        cutline explain photos -o heat-maps

        cutline explain photo.jpg --caption "a dog on a beach" --method occlusion -o maps.npz

    Args:
        images: Files, folders, patterns such as 'photos/*.jpg', or - for one image on stdin.
        caption: Caption to explain (default: the one that the captioner generates).
        prompt: Text before the caption, which gets no heat-maps (default: the model's own prompt).
        output: a page on which pointing at a word shows its heat-map (.html), a folder of PNG
            images, or a file of arrays (.npz).
    """
    if not images:
        raise ConfigError("name the images to explain: files, folders, patterns, or - for stdin")
    from cutline.explanation import Explainer
    from cutline.explanation.output import open_explanation_output
    from cutline.report import About

    chosen = list_changed(generation) if caption is not None else asdict(generation)
    settings = {"caption": caption, "prompt": prompt, **chosen}
    settings |= asdict(method) | model.arguments | asdict(inference)
    collection = find_collection(images, SourceFlags())
    about = About(collection.title, model.name, settings=settings)
    destination = open_explanation_output(output, about)
    reject_source_folder(output, images)
    samples = list_samples(collection)
    hides = method.method == "occlusion"  # which takes long for a single image
    captioner = load_with_gradients(method, model, inference)
    progress = progress_bar if hides else no_progress
    explainer = Explainer(captioner, method, prompt, inference.batch_size, progress)
    sources = [sample.image for sample in samples if not isinstance(sample, CutlineError)]
    results = explainer.stream(sources, caption, **chosen)
    show = no_progress if hides else progress_bar
    try:
        write_explanations(samples, show(results, len(sources), "explaining"), destination)
    finally:  # also after Ctrl-C
        if destination.count:
            destination.close()
            print_message(f"wrote {output}; images explained: {destination.count:,}")
    if not destination.count:
        raise CutlineError("no image could be explained: the messages above say why")
    if failed := len(samples) - destination.count:
        print_message(f"{failed:,} of {len(samples):,} images could not be explained; see above")
    return 3 if failed else 0


def reject_source_folder(output: str, images: Sequence[str]) -> None:
    """Raise ConfigError if PNG images would go into a folder whose images are to be explained."""
    path = Path(output)
    for folder in map(Path, images):
        is_inside = folder.is_dir() and path.resolve().is_relative_to(folder.resolve())
        if is_inside and not path.suffix:
            raise ConfigError(
                f"{output}: in {folder}, whose images are to be explained; name a folder elsewhere"
            )


def list_samples(collection: "Collection") -> "list[Sample | CutlineError]":
    """Return the images that the command line names, and why some cannot be found."""
    from cutline.bulk.output import Output

    samples = list(collection.iter_samples(Output()))
    if not samples:
        raise CutlineError("there are no images to explain; check the paths")
    return samples


def load_with_gradients(
    method: ExplainConfig, model: CheckpointFlags, inference: DeviceConfig
) -> "Captioner":
    """Load the captioner, so that it has gradients if the method needs them."""
    if method.method == "gradient" and (inference.precision, inference.engine) == DEFAULT_SPEED:
        inference = replace(inference, precision="fp32", engine="eager")
    return model.load(inference)


def write_explanations(
    samples: "Sequence[Sample | CutlineError]",
    results: "Iterator[ExplainedImage | CutlineError]",
    destination: "ExplanationOutput",
) -> None:
    """Write the explanation of each image, and print its caption or its error."""
    for sample in samples:
        result = sample if isinstance(sample, CutlineError) else next(results)
        if isinstance(sample, CutlineError) or isinstance(result, CutlineError):
            print_message(f"skipped: {result}")
        else:
            destination.add(sample.name, result)
            print_result(f"{escape_name(sample.name)}\t{result.explanation.text}\n")
