"""The embedded demonstration: draw_scene scenes, train a small captioner on them, see how often it tells the truth, write a report."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from cutline.captioner import load
from cutline.config import CaptionConfig, DataConfig, EvalConfig, ModelSettings, OptimConfig, Recipe
from cutline.data import open_data, write_captions
from cutline.demo.scenes import Scene, Split, is_true_of, make_scenes, verdict, write_scenes
from cutline.evaluation import Evaluation, evaluate
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

TRAIN_SCENES, EPOCHS, TEST_SCENES = 8000, 7, 400
Say = Callable[[str], None]
T = TypeVar("T")


class Watch(Protocol):
    """Passes items on, with a bar."""

    def __call__(self, items: Iterable[T], total: int, text: str) -> Iterable[T]:
        """`text` says what is done to the items."""


def in_silence(items: Iterable[T], total: int, text: str) -> Iterable[T]:
    """No bar."""
    return items


@dataclass(frozen=True)
class DemoResult:
    """How the captions of one split fared."""

    scenes: list[Scene]
    evaluation: Evaluation

    @property
    def captions(self) -> list[str]:
        """The captions, in the order of the scenes."""
        return [one.caption.text for one in self.evaluation.pictures]

    @property
    def share(self) -> float:
        """Share of captions that are true of their scene in every word."""
        return sum(map(is_true_of, self.captions, self.scenes)) / len(self.scenes)


def run_demo(
    folder: Path,
    seed: int = 0,
    say: Say = lambda text: None,
    watch: Watch = in_silence,
    *,
    scenes: int = TRAIN_SCENES,
    epochs: int = EPOCHS,
    tests: int = TEST_SCENES,
) -> DemoResult:
    """Run the demonstration into `folder`: `model/`, `scenes/`, `captions.jsonl` and `report.html`.

    Returns the captions of scenes whose pairs of objects were never together in training. Raises KeyboardInterrupt.
    """
    say(f"Drawing {scenes:,} scenes to learn from, and {2 * tests} to be tested on …")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("scenes", "training"):
        shutil.rmtree(folder / name, ignore_errors=True)
    write_scenes(folder / "scenes" / "train", watch(make_scenes(scenes, seed), scenes, "drawing"))
    say("Training a captioner on them, from nothing …")
    try:
        best = train(demo_recipe(folder, seed, epochs))
    except Interrupted:
        raise KeyboardInterrupt("stopped; `cutline demo` begins again") from None
    shutil.rmtree(folder / "model", ignore_errors=True)
    best.rename(folder / "model")
    say("Captioning scenes it has not seen …")
    heldout = test(folder, "heldout", tests, seed, watch)
    unseen = test(folder, "unseen_combination", tests, seed, watch)
    rows = [
        {
            "image": str(one.sample.image),
            "caption": one.caption.text,
            "score": one.caption.score,
            "verdict": verdict(one.caption.text, scene),
        }
        for one, scene in zip(heldout.evaluation.pictures, heldout.scenes, strict=True)
    ]
    write_captions(folder / "captions.jsonl", rows)
    write_demo_report(folder, heldout, unseen)
    return heldout


def demo_recipe(folder: Path, seed: int, epochs: int) -> Recipe:
    """What the demonstration trains with: the `tiny` sizes, no augmentation (a mirrored scene would make `left` a lie)."""
    config = replace(CaptionConfig.preset("tiny"), prompt="", label_smoothing=0.0)
    config = replace(config, text=replace(config.text, dropout=0.0, attn_dropout=0.0))
    return Recipe(
        output=str(folder / "training"),
        seed=seed,
        precision="fp32",  # at this size bf16 is slower
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


def test(folder: Path, split: Split, count: int, seed: int, watch: Watch) -> DemoResult:
    """Draw the scenes of a split, caption them by beam search and measure the captions."""
    scenes = make_scenes(count, seed, split)
    data = write_scenes(folder / "scenes" / split, scenes)
    captioner = load(folder / "model", precision="fp32")
    found = evaluate(
        captioner,
        open_data(data),
        batch_size=50,
        progress=lambda results, total: watch(results, total, "captioning"),
        max_length=24,
        min_length=1,
    )
    return DemoResult(scenes, found)


def write_demo_report(folder: Path, heldout: DemoResult, unseen: DemoResult) -> None:
    """Write the report: the loss, the numbers, and images with captions and verdicts, the wrong ones first among them."""
    losses = [
        (line["step"], line["loss"])
        for line in read_log(folder / "training" / "log.jsonl")
        if "loss" in line
    ]
    scores = heldout.evaluation.scores.numbers()
    sections = [
        (
            "What came of it",
            render_key_figures(
                [
                    (
                        f"{heldout.share:.1%}",
                        "of the captions are true of their scene in every word",
                    ),
                    (
                        f"{unseen.share:.1%}",
                        "where a scene has a colour and shape never seen together",
                    ),
                ]
            )
            + render_paragraph(
                "Truth is checked against the geometry of the scene, not against a wording. Every scene below holds a pair of "
                "objects that was never together in a training scene."
            ),
        ),
        ("How it learned", render_curve(losses, "Training loss", "step", "loss per token")),
        (
            "Measured as captioners are",
            render_table([[name, value] for name, value in scores.items()], ["metric", "value"]),
        ),
        ("Captions of unseen scenes", render_gallery(cards(heldout, 48))),
    ]
    if wrong := [card for card in cards(heldout, len(heldout.scenes)) if not card.correct]:
        sections.append(("Where it was wrong", render_gallery(wrong[:24])))
    note = render_paragraph(
        "A colour and a shape that never came together in training: nobody asks that it names these right."
    )
    sections.append(("Combinations it has never seen", note + render_gallery(cards(unseen, 12))))
    intro = "A small captioner, trained from nothing on drawn scenes, on this machine."
    write_report(folder / "report.html", "cutline demo", intro, sections)


def cards(truth: DemoResult, count: int) -> Sequence[Card]:
    """The first `count` images with caption and verdict."""
    pictures = zip(truth.evaluation.pictures[:count], truth.scenes, strict=False)
    return [
        Card(
            str(one.sample.image),
            one.caption.text,
            verdict(one.caption.text, scene),
            is_true_of(one.caption.text, scene),
        )
        for one, scene in pictures
    ]
