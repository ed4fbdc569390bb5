"""A few batches learned by heart: a model that cannot do that has something wrong with it, or its data have."""

import itertools
import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cutline.captioner import Captioner
from cutline.config import Recipe
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError, DivergedError, ImageError
from cutline.image import open_image, to_pixels
from cutline.training.data.batch import Batch, load_batches
from cutline.training.data.dataset import CaptionDataset
from cutline.training.diagnostics.session import (
    make_trainer,
    require_one_process,
    samples_at_hand,
    take_step,
)
from cutline.training.loop.trainer import Trainer
from cutline.training.run.log import RunLog
from cutline.training.setup import RunSetup, make_dataset, prepare_run

LOSS_THRESHOLD = 0.05  # loss per token
MAX_STEPS = 300
MIN_LR_FROM_SCRATCH, MIN_LR_FINE_TUNING = 3e-4, 1e-4


@dataclass(frozen=True)
class OverfitSample:
    """One image, what it should be called and what it is called."""

    image: str
    reference: str
    """the first caption of the data, as the vocabulary spells it: cleaned and cut"""
    caption: str

    @property
    def exact(self) -> bool:
        """Whether they agree word for word."""
        return self.caption == self.reference


@dataclass(frozen=True)
class Overfit:
    """What `overfit` found."""

    lr: float
    steps: int
    first_loss: float
    """per token, of the first step"""
    last_loss: float
    """per token, over the last round through the batches"""
    samples: tuple[OverfitSample, ...]
    skipped: tuple[str, ...]
    """one sentence for each image that cannot be read"""
    contradictions: tuple[str, ...]
    """one sentence for each image that comes twice with different captions"""

    @property
    def learned(self) -> bool:
        """Whether every caption is that of the data."""
        return all(one.exact for one in self.samples)

    @property
    def exit_code(self) -> int:
        """0 learned, 1 not learned, 3 learned but images were skipped."""
        return 1 if not self.learned else 3 if self.skipped else 0

    @property
    def verdict(self) -> str:
        """One sentence, with what to try where they were not learned."""
        exact = sum(one.exact for one in self.samples)
        found = (
            f"loss {self.first_loss:.2f} → {self.last_loss:.2f} in {self.steps} steps at lr {self.lr:g}, {exact} of "
            f"{len(self.samples)} captions are word for word those of the data"
        )
        if self.learned:
            return f"{found}: model, loss and data fit together"
        if self.contradictions:
            return f"{found}: {'; '.join(self.contradictions)}"
        if self.last_loss < LOSS_THRESHOLD:
            return f"{found}, though the loss is low: see whether the prompt is the one that the captions begin with"
        return (
            f"{found}: try another `optim.lr` (--lr-range finds one) and fewer batches; else look at --show-batch: captions that do not "
            "belong to their images, a wrong prompt, frozen weights"
        )

    def __str__(self) -> str:
        lines = [
            f"{one.image}\n  data   {one.reference}\n  model  {one.caption}\n"
            for one in self.samples
        ]
        lines += [f"skipped: {sentence}\n" for sentence in self.skipped]
        return "".join([*lines, self.verdict, "\n"])


def overfit(recipe: Recipe, batches: int = 1, show_progress: bool = True) -> Overfit:
    """Train on the first `batches` batches alone, over and over, until the loss per token is below 0.05 or for 300 steps; caption them.

    Whatever stands between a model and its training data is off: augmentation, dropout, stochastic depth, label smoothing, averaging,
    weight decay, warm-up. Of several captions of an image only the first counts. The learning rate is the recipe's, but at least 3e-4
    from nothing and 1e-4 where trained weights are the start: with less, 300 steps would not do. Nothing is written.

    Raises:
        CutlineError: recipe, data or starting weights do not fit, no image can be read, or the loss is not a number.
    """
    require_one_process()
    if batches < 1:
        raise ConfigError(f"overfit {batches} is below 1: say how many batches to learn by heart")
    recipe = overfit_recipe(recipe)
    prepared = prepare_run(recipe)
    rows = first_captions(prepared, recipe)
    trainer = make_trainer(recipe, replace(prepared, rows=rows))
    count = min(batches, trainer.steps_per_epoch)
    keys = list(trainer.order.keys(0, count))
    steps = [[batch] for batch in load_batches(rows, iter(keys), prepared.tokenizer.pad_id, 0)]
    numbers = [rows.rows[row][0] for key in keys for _, row in key]
    losses = train_on_batches(
        trainer, [step for step in steps if len(step[0].pixels)] or steps, show_progress
    )
    recent = losses[-count:]
    return Overfit(
        lr=recipe.optim.lr,
        steps=len(losses),
        first_loss=losses[0],
        last_loss=sum(recent) / len(recent),
        samples=tuple(caption_training_samples(trainer, rows, numbers)),
        skipped=tuple(sentence for step in steps for sentence in step[0].skipped),
        contradictions=tuple(contradictions(rows, numbers)),
    )


def overfit_recipe(recipe: Recipe) -> Recipe:
    """Return `recipe` without regularization, augmentation or a schedule."""
    init, model = recipe.init, recipe.model
    pretrained = init.captioner or init.vision or init.text
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
    model = replace(
        model,
        label_smoothing=0.0,
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


def first_captions(prepared: RunSetup, recipe: Recipe) -> CaptionDataset:
    """One row for each image, with its first caption, and the image as it is."""
    samples = [
        replace(sample, captions=sample.captions[:1])
        for sample in samples_at_hand(prepared, recipe)
    ]
    return make_dataset(recipe, samples, prepared.tokenizer, prepared.model.config, augmented=False)


def train_on_batches(
    trainer: Trainer, steps: Sequence[list[Batch]], show_progress: bool
) -> list[float]:
    """Train on `steps` in turn; returns the loss of every step taken."""
    losses: list[float] = []
    recent: deque[float] = deque(maxlen=len(steps))
    with RunLog(None, None, 0, MAX_STEPS, show_progress) as log:
        for batches in itertools.islice(itertools.cycle(steps), MAX_STEPS):
            try:
                losses.append(take_step(trainer, batches))
            except DivergedError:
                raise CutlineError(
                    f"the loss is not a number after {len(losses)} steps at lr {trainer.recipe.optim.lr:g}: lower `optim.lr`"
                ) from None
            recent.append(losses[-1])
            log.advance(len(losses), len(batches[0].pixels), batches[0].token_count)
            log.train_line({"loss": losses[-1]})
            if len(recent) == len(steps) and math.fsum(recent) / len(recent) < LOSS_THRESHOLD:
                break
    return losses


def caption_training_samples(
    trainer: Trainer, rows: CaptionDataset, numbers: Sequence[int]
) -> list[OverfitSample]:
    """Caption the training samples of these numbers, greedily; those that cannot be read are left out."""
    prepared, config = trainer.prepared, trainer.model.config
    samples = [rows.samples[number] for number in numbers]
    encoded = [rows.captions[number][0] for number in numbers]
    captioner = Captioner(trainer.result(), prepared.tokenizer, str(trainer.device), "fp32")
    prompts = [config.prompt if sample.prompt is None else sample.prompt for sample in samples]
    longest = max(len(ids) for ids, _ in encoded)
    stream = captioner.stream(
        [sample.image for sample in samples], prompts, num_beams=1, max_length=longest, min_length=0
    )
    return [
        OverfitSample(name_of(sample), prepared.tokenizer.decode(ids[length:]), caption.text)
        for sample, (ids, length), caption in zip(samples, encoded, stream, strict=True)
        if not isinstance(caption, ImageError)
    ]


def contradictions(rows: CaptionDataset, numbers: Sequence[int]) -> list[str]:
    """Images that look the same to the model and have different captions: no model can write_outputs them apart."""
    alike = defaultdict(list)
    for number in numbers:
        try:
            alike[
                to_pixels(open_image(rows.samples[number].image), rows.size).numpy().tobytes()
            ].append(number)
        except ImageError:
            continue
    sentences = []
    for same in alike.values():
        first, *others = same
        for other in others:
            if rows.captions[other] != rows.captions[first]:
                one, two = (name_of(rows.samples[number]) for number in (first, other))
                sentences.append(f"{one} and {two} are the same image with different captions")
    return sentences


def name_of(sample: Sample) -> str:
    """What to call an image."""
    return sample.id if isinstance(sample.image, bytes) else str(sample.image)
