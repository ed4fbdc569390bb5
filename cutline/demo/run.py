"""The demo: draw scenes, train a small captioner on them, measure caption accuracy, and report."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from cutline.captioner import load
from cutline.config import CaptionConfig, DataConfig, EvalConfig, ModelSettings, OptimConfig, Recipe
from cutline.data import open_data, write_captions
from cutline.demo.drawing import Scene
from cutline.demo.grammar import is_correct, judge_caption
from cutline.demo.scenes import Split, check_drawn_folder, make_scenes, write_scenes
from cutline.errors import ConfigError
from cutline.evaluation import Evaluation, evaluate, make_score_rows
from cutline.progress import Progress, no_progress
from cutline.report import (
    Card,
    render_curve,
    render_gallery,
    render_key_figures,
    render_paragraph,
    render_table,
    write_report,
)
from cutline.training import Interrupted, read_log, train
from cutline.training.run.directory import LOG_FILE

NUM_TRAIN, NUM_TEST, EPOCHS = 8000, 400, 7
"""scenes to train on, scenes in each test split, and epochs"""


@dataclass(frozen=True)
class DemoResult:
    """Captions of the test scenes of one split."""

    scenes: list[Scene]
    """the test scenes"""
    evaluation: Evaluation
    """their captions and scores"""

    @property
    def captions(self) -> list[str]:
        """Return the captions, in the order of the scenes."""
        return [image.caption.text for image in self.evaluation.images]

    @property
    def accuracy(self) -> float:
        """Return the fraction of captions in which every word is true of the scene."""
        return sum(map(is_correct, self.captions, self.scenes)) / len(self.scenes)


def run_demo(
    folder: Path,
    seed: int = 0,
    log: Callable[[str], None] = lambda message: None,
    progress: Progress = no_progress,
    *,
    num_train: int = NUM_TRAIN,
    num_test: int = NUM_TEST,
    epochs: int = EPOCHS,
) -> DemoResult:
    """Run the demo.

    Args:
        folder: Folder for `model/`, `scenes/`, `training/`, `captions.jsonl` and `report.html`;
            those of an earlier demo are replaced.
        seed: Seed of the scenes and of the training.
        log: Called with a message at the start of each step.
        progress: Shows how many images are drawn or captioned.
        num_train: Number of training scenes.
        num_test: Number of test scenes in each of two splits.
        epochs: Number of training epochs.

    Returns:
        The result on held-out scenes: those with a pair of objects that no training scene contains.

    Raises:
        Interrupted: The training was interrupted.
        ConfigError: The folder contains other files, or another demo runs in it.
    """
    check_drawn_folder(folder, folder / "scenes" / "train")
    folder.mkdir(parents=True, exist_ok=True)
    with _lock_folder(folder):
        log(f"Drawing {num_train:,} training scenes and {2 * num_test:,} test scenes …")
        for name in ("scenes", "training"):
            shutil.rmtree(folder / name, ignore_errors=True)
        scenes = progress(make_scenes(num_train, seed), num_train, "drawing")
        write_scenes(folder / "scenes" / "train", scenes)
        log("Training a captioner from scratch …")
        train_model(folder, seed, epochs)
        log("Captioning scenes that it has not seen …")
        splits: tuple[Split, ...] = ("heldout", "unseen_combination")
        heldout, unseen = (
            caption_scenes(folder, split, make_scenes(num_test, seed, split), progress)
            for split in splits
        )
        write_demo_captions(folder / "captions.jsonl", heldout)
        write_demo_report(folder, heldout, unseen)
        return heldout


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Refuse a second demo in the folder, which would remove the files of the first."""
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{folder}: another demo runs in this folder; name another one") from None


def train_model(folder: Path, seed: int, epochs: int) -> None:
    """Train on the scenes in `folder`, and move the best checkpoint to `model/`."""
    try:
        best = train(make_demo_recipe(folder, seed, epochs))
    except Interrupted as stopped:
        message = "stopped; run `cutline demo` to start again"
        raise Interrupted(message, stopped.signal_number) from None
    shutil.rmtree(folder / "model", ignore_errors=True)
    best.rename(folder / "model")


def make_demo_recipe(folder: Path, seed: int, epochs: int) -> Recipe:
    """Return the recipe of the demo: the sizes of the preset `tiny`, and no augmentation.

    Mirroring a scene would make "left" and "right" in its caption wrong.
    """
    config = replace(CaptionConfig.preset("tiny"), prompt="", label_smoothing=0.0)
    config = replace(config, text=replace(config.text, dropout=0.0, attn_dropout=0.0))
    return Recipe(
        output=str(folder / "training"),
        seed=seed,
        precision="fp32",  # at this size faster than bf16
        model=ModelSettings.from_config(config),
        data=DataConfig(
            train=str(folder / "scenes" / "train"),
            val_fraction=0.0,
            crop_scale=(1.0, 1.0),
            flip=False,
            randaugment=False,
            num_workers=0,
        ),
        optim=OptimConfig(batch_size=48, epochs=epochs, lr=1e-3, warmup_steps=100, clip_norm=1.0),
        eval=EvalConfig(every_epochs=epochs),
    )


def caption_scenes(
    folder: Path, split: Split, scenes: list[Scene], progress: Progress
) -> DemoResult:
    """Draw the test scenes of a split, caption them by beam search, and measure the captions."""
    data = write_scenes(folder / "scenes" / split, scenes)
    evaluation = evaluate(
        load(folder / "model", precision="fp32"),
        open_data(data),
        batch_size=50,
        progress=progress,
        max_length=24,
        min_length=1,
    )
    return DemoResult(scenes, evaluation)


def write_demo_captions(path: Path, result: DemoResult) -> None:
    """Write each image's caption, its score, and why it is correct or wrong."""
    rows = [
        {
            "image": image.sample.name,
            "caption": image.caption.text,
            "score": image.caption.score,
            "verdict": judge_caption(image.caption.text, scene),
        }
        for image, scene in zip(result.evaluation.images, result.scenes, strict=True)
    ]
    write_captions(path, rows)


def write_demo_report(folder: Path, heldout: DemoResult, unseen: DemoResult) -> None:
    """Write `report.html`: the loss curve, the scores, and images with captions."""
    scores = make_score_rows(heldout.evaluation)
    cards = make_cards(heldout)
    errors = [card for card in cards if not card.correct]
    sections = [
        ("Results", _render_results(heldout, unseen)),
        ("Training", _render_loss(folder / "training" / LOG_FILE)),
        ("Metrics", render_table(scores, ("metric", "value"))),
        ("Captions of unseen scenes", render_gallery(cards[:48])),
    ]
    if errors:
        sections.append(("Errors", render_gallery(errors[:24])))
    note = render_paragraph(
        "In each of these scenes, an object has a combination of color and shape that occurs in no "
        "training scene. Such objects are not expected to be captioned correctly."
    )
    gallery = render_gallery(make_cards(unseen)[:12])
    sections.append(("Unseen combinations of color and shape", note + gallery))
    intro = "A small captioner, trained from scratch on drawn scenes, on this machine."
    write_report(folder / "report.html", "cutline demo", intro, sections)


def _render_results(heldout: DemoResult, unseen: DemoResult) -> str:
    figures = [
        (f"{100 * heldout.accuracy:.1f} %", "of the captions are correct in every word"),
        (f"{100 * unseen.accuracy:.1f} %", "for new combinations of color and shape"),
    ]
    explanation = (
        "A caption is correct if every word is true of the scene, regardless of its wording. "
        "Each test scene contains a pair of objects that no training scene contains."
    )
    return render_key_figures(figures) + render_paragraph(explanation)


def _render_loss(log: Path) -> str:
    losses = [(line["step"], line["loss"]) for line in read_log(log) if "loss" in line]
    return render_curve(losses, "Training loss", "step", "loss per token")


def make_cards(result: DemoResult) -> Sequence[Card]:
    """Return a card for each image: its caption, and why it is correct or wrong."""
    cards = []
    for image, scene in zip(result.evaluation.images, result.scenes, strict=True):
        caption = image.caption.text
        note = judge_caption(caption, scene)
        cards.append(Card(image.sample.name, caption, note, is_correct(caption, scene)))
    return cards
