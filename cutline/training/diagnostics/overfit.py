"""`--overfit`: train on a few batches until the model reproduces or finds their captions.

A model that cannot overfit a batch has a wrong learning rate, prompt, loss or data.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from cutline.config import Recipe, ScstConfig
from cutline.errors import ConfigError, CutlineError, DivergedError, ImageError
from cutline.image import open_image, to_pixels
from cutline.training.data.batch import Batch, collect_skipped, load_batches
from cutline.training.data.dataset import CaptionDataset
from cutline.training.diagnostics.overfit_result import (
    LOSS_THRESHOLD,
    OverfitResult,
    OverfitSample,
)
from cutline.training.diagnostics.session import (
    check_single_process,
    make_trainer,
    peek_samples,
    read_compared_loss,
    take_step,
)
from cutline.training.loop.trainer import Trainer
from cutline.training.run.log import RunLog
from cutline.training.setup import RunSetup, prepare_run

MAX_STEPS = 300
MIN_LR_FROM_SCRATCH, MIN_LR_FINE_TUNING = 3e-4, 1e-4
"""learning rates that overfit a batch within `MAX_STEPS`, times the `overfit_factor` of the task"""


def overfit(
    recipe: Recipe, batches: int = 1, show_progress: bool = True, allow_pipe: bool = False
) -> OverfitResult:
    """Train on the first batches until the loss per token or pair is below 0.05, and try the model.

    A captioner then captions the images; a matcher finds the text of each image among theirs.

    Training ends after 300 steps at most, of a matcher after 1,200. Everything that keeps a model
    from overfitting is off; see `make_overfit_recipe`. Only the first caption of each image is
    used. Nothing is written.

    Args:
        recipe: Settings of the run.
        batches: Number of batches to train on, at least 1.
        show_progress: Whether to show a progress bar on stderr.
        allow_pipe: As in `train`.

    Raises:
        CutlineError: The recipe, its data or its initial weights are invalid, no image can be read,
            or the loss is NaN or infinite.
    """
    check_single_process()
    if batches < 1:
        raise ConfigError(f"overfit must be at least 1, the number of batches, not {batches}")
    recipe = make_overfit_recipe(recipe)
    setup = prepare_run(recipe, allow_pipe)
    dataset = _make_overfit_dataset(setup, recipe)
    trainer = make_trainer(recipe, replace(setup, dataset=dataset))
    num_batches = min(batches, trainer.steps_per_epoch)
    key_batches = list(trainer.sampler.iter_batches(0, num_batches))
    loaded = list(load_batches(dataset, iter(key_batches), setup.loader_config()))
    readable = [batch for batch in loaded if len(batch.pixels)]
    losses = _train_on_batches(trainer, readable or loaded, show_progress)
    last_losses = losses[-num_batches:]
    indices = [dataset.examples[index][0] for keys in key_batches for _, index in keys]
    return OverfitResult(
        lr=recipe.optim.lr,
        steps=len(losses),
        first_loss=losses[0],
        last_loss=sum(last_losses) / len(last_losses),
        samples=tuple(_answer_samples(trainer, dataset, indices)),
        answers=setup.task.answers,
        unit=setup.task.unit,
        skipped=tuple(collect_skipped(loaded)),
        conflicts=tuple(_find_conflicts(dataset, indices)),
    )


def make_overfit_recipe(recipe: Recipe) -> Recipe:
    """Return `recipe` without regularization, weight averaging and learning-rate schedule.

    The learning rate is raised to 3e-4 if it is lower, or to 1e-4 for pretrained weights. With
    less, 300 steps would not suffice. Augmentation is left to the dataset. With `task: scst`, it is
    the LM loss that overfits: samples only reproduce captions that it has taught.
    """
    if recipe.task == "scst":
        recipe = replace(recipe, task="caption", scst=ScstConfig())
    init, model = recipe.init, recipe.model
    pretrained = init.model or init.vision or init.text
    optim = replace(
        recipe.optim,
        lr=max(recipe.optim.lr, MIN_LR_FINE_TUNING if pretrained else MIN_LR_FROM_SCRATCH),
        schedule="constant",
        warmup_steps=0,
        max_steps=MAX_STEPS,
        grad_accum_steps=1,
        weight_decay=0.0,
        ema_decay=0.0,
    )
    if recipe.task != "match":
        model = replace(model, label_smoothing=0.0)
    model = replace(
        model,
        vision=replace(model.vision, drop_path=0.0),
        text=replace(model.text, dropout=0.0, attn_dropout=0.0),
    )
    return replace(
        recipe,
        model=model,
        optim=optim,
        lora=replace(recipe.lora, dropout=0.0),
        data=replace(recipe.data, captions_per_image=0),
    )


def _make_overfit_dataset(setup: RunSetup, recipe: Recipe) -> CaptionDataset:
    """Return one example per image, with its first caption and without augmentation."""
    samples = [
        replace(sample, captions=sample.captions[:1]) for sample in peek_samples(setup, recipe)
    ]
    return setup.make_val_dataset(recipe, samples)


def _train_on_batches(
    trainer: Trainer, batches: Sequence[Batch], show_progress: bool
) -> list[float]:
    """Train on `batches` in turn, and return the loss of every step, without bag of words."""
    losses: list[float] = []
    optim, max_steps = trainer.recipe.optim, MAX_STEPS * trainer.task.overfit_factor
    with RunLog(None, None, 0, max_steps, show_progress) as log:
        for batch in itertools.islice(itertools.cycle(batches), max_steps):
            try:
                take_step(trainer, [batch])
            except DivergedError:
                raise CutlineError(
                    f"the loss is NaN or infinite after {len(losses)} steps "
                    f"at lr {optim.lr:g}: lower {optim.lr_names}"
                ) from None
            losses.append(read_compared_loss(trainer))
            log.advance(len(losses), len(batch.pixels), batch.num_targets)
            log.log_training({"loss": losses[-1]})
            last_pass = losses[-len(batches) :]
            if len(last_pass) == len(batches) and sum(last_pass) / len(batches) < LOSS_THRESHOLD:
                break
    return losses


def _answer_samples(
    trainer: Trainer, dataset: CaptionDataset, indices: Sequence[int]
) -> list[OverfitSample]:
    """Return what the model gives for the samples with these indices, except unreadable ones."""
    tokenizer = trainer.setup.tokenizer
    samples = [dataset.samples[index] for index in indices]
    encoded = [dataset.captions[index][0] for index in indices]
    answers = trainer.task.answer(trainer.export_model(), tokenizer, samples, encoded)
    return [
        OverfitSample(
            sample.name, tokenizer.decode(reference.token_ids[reference.prompt_length :]), answer
        )
        for sample, reference, answer in zip(samples, encoded, answers, strict=True)
        if not isinstance(answer, CutlineError)
    ]


def _find_conflicts(dataset: CaptionDataset, indices: Sequence[int]) -> list[str]:
    """Return one sentence for each image with the pixels of another one and another caption."""
    indices_by_pixels = defaultdict(list)
    for index in indices:
        try:
            pixels = to_pixels(open_image(dataset.samples[index].image), dataset.image_size)
        except ImageError:
            continue
        indices_by_pixels[pixels.numpy().tobytes()].append(index)
    return [
        f"{dataset.samples[first].name} and {dataset.samples[other].name} "
        "are the same image with different captions"
        for first, *others in indices_by_pixels.values()
        for other in others
        if dataset.captions[other] != dataset.captions[first]
    ]
