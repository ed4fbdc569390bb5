"""One training run in memory: its model, optimizer and data, a step, and what is saved."""

import itertools
import math
from collections.abc import Generator
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

from cutline.checkpoint import Checkpoint, save_native_folders
from cutline.checkpoint.kinds import AnyConfig
from cutline.config import Recipe
from cutline.device import pick_device, pick_precision
from cutline.distributed import all_reduce_sum, gather_results, rank, run_on_main, world_size
from cutline.engine.memory import return_freed_memory
from cutline.errors import ConfigError
from cutline.model import VisionTextModel
from cutline.model.lora import merge_lora
from cutline.training.data.batch import Batch
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import read_batches
from cutline.training.loop.divergence import require_finite_step, require_finite_weights
from cutline.training.loop.ema import init_ema, update_ema
from cutline.training.loop.optimizer import compute_lr, make_optimizer, select_weights
from cutline.training.loop.parallel import (
    full_tensor,
    gather_full_weights,
    gradient_sync,
    wrap_distributed,
)
from cutline.training.loop.state import TrainerState, load_state, save_state, saved_tensors
from cutline.training.loop.totals import StepTotals
from cutline.training.run.directory import LAST, STATE_FILE
from cutline.training.setup import RunSetup
from cutline.training.tasks import BatchLoss


class Trainer:
    """One training run: its model, optimizer, data and directory."""

    def __init__(self, recipe: Recipe, setup: RunSetup, directory: Path, resume: bool) -> None:
        """Prepare the first step of a run.

        Args:
            recipe: Settings of the run.
            setup: Data, vocabulary and initial model.
            directory: Run directory, for checkpoints and the state.
            resume: Whether to load the state in the directory, if there is one.

        Raises:
            ConfigError: The settings are invalid, or the state is from other steps.
            CheckpointError: The state cannot be read.
        """
        self.recipe, self.setup, self.directory = recipe, setup, directory
        self.task = setup.task
        self.device = pick_device(recipe.device)
        self.bf16 = pick_precision(recipe.precision, self.device) == "bf16"
        if self.device.type == "cpu":
            return_freed_memory()
        optim = recipe.optim
        self.model = setup.model.to(self.device)
        self.configure_model()
        self.model_wrapped = wrap_distributed(self.model, recipe.distributed.fsdp)
        self.ema = init_ema(self.model) if optim.ema_decay else {}
        self.optimizer = make_optimizer(self.model, self.model.config, optim, self.bf16)
        self.sampler = BatchSampler(
            num_examples=len(setup.dataset),
            batch_size=optim.batch_size,
            seed=recipe.seed,
            grad_accum_steps=optim.grad_accum_steps,
            world_size=world_size(),
            rank=rank(),
        )
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.total_steps = optim.max_steps or optim.epochs * self.steps_per_epoch
        self.lr = optim.lr
        """learning rate of the last step, before `lr_scale`"""
        self.state = TrainerState(examples_per_step=self.sampler.examples_per_step)
        self.saved_step: int | None = None
        """step of the state on the disk"""
        if resume and self.has_state():
            self.resume()

    def configure_model(self) -> None:
        """Apply the recipe to the model: LoRA, frozen weights, checkpointing and compilation."""
        recipe, memory = self.recipe, self.recipe.memory
        torch.manual_seed(recipe.seed)  # for the initial weights of LoRA
        select_weights(self.model, recipe.optim, recipe.lora)
        self.model.checkpoint_activations(
            memory.vit_ckpt_layer if memory.vit_grad_ckpt else 0,
            memory.text_grad_ckpt,
            memory.selective_checkpointing,
        )
        if recipe.compile:
            self.model.compile_layers()
        self.model.train()
        if not any(weight.requires_grad for weight in self.model.vision.parameters()):
            self.model.vision.eval()  # a frozen encoder

    @property
    def state_path(self) -> Path:
        """Return the file that the run resumes from."""
        return self.directory / STATE_FILE

    def has_state(self) -> bool:
        """Return whether there is a state to resume from.

        Raises:
            ConfigError: Only some of the processes can see the file.
        """
        visible = gather_results(self.state_path.exists)
        if any(visible) and not all(visible):
            raise ConfigError(
                f"{self.state_path}: some processes cannot see it; "
                "put `output` on a disk that all machines share"
            )
        return all(visible)

    def resume(self) -> None:
        """Load the state.

        Raises:
            CheckpointError: The state cannot be read.
            ConfigError: The state is from steps with another number of examples.
        """
        self.state = load_state(self.state_path, self.model, self.ema, self.optimizer)
        self.saved_step = self.state.step
        before, now = self.state.examples_per_step, self.sampler.examples_per_step
        if before != now:
            raise ConfigError(
                f"{self.directory} was trained with {before} examples per step, not {now}: "
                "resume with the same number of processes"
            )

    def save(self) -> None:
        """Save the model to `last/`, and the state; every process must call this.

        Raises:
            DivergedError: The model has diverged; the files are unchanged.
            CheckpointError: A file cannot be written; the state is unchanged.
        """
        self.check_weights()
        self.save_checkpoint(LAST)
        save_state(self.state_path, self.model, self.ema, self.optimizer, self.state)
        self.saved_step = self.state.step

    def check_weights(self) -> None:
        """Check that the weights, and the loss on a gray image, are finite.

        Every process must call this.

        Raises:
            DivergedError: They are not.
        """
        batch = self.make_dummy(scored=True)
        tensors = saved_tensors(self.model, self.ema, self.optimizer).values()
        require_finite_weights(
            tensors, lambda: self.compute_loss(self.model, batch).loss, self.state.step
        )

    def save_checkpoint(self, name: str) -> None:
        """Save the model to a folder of the run directory; every process must call this."""
        trained, folder = self.export_checkpoint(), self.directory / name

        def save() -> None:
            checkpoints = self.task.make_checkpoints(trained)
            save_native_folders({folder / part: model for part, model in checkpoints.items()})

        run_on_main(save)

    def export_checkpoint(self, rank0_only: bool = True) -> Checkpoint[AnyConfig]:
        """Return the network with its weights as they are saved: averaged, and with LoRA merged.

        They share memory with the training model where they are neither averaged, merged
        nor sharded. Every process must call this.

        Args:
            rank0_only: Whether only the main process gets the weights.
        """
        weights = gather_full_weights({**self.model.state_dict(), **self.ema}, rank0_only)
        lora = self.recipe.lora
        if lora.rank:
            weights = merge_lora(weights, lora.scale)
        return Checkpoint(self.model.config, weights, self.setup.tokenizer)

    def export_model(self) -> VisionTextModel:
        """Build the network of `export_checkpoint`, in evaluation mode; every process calls this.

        It is a second module that shares the weights of the training model: changing its mode or
        replacing its layers does not affect training. Its weights must not be changed in place;
        see `export_checkpoint`.
        """
        return self.task.build_model(self.export_checkpoint(rank0_only=False)).to(self.device)

    def read_steps(self) -> Generator[list[Batch]]:
        """Yield the batches of each remaining optimizer step."""
        loader = self.setup.loader_config(
            self.recipe.data.num_workers, pin_memory=self.device.type == "cuda"
        )
        start, stop = self.state.step, self.total_steps
        batches = read_batches(self.setup.dataset, self.sampler, start, stop, loader)
        for _ in range(start, stop):
            yield list(itertools.islice(batches, self.recipe.optim.grad_accum_steps))

    def train_step(
        self, batches: list[Batch], totals: StepTotals, lr: float | None = None
    ) -> float:
        """Take one optimizer step.

        Args:
            batches: This process's batches.
            totals: Their totals over all processes.
            lr: Learning rate (default: the schedule's).

        Returns:
            The gradient norm, before clipping.

        Raises:
            DivergedError: The loss or the gradient is NaN or infinite; the weights are unchanged.
        """
        state, optim = self.state, self.recipe.optim
        if lr is None:
            lr = compute_lr(state.step, self.total_steps, self.steps_per_epoch, optim)
        self.lr = lr
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        # Dropout depends only on the recipe's seed, the step, the rank and the number of processes,
        # so that a resumed run repeats it. The factor exceeds any number of steps, so that runs of
        # neighboring seeds share no seeds.
        seed = self.recipe.seed * 1_000_003 + state.step
        torch.manual_seed(seed * world_size() + rank())
        norm = self.update_weights(batches, totals.targets) if totals.targets else 0.0
        if self.ema:
            update_ema(self.ema, self.model, state.step, optim.ema_decay)
        state.count_step(totals.targets, totals.images)
        return norm

    def update_weights(self, batches: list[Batch], targets: int) -> float:
        """Update the weights by the gradient of the mean loss over `targets`.

        Returns:
            The gradient norm, before clipping.
        """
        self.task.prepare_step(self.model, self.state.step / self.steps_per_epoch)
        losses = [self.backward(batch, targets, last=batch is batches[-1]) for batch in batches]
        sums = all_reduce_sum(*map(sum, zip(*map(dict.values, losses), strict=True)))
        # An infinite limit only computes the norm, which is a DTensor with FSDP2.
        clip_norm = self.recipe.optim.clip_norm or math.inf
        norm = float(full_tensor(clip_grad_norm_(self.model.parameters(), clip_norm)))
        self.check_finite(sums[0], norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state.add_losses(**dict(zip(losses[0], sums, strict=True)))
        return norm

    def backward(self, batch: Batch, targets: int, last: bool) -> dict[str, float]:
        """Add one batch's part of the gradient of the step.

        Args:
            batch: The batch.
            targets: Tokens, pairs or captions of the step, over all batches and processes.
            last: Whether this is the last batch of the step, after which gradients are averaged.

        Returns:
            The summed loss of the batch, and its other values for the log, by name.
        """
        # Each target of the step has the same weight, 1 / targets, in whatever batch and process it
        # is. The summed loss of a batch times 1 / targets does that within a process. Over P
        # processes the gradients are averaged, not summed, which divides them by P once more: the
        # factor world_size() makes up for it.
        with gradient_sync(self.model_wrapped, last):
            loss, values, _ = self.compute_loss(self.model_wrapped, batch)
            (loss * (world_size() / targets)).backward()
        return {"loss": float(loss.detach())} | {name: float(values[name]) for name in values}

    def compute_loss(self, model: nn.Module, batch: Batch) -> BatchLoss:
        """Return the summed loss of a batch."""
        if not len(batch.pixels):
            batch = self.make_dummy(scored=False)
        batch = batch.to(self.device)
        # A matcher's layers run several times: casts from a cache would not be found again when
        # activations are recomputed.
        device = self.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
            return self.task.compute_loss(model, self.model.config, batch)

    def make_dummy(self, scored: bool) -> Batch:
        """Return a batch of one gray image; see `Task.make_dummy`."""
        has_embeddings = bool(self.recipe.data.cache_embeddings)
        return self.task.make_dummy(self.model.config, has_embeddings, scored)

    def check_finite(self, loss: float, norm: float) -> None:
        """Raise DivergedError if the loss or the gradient norm is NaN or infinite."""
        require_finite_step(loss, norm, self.state.step + 1)
