"""The demo: draw scenes, train a small captioner on them, measure caption accuracy, and report."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from cutline.captioner import load
from cutline.config import (
    CaptionConfig,
    DataConfig,
    EvalConfig,
    GenerationKwargs,
    ModelSettings,
    OptimConfig,
    Recipe,
    to_dict,
)
from cutline.data import open_data, write_captions
from cutline.demo.drawing import Scene
from cutline.demo.report import write_demo_report
from cutline.demo.result import DemoResult
from cutline.demo.scenes import Split, check_drawn_folder, make_scenes, write_scenes
from cutline.errors import ConfigError
from cutline.evaluation import evaluate
from cutline.progress import Progress, no_progress
from cutline.report import About, flatten_settings
from cutline.training import Interrupted, train
from cutline.training.run.facts import list_changed_settings

NUM_TRAIN, NUM_TEST, EPOCHS = 8000, 400, 7
"""scenes to train on, scenes in each test split, and epochs"""
GENERATION: GenerationKwargs = {"max_length": 24, "min_length": 1}


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
        about = describe_demo(folder, num_train, make_demo_recipe(folder, seed, epochs))
        write_demo_report(folder, heldout, unseen, about, progress)
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
        **GENERATION,
    )
    return DemoResult(scenes, evaluation)


def write_demo_captions(path: Path, result: DemoResult) -> None:
    """Write each image's caption, its score, and why it is correct or wrong."""
    rows = [
        {
            "image": image.sample.name,
            "caption": image.caption.text,
            "score": image.caption.score,
            "verdict": verdict,
        }
        for image, verdict in zip(result.evaluation.images, result.verdicts, strict=True)
    ]
    write_captions(path, rows)


def describe_demo(folder: Path, num_train: int, recipe: Recipe) -> About:
    """Return what the report says of the demo."""
    settings = flatten_settings(to_dict(recipe))
    return About(
        data=str(folder / "scenes"),
        model=str(folder / "model"),
        others={"Trained on": f"{num_train:,} scenes, drawn at random"},
        settings=settings | GENERATION,
        changed=list_changed_settings(settings),
    )
