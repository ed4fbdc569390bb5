"""One training run in memory: its model and optimiser, a step, and the losses."""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from cutline.config import Recipe
from cutline.device import pick_device, pick_precision
from cutline.errors import CutlineError, DataError
from cutline.image import normalize
from cutline.model import CaptionModel
from cutline.training.batch import Batch, BatchOrder, load_batches
from cutline.training.prepare import Prepared, make_rows
from cutline.training.schedule import lr_at
from cutline.training.state import Progress, load_state, save_state, update_average


class Trainer:
    """One run: its model, optimiser, data and place on disk."""

    def __init__(self, recipe: Recipe, prepared: Prepared, folder: Path, resume: bool) -> None:
        self.recipe, self.prepared, self.folder = recipe, prepared, folder
        self.device = pick_device(recipe.device)
        self.bf16 = pick_precision(recipe.precision, self.device) == "bf16"
        self.model = prepared.model.to(self.device).train()
        optim = recipe.optim
        self.model.checkpoint_activations(optim.vit_ckpt_layer if optim.vit_grad_ckpt else 0, optim.text_grad_ckpt)
        self.average = copy.deepcopy(self.model) if optim.ema_decay else None
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
        self.order = BatchOrder(len(prepared.rows), optim.batch_size, recipe.seed)
        self.steps_per_epoch = math.ceil(self.order.per_epoch / optim.grad_accum_steps)
        self.total_steps = optim.max_steps or optim.epochs * self.steps_per_epoch
        self.progress = Progress()
        if resume and self.state_path.exists():
            self.progress = load_state(self.state_path, self.model, self.average, self.optimizer)

    @property
    def state_path(self) -> Path:
        return self.folder / "state.safetensors"

    @property
    def result(self) -> CaptionModel:
        """The weights to evaluate and keep."""
        return self.average or self.model

    def save(self) -> None:
        """Write the state that a stopped run goes on from."""
        save_state(self.state_path, self.model, self.average, self.optimizer, self.progress)

    def steps(self) -> Iterator[list[Batch]]:
        """The batches of each remaining optimiser step."""
        accum, per_epoch = self.recipe.optim.grad_accum_steps, self.order.per_epoch
        full, rest = divmod(self.total_steps, self.steps_per_epoch)
        last = full * per_epoch + min(rest * accum, per_epoch)
        keys = self.order.from_batch(self.progress.batch, last)
        pin = self.device.type == "cuda"
        batches = load_batches(self.prepared.rows, keys, self.prepared.tokenizer.pad_id, self.recipe.data.num_workers, pin)
        while self.progress.step < self.total_steps:
            left = per_epoch - self.progress.batch % per_epoch
            yield list(itertools.islice(batches, min(accum, left)))

    def train_step(self, batches: list[Batch]) -> float:
        """One optimiser step over `batches`, every token weighing the same; returns the gradient norm."""
        progress, optim = self.progress, self.recipe.optim
        lr = lr_at(progress.step, self.total_steps, self.steps_per_epoch, optim)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed(self.recipe.seed * 1_000_003 + progress.step)  # dropout of this step, also after a resume
        tokens = sum(batch.token_count for batch in batches)
        norm = torch.zeros(())
        if tokens:
            loss = sum(self.backward(batch, tokens) for batch in batches if len(batch.pixels))
            norm = clip_grad_norm_(self.model.parameters(), optim.clip_norm or math.inf)
            self.check_finite(loss, float(norm))
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            progress.loss_sum, progress.epoch_loss_sum = progress.loss_sum + loss, progress.epoch_loss_sum + loss
        if self.average is not None:
            update_average(self.average, self.model, progress.step, optim.ema_decay)
        progress.token_count, progress.epoch_token_count = progress.token_count + tokens, progress.epoch_token_count + tokens
        progress.step, progress.batch = progress.step + 1, progress.batch + len(batches)
        progress.pictures += sum(len(batch.pixels) for batch in batches)
        return float(norm)

    def backward(self, batch: Batch, tokens: int) -> float:
        """Add the gradient of this batch's share of the mean over `tokens`; returns its summed loss."""
        loss, _ = self.loss(self.model, batch)
        (loss / tokens).backward()
        return float(loss.detach())

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        """Summed loss and scored tokens of a batch."""
        on_device = batch.to(self.device)
        pixel_values = normalize(on_device.pixels, self.prepared.model.config.image)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = model(pixel_values, on_device.input_ids, on_device.attention_mask, on_device.labels)
        return out.loss, batch.token_count

    def check_finite(self, loss: float, norm: float) -> None:
        """A step that is not a number must not reach the weights."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise CutlineError(
                f"the loss became {loss} and its gradient {norm} at step {self.progress.step + 1}; "
                f"{self.folder} keeps the state before it: lower `optim.lr` or set `optim.clip_norm`, and go on with --resume"
            )

    @torch.no_grad()
    def validation_loss(self, watch: Callable[[Iterator[Batch], int], Iterable[Batch]]) -> tuple[float, list[str]]:
        """Mean loss of the validation references, without augmentation, and which pictures could not be read.

        `watch` passes the batches on.
        """
        rows = make_rows(self.recipe, self.prepared.val, self.prepared.tokenizer, self.model.config, augmented=False)
        size = self.recipe.eval.batch_size
        keys = ([(0, row) for row in range(first, min(first + size, len(rows)))] for first in range(0, len(rows), size))
        model, loss_sum, tokens = self.result.eval(), 0.0, 0
        skipped: list[str] = []
        batches = load_batches(rows, keys, self.prepared.tokenizer.pad_id, 0)
        for batch in watch(batches, math.ceil(len(rows) / size)):
            skipped += batch.skipped
            if len(batch.pixels):
                loss, count = self.loss(model, batch)
                loss_sum, tokens = loss_sum + float(loss), tokens + count
        self.model.train()
        if not tokens:
            raise DataError("none of the validation pictures can be read")
        return loss_sum / tokens, skipped
