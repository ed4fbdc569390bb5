"""One training run in memory: its model and optimiser, a step, and the losses."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cutline.checkpoint import Checkpoint, build_model, save_native
from cutline.config import Recipe
from cutline.device import pick_device, pick_precision
from cutline.distributed import (
    all_gather,
    all_reduce_sum,
    gather_results,
    is_main_process,
    rank,
    world_size,
)
from cutline.engine.memory import return_freed_memory
from cutline.errors import ConfigError, DataError, DivergedError
from cutline.image import normalize
from cutline.model import CaptionModel
from cutline.model.lora import merge_lora
from cutline.training.data.batch import Batch, load_batches
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import read_batches
from cutline.training.loop.ema import init_ema, update_ema
from cutline.training.loop.optimizer import choose_weights, lr_at, make_optimizer
from cutline.training.loop.parallel import full_weights, gradient_sync, whole, wrap_distributed
from cutline.training.loop.state import Progress, load_state, save_state
from cutline.training.setup import RunSetup, make_dataset


@dataclass(frozen=True)
class Totals:
    """What the batches of a step hold, over all processes."""

    tokens: int
    pictures: int
    skipped: list[str]
    stop: bool
    save: bool


class Trainer:
    """One run: its model, optimiser, data and place on disk."""

    def __init__(self, recipe: Recipe, prepared: RunSetup, folder: Path, resume: bool) -> None:
        self.recipe, self.prepared, self.folder = recipe, prepared, folder
        self.device = pick_device(recipe.device)
        self.bf16 = pick_precision(recipe.precision, self.device) == "bf16"
        if self.device.type == "cpu":
            return_freed_memory()
        optim = recipe.optim
        self.model = prepared.model.to(self.device)
        self.make_ready()
        self.parallel = wrap_distributed(self.model, recipe.distributed.fsdp)
        self.average = init_ema(self.model) if optim.ema_decay else {}
        self.optimizer = make_optimizer(self.model, self.model.config, optim)
        self.order = BatchSampler(
            len(prepared.rows),
            optim.batch_size,
            recipe.seed,
            optim.grad_accum_steps,
            world_size(),
            rank(),
        )
        self.steps_per_epoch = self.order.steps_per_epoch
        self.total_steps = optim.max_steps or optim.epochs * self.steps_per_epoch
        self.lr = optim.lr  # of the last step, before `lr_scale`
        self.progress = Progress(rows_per_step=self.order.rows_per_step)
        if resume and self.has_state():
            self.go_on()

    def make_ready(self) -> None:
        """What the recipe asks of the model before its first step."""
        recipe, memory = self.recipe, self.recipe.memory
        torch.manual_seed(self.recipe.seed)  # of LoRA's first weights
        choose_weights(self.model, recipe.optim, recipe.lora)
        self.model.checkpoint_activations(
            memory.vit_ckpt_layer if memory.vit_grad_ckpt else 0,
            memory.text_grad_ckpt,
            memory.selective_checkpointing,
        )
        if recipe.compile:
            self.model.compile_layers()
        self.learn()

    def go_on(self) -> None:
        """Take up the state on disk. Raises CheckpointError, or ConfigError where steps were of another size."""
        self.progress = load_state(self.state_path, self.model, self.average, self.optimizer)
        if self.progress.rows_per_step != self.order.rows_per_step:
            raise ConfigError(
                f"{self.folder} was trained with {self.progress.rows_per_step} rows per step, not {self.order.rows_per_step}: "
                "resume on as many processes as before"
            )

    def learn(self) -> None:
        """Training mode; a vision side that is frozen stays as it is in evaluation."""
        self.model.train()
        if not any(weight.requires_grad for weight in self.model.vision.parameters()):
            self.model.vision.eval()

    def has_state(self) -> bool:
        """Whether there is a state to go on from. Raises ConfigError where only some processes see it."""
        seen = gather_results(self.state_path.exists)
        if any(seen) and not all(seen):
            raise ConfigError(
                f"{self.state_path}: not every process can see it; put `output` on a disk that all machines share"
            )
        return all(seen)

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self) -> None:
        """Write the captioner as it is now, and the state that a stopped run goes on from; every process calls."""
        self.keep("last")
        save_state(self.state_path, self.model, self.average, self.optimizer, self.progress)

    def keep(self, name: str) -> None:
        """Write the captioner to the folder `name` of the run; every process calls."""
        checkpoint = self.checkpoint()
        gather_results(
            lambda: save_native(self.folder / name, checkpoint) if is_main_process() else None
        )

    def checkpoint(self, everywhere: bool = False) -> Checkpoint:
        """The captioner as it would be kept: its weights averaged, LoRA merged, in one piece.

        Every process calls; only the first gets the weights, or all.
        """
        weights = full_weights({**self.model.state_dict(), **self.average}, everywhere)
        lora = self.recipe.lora
        if lora.rank:
            weights = merge_lora(weights, lora.scale)
        return Checkpoint(self.model.config, weights, self.prepared.tokenizer)

    def result(self) -> CaptionModel:
        """The captioner as it would be kept, to evaluate; every process calls."""
        recipe = self.recipe
        if not (self.average or recipe.lora.rank or recipe.distributed.fsdp):
            return self.model
        return build_model(self.checkpoint(everywhere=True)).to(self.device)

    def steps(self) -> Iterator[list[Batch]]:
        """The batches of each remaining optimiser step."""
        pad_id, workers, pin = (
            self.prepared.tokenizer.pad_id,
            self.recipe.data.num_workers,
            self.device.type == "cuda",
        )
        batches = read_batches(
            self.prepared.rows,
            self.order,
            self.progress.step,
            self.total_steps,
            pad_id,
            workers,
            pin,
        )
        while self.progress.step < self.total_steps:
            yield list(itertools.islice(batches, self.recipe.optim.grad_accum_steps))

    def total(self, batches: list[Batch], stop: bool, save: bool) -> Totals:
        """What all processes are about to do; a wish of one to stop, or of the first to save, is a wish of all.

        Raises CutlineError, in every process, where the data of one cannot be read on.
        """
        failures = [batch.failure for batch in batches if batch.failure is not None]
        skipped = [sentence for batch in batches for sentence in batch.skipped]
        tokens, pictures = (
            sum(counts)
            for counts in zip(*((b.token_count, len(b.pixels)) for b in batches), strict=True)
        )
        sums = all_reduce_sum(
            tokens, pictures, len(skipped), stop, save and rank() == 0, len(failures)
        )
        if sums[5]:  # an error in one process is raised in all: the others would wait for it
            raise next(failure for part in all_gather(failures) for failure in part)
        every = [sentence for part in all_gather(skipped) for sentence in part] if sums[2] else []
        return Totals(int(sums[0]), int(sums[1]), every, bool(sums[3]), bool(sums[4]))

    def train_step(self, batches: list[Batch], totals: Totals, lr: float | None = None) -> float:
        """One optimiser step over `batches`, every token of all processes weighing the same; returns the gradient norm.

        lr: learning rate (default: the schedule's). Raises DivergedError.
        """
        progress, optim = self.progress, self.recipe.optim
        self.lr = (
            lr_at(progress.step, self.total_steps, self.steps_per_epoch, optim)
            if lr is None
            else lr
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * group["lr_scale"]
        torch.manual_seed(
            (self.recipe.seed * 1_000_003 + progress.step) * world_size() + rank()
        )  # dropout of this step, also resumed
        norm = 0.0
        if totals.tokens:
            loss = sum(
                self.backward(batch, totals.tokens, last=batch is batches[-1]) for batch in batches
            )
            (loss,) = all_reduce_sum(loss)
            norm = float(
                whole(clip_grad_norm_(self.model.parameters(), optim.clip_norm or math.inf))
            )
            self.check_finite(loss, norm)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            progress.loss_sum, progress.epoch_loss_sum = (
                progress.loss_sum + loss,
                progress.epoch_loss_sum + loss,
            )
        if self.average:
            update_ema(self.average, self.model, progress.step, optim.ema_decay)
        progress.token_count, progress.epoch_token_count = (
            progress.token_count + totals.tokens,
            progress.epoch_token_count + totals.tokens,
        )
        progress.step, progress.pictures = progress.step + 1, progress.pictures + totals.pictures
        return norm

    def backward(self, batch: Batch, tokens: int, last: bool) -> float:
        """Add the gradient of this batch's share of the mean over `tokens`; returns its summed loss."""
        with gradient_sync(self.parallel, last):
            loss = self.loss(self.parallel, batch)
            (
                loss * (world_size() / tokens)
            ).backward()  # the processes' gradients are averaged, not summed
        return float(loss.detach())

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Summed loss of a batch."""
        config, embedded = self.model.config, bool(self.recipe.data.cache_embeddings)
        batch = (batch if len(batch.pixels) else Batch.dummy(config.vision, embedded)).to(
            self.device
        )
        pixel_values = normalize(batch.pixels, config.image) if batch.image_embeds is None else None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = model(
                pixel_values,
                batch.input_ids,
                batch.attention_mask,
                batch.labels,
                image_embeds=batch.image_embeds,
            )
        return out.loss  # type: ignore[no-any-return]

    def check_finite(self, loss: float, norm: float) -> None:
        """A step that is not a number must not reach the weights."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise DivergedError(
                f"the loss became {loss} and its gradient {norm} at step {self.progress.step + 1}; "
                f"{self.folder} keeps the state before it: lower `optim.lr` or set `optim.clip_norm`, and go on with --resume"
            )

    @torch.no_grad()
    def validation_loss(
        self, watch: Callable[[Iterator[Batch], int], Iterable[Batch]]
    ) -> tuple[float, list[str]]:
        """Mean loss of the validation references, without augmentation, and which images could not be read; every process calls.

        `watch` passes the batches of this process on.
        """
        every_caption = replace(self.recipe, data=replace(self.recipe.data, captions_per_image=0))
        rows = make_dataset(
            every_caption,
            self.prepared.val,
            self.prepared.tokenizer,
            self.model.config,
            augmented=False,
        )
        size = self.recipe.eval.batch_size
        keys = [
            [(0, row) for row in range(first, min(first + size, len(rows)))]
            for first in range(0, len(rows), size)
        ]
        keys = keys[rank() :: world_size()]
        model = self.result().eval()

        def share() -> tuple[float, int, list[str]]:
            loss_sum, tokens = 0.0, 0
            skipped: list[str] = []
            for batch in watch(
                load_batches(rows, iter(keys), self.prepared.tokenizer.pad_id, 0), len(keys)
            ):
                skipped += batch.skipped
                if batch.failure:
                    raise batch.failure
                if len(batch.pixels):
                    loss_sum, tokens = (
                        loss_sum + float(self.loss(model, batch)),
                        tokens + batch.token_count,
                    )
            return loss_sum, tokens, skipped

        shares = gather_results(share)
        self.learn()
        tokens = sum(share[1] for share in shares)
        if not tokens:
            raise DataError("none of the validation images can be read")
        return sum(share[0] for share in shares) / tokens, [
            sentence for share in shares for sentence in share[2]
        ]
