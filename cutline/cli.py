"""The command line: one short function per command. Results go to stdout or a file, everything else to stderr.

Exit codes: 0 all done; 1 something failed; 2 wrong usage; 3 some inputs failed and were listed; 130 stopped by Ctrl-C.
"""

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import Positional, arg

from cutline.config import Engine, GenerationConfig, Recipe, RunPrecision, read_recipe
from cutline.errors import ConfigError, CutlineError

if TYPE_CHECKING:
    from rich.console import Console

    from cutline.captioner import Captioner

T = TypeVar("T")

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"

Flags = arg(name="")  # a nested dataclass whose fields are flags of the command itself
Output = Annotated[str, arg(aliases=["-o"])]


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Which captioner, and where it runs."""

    model: Annotated[str, arg(aliases=["-m"])] = ""
    """hub id, .pth, Hugging Face folder, own folder or training run (default: $CUTLINE_MODEL, else BLIP base from the hub)"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    precision: RunPrecision = "auto"
    """bf16 where the processor is fast at it, else fp32 (auto); or fp32, bf16, int8"""
    engine: Engine = "packed"
    """weights laid out for the processor (packed), the encoder compiled or by OpenVINO, or all as it is (plain)"""
    config: str = ""
    """sizes of a .pth, which carries none: base, large, tiny or a JSON file"""
    tokenizer: str = ""
    """vocabulary of a .pth, which carries none: vocab.txt or tokenizer.json"""
    image_size: int = 0
    """another picture size, in pixels; positions are interpolated (0: the model's own)"""

    def load(self) -> "Captioner":
        """The captioner that the flags mean."""
        from cutline.captioner import load

        path = self.model or os.environ.get("CUTLINE_MODEL") or DEFAULT_MODEL
        return load(
            path,
            self.device,
            self.precision,
            engine=self.engine,
            config=self.config or None,
            tokenizer=self.tokenizer or None,
            image_size=self.image_size or None,
        )


def demo(out: Output = "cutline-demo", *, seed: int = 0) -> int:
    """Train a small captioner on drawn scenes, measure it, and write a report. Needs no file and no network.

    Args:
        out: folder for the model, the captions and report.html.
        seed: decides the scenes and the training.
    """
    from cutline.demo import demonstrate

    truth = demonstrate(Path(out), seed, lambda text: stderr().print(text), progress)
    sys.stdout.write(
        f"{truth.share:.1%} of {len(truth.scenes)} captions of unseen scenes are true in every word.\n"
        f"Look at {out}/report.html. Then try:\n"
        f"  {program()} caption {out}/scenes/heldout/scene-00000?.png --model {out}/model\n"
        f"  {program()} evaluate {out}/scenes/heldout --model {out}/model --report sheet.html\n"
        f"  {program()} train recipes/own-photos.yaml --data.train YOUR-PHOTOS\n"
    )
    return 0


def caption(
    photos: Positional[Annotated[list[str], arg(metavar="PHOTO [PHOTO …]")]],
    output: Output = "",
    *,
    prompt: str | None = None,
    batch_size: int = 8,
    workers: int = 0,
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # frozen
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),  # noqa: B008  # frozen
) -> int:
    """Caption pictures: `path<TAB>caption` lines on stdout, or a file.

    Args:
        photos: files, folders, patterns such as 'photos/*.jpg', or - for one picture on stdin.
        output: captions.jsonl, captions.csv, a folder for one .txt per picture, or .txt for one beside each picture.
        prompt: what captions begin with (default: the model's own).
        batch_size: pictures that are captioned together.
        workers: processes that open pictures, for a GPU that waits for them (0: threads of this process).
    """
    from cutline.captioner import Caption
    from cutline.data import check_output, find_images, write_captions

    if not photos:
        raise ConfigError("name the pictures to caption: files, folders, patterns such as 'photos/*.jpg', or - for stdin")
    if output:
        check_output(output)
    names = [name for photo in photos for name in (["-"] if photo == "-" else find_images([photo]))]
    sources = [sys.stdin.buffer.read() if name == "-" else name for name in names]
    captioner = which.load()
    rows: list[dict[str, Any]] = []
    failed = 0
    try:
        together = min(batch_size, max(1, len(sources)))
        stream = captioner.stream(sources, prompt, batch_size=together, workers=workers, **dataclasses.asdict(generation))
        for name, result in zip(names, progress(stream, len(names), "captioning"), strict=True):
            if not isinstance(result, Caption):
                failed += 1
                complain(f"skipped: {result}")
                continue
            rows.append(as_row(name, result, generation.num_captions))
            if not output:
                for one in result.alternatives:
                    sys.stdout.write(f"{name}\t{one.text}\n")
                sys.stdout.flush()
    finally:  # Ctrl-C too keeps what is done
        if output and rows:
            write_captions(output, rows)
    if not rows:
        raise CutlineError("no picture could be captioned")
    if failed:
        complain(f"{failed} of {len(names)} pictures could not be read; they are listed above")
    return 3 if failed else 0


def as_row(name: str, result: Any, num_captions: int) -> dict[str, Any]:
    """A caption as a row of a file."""
    row: dict[str, Any] = {"image": name, "caption": result.text, "score": round(result.score, 6)}
    if num_captions > 1:
        row["alternatives"] = [{"caption": one.text, "score": round(one.score, 6)} for one in result.alternatives]
    return row


def train(recipe: Recipe, resume: bool, show_batch: bool) -> int:
    """Train as `recipe` says; see `train_command` for the flags."""
    import logging

    from rich.logging import RichHandler

    from cutline.training import read_log, show_first_batch
    from cutline.training import train as run

    logger = logging.getLogger("cutline")
    logger.addHandler(RichHandler(console=stderr(), show_time=False, show_path=False, show_level=False))
    logger.setLevel("INFO")
    if show_batch:
        sys.stdout.write(show_first_batch(recipe))
        return 0
    best = run(recipe, resume=resume)
    skipped = sum("skipped" in line for line in read_log(best.parent / "log.jsonl"))
    if skipped:
        complain(f"{skipped} pictures could not be read; {best.parent / 'log.jsonl'} names them")
    complain(f"the best checkpoint is in {best}; try: {program()} caption PHOTO --model {best}")
    return 3 if skipped else 0


def train_command(argv: list[str]) -> Callable[..., int]:
    """The `train` command, with the values of the recipe named in `argv` as defaults of its flags."""
    path = next((word for word in argv if word.endswith((".yaml", ".yml"))), "")
    defaults = read_recipe(path) if path else Recipe()

    def command(
        recipe: Positional[Annotated[str, arg(metavar="RECIPE.yaml")]],
        settings: Annotated[Recipe, Flags] = defaults,
        *,
        resume: bool = False,
        show_batch: bool = False,
    ) -> int:
        """Train a captioner. Every setting of the recipe is a flag too: --optim.lr 2e-5

        Args:
            recipe: a YAML file.
            resume: go on with the run that the recipe's `output` folder holds.
            show_batch: print every token of the first batch with its label and its loss, and stop.
        """
        if not path:
            raise ConfigError(f"{recipe}: a recipe is a .yaml file; there are examples in recipes/")
        return train(settings, resume, show_batch)

    return command


def evaluate(
    data: Positional[Annotated[str, arg(metavar="DATA")]],
    output: Output = "",
    *,
    report: str = "",
    image_root: str = "",
    split: str = "",
    prompt: str | None = None,
    batch_size: int = 8,
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # frozen
    generation: Annotated[GenerationConfig, Flags] = GenerationConfig(),  # noqa: B008  # frozen
) -> int:
    """Caption a data set and measure the captions: BLEU-1..4, ROUGE-L, CIDEr.

    Args:
        data: JSON Lines, COCO or Karpathy JSON, or a folder of pictures with .txt files beside them.
        output: also write the captions, with their scores: .jsonl or .csv.
        report: also write an HTML page with the pictures that did best and worst.
        image_root: folder that picture paths are relative to (default: the data file's own).
        split: split of a dataset_coco.json, such as val (default: all of them).
        prompt: what captions begin with (default: each picture's, else the model's own).
        batch_size: pictures per batch.
    """
    from cutline.data import check_output, write_captions
    from cutline.evaluation import evaluate as run
    from cutline.evaluation import write_sheet

    if output and check_output(output) not in ("jsonl", "csv"):  # text files beside pictures are where references stand
        raise ConfigError(f"{output}: evaluate writes captions to a .jsonl or .csv file")
    found = run(
        which.load(),
        data,
        prompt,
        image_root=image_root,
        split=split,
        batch_size=batch_size,
        progress=lambda pictures, total: progress(pictures, total, "captioning"),
        **dataclasses.asdict(generation),
    )
    for sentence in found.skipped:
        complain(f"skipped: {sentence}")
    for name, value in dataclasses.asdict(found.scores).items():
        sys.stdout.write(f"{name:<14}{value:.4f}\n" if isinstance(value, float) else f"{name:<14}{value}\n")
    if output:
        rows = [as_row(str(one.sample.image), one.caption, generation.num_captions) for one in found.pictures]
        write_captions(output, [{**row, "cider": round(one.scores.cider, 6)} for row, one in zip(rows, found.pictures, strict=True)])
    if report:
        write_sheet(report, found)
    return 3 if found.skipped else 0


def score(
    photo: Positional[Annotated[str, arg(metavar="PHOTO")]],
    captions: Positional[Annotated[list[str], arg(metavar="CAPTION [CAPTION …]")]],
    *,
    prompt: str | None = None,
    which: Annotated[ModelFlags, Flags] = ModelFlags(),  # frozen
) -> int:
    """How likely captions are, given a picture: `log-likelihood<TAB>caption` lines, best first.

    Args:
        photo: the picture.
        captions: the captions to compare.
        prompt: what comes before each caption and is not scored (default: the model's own).
    """
    if not captions:
        raise ConfigError("name at least one caption to score")
    scores = which.load().score(photo, captions, prompt)
    for log_prob, text in sorted(((one.log_prob, text) for one, text in zip(scores, captions, strict=True)), reverse=True):
        sys.stdout.write(f"{log_prob:.4f}\t{text}\n")
    return 0


def convert(
    model: Positional[Annotated[str, arg(metavar="MODEL")]],
    out: Positional[Annotated[str, arg(metavar="OUT")]],
    to: Literal["cutline", "huggingface", "salesforce"] = "cutline",
    *,
    config: str = "",
    tokenizer: str = "",
    image_size: int = 0,
) -> int:
    """Write a captioner in another layout; no weight changes by a bit.

    Args:
        model: hub id, .pth, Hugging Face folder, own folder or training run.
        out: folder to write, or for salesforce a .pth file.
        to: cutline, huggingface or salesforce.
        config: sizes of a .pth, which carries none: base, large, tiny or a JSON file.
        tokenizer: vocabulary of a .pth, which carries none: vocab.txt or tokenizer.json.
        image_size: another picture size, in pixels; positions are interpolated (0: the model's own).
    """
    from cutline.checkpoint import load_checkpoint, save_checkpoint

    save_checkpoint(out, load_checkpoint(model, config or None, tokenizer or None, image_size or None), to)
    complain(f"wrote {out}")
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "caption": caption,
    "train": train_command([]),
    "evaluate": evaluate,
    "score": score,
    "convert": convert,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run_command(list(sys.argv[1:] if argv is None else argv)))


def run_command(argv: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        code = dispatch(argv)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        complain(str(error))
        return 2
    except CutlineError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt as error:
        complain(str(error) or "stopped")
        return 130
    except BrokenPipeError:  # `cutline caption … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        complain(f"{error.filename or 'writing'}: {error.strerror or error}")
        return 1


def dispatch(argv: list[str]) -> int:
    """Find the command and run it."""
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("--help", "-h"):
        sys.stdout.write(overview())
        return 0 if argv else 2
    if name == "--version":
        from cutline import __version__

        sys.stdout.write(f"cutline {__version__}\n")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    command = train_command(rest) if name == "train" else COMMANDS[name]
    return tyro.cli(command, prog=f"cutline {name}", args=rest, config=(tyro.conf.AvoidSubcommands,))


def overview() -> str:
    """What `cutline --help` says."""
    lines = [f"  {name:<10}{(command.__doc__ or '').splitlines()[0]}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: cutline COMMAND …",
            "",
            "Train, run and measure BLIP image captioners.",
            "",
            *lines,
            "",
            "`cutline COMMAND --help` shows what a command takes. Start with `cutline demo`.",
            "",
        ]
    )


def stderr() -> "Console":
    """A console on stderr."""
    from rich.console import Console

    return Console(stderr=True)


def progress(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    """Pass `items` on, with a bar on stderr where somebody looks."""
    from rich.progress import Progress

    console = stderr()
    # rich would take stdout along to stderr, which is right on a screen and wrong in a pipe
    bars = Progress(console=console, transient=True, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty())
    with bars:
        yield from bars.track(items, total, description=text)


def program() -> str:
    """What to type to run this program again."""
    return "cutline" if shutil.which("cutline") else f"{sys.argv[0]}"


def complain(sentence: str) -> None:
    """Say something to the person, not to the pipe."""
    sys.stderr.write(f"cutline: {sentence}\n")


if __name__ == "__main__":
    main()
