"""A process that trains a captioner: every line on stdin starts a step, answered by a JSON line.

    python train_worker.py '{"library": "cutline", "precision": "fp32", …}'

Both libraries get the same weights, images and labels, and AdamW.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from cold_start import memory_mib

from cutline.config import CaptionConfig, Recipe, from_dict
from cutline.model import make_lm_labels
from cutline.tokenizer import Tokenizer
from cutline.training.data.caption_batch import CaptionBatch

Step = Callable[[CaptionBatch], float]


@dataclass(frozen=True)
class Worker:
    """What to train."""

    name: str
    library: Literal["cutline", "transformers"]
    precision: Literal["fp32", "bf16"]
    folder: str
    """what `inputs.write_model` wrote"""
    images: int
    captions: int = 1
    """captions per image; transformers encodes the image once for each of them"""
    settings: tuple[tuple[str, Any], ...] = ()
    """settings of the `Recipe`"""

    def to_json(self) -> str:
        """Return the argument of the process."""
        return json.dumps(asdict(self))


def make_batch(
    number: int, config: CaptionConfig, tokenizer: Tokenizer, images: int, captions: int
) -> CaptionBatch:
    """Return random images with captions of ten random tokens after the prompt."""
    generator = torch.Generator().manual_seed(number)
    size, prompt = config.vision.image_size, tokenizer.encode_prompt(config.prompt)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    length = len(prompt) + 11  # ten tokens and the end token
    ids = torch.randint(
        100, config.text.vocab_size - 2, (images * captions, length), generator=generator
    )
    ids[:, : len(prompt)], ids[:, -1] = torch.tensor(prompt), tokenizer.sep_id
    mask = torch.ones_like(ids)
    labels = make_lm_labels(ids, mask, torch.full((len(ids),), len(prompt)))
    return CaptionBatch(pixels=pixels, input_ids=ids, attention_mask=mask, labels=labels)


def cutline_step(worker: Worker) -> tuple[Step, CaptionConfig, Tokenizer]:
    """Return a step of cutline's trainer."""
    from cutline.checkpoint import build_model, load_checkpoint
    from cutline.training.loop.totals import sync_totals
    from cutline.training.loop.trainer import Trainer
    from cutline.training.setup import RunSetup
    from cutline.training.tasks import make_task

    checkpoint = load_checkpoint(Path(worker.folder) / "cutline")
    config = without_dropout(checkpoint.config)
    settings = {
        "precision": worker.precision,
        "device": "cpu",
        "optim": {"batch_size": worker.images, "schedule": "constant"},
    }
    recipe = from_dict(Recipe, settings | dict(worker.settings))
    model = build_model(replace(checkpoint, config=config))
    rows: Any = range(worker.images)
    setup = RunSetup(model, checkpoint.tokenizer, rows, [], [], make_task(recipe))
    trainer = Trainer(recipe, setup, Path(), resume=False)

    def step(batch: CaptionBatch) -> float:
        before = trainer.state.loss_sum
        totals = sync_totals([batch], stop=False, save=False)
        trainer.train_step([batch], totals)
        return (trainer.state.loss_sum - before) / totals.targets

    return step, config, checkpoint.tokenizer


def transformers_step(worker: Worker) -> tuple[Step, CaptionConfig, Tokenizer]:
    """Return a step of the usual loop around `BlipForConditionalGeneration`."""
    import transformers

    from cutline.checkpoint import load_checkpoint
    from cutline.image import normalize

    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    checkpoint = load_checkpoint(Path(worker.folder) / "cutline")
    blip: Any = transformers.BlipForConditionalGeneration
    model = blip.from_pretrained(Path(worker.folder) / "huggingface").train()
    model.text_decoder.label_smoothing = checkpoint.config.label_smoothing
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.05, fused=True)
    config, tokenizer = without_dropout(checkpoint.config), checkpoint.tokenizer
    del checkpoint

    def step(batch: CaptionBatch) -> float:
        pixel_values = normalize(batch.pixels, config.image).repeat_interleave(
            len(batch.input_ids) // len(batch.pixels), 0
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=worker.precision == "bf16"):
            loss = model(
                pixel_values=pixel_values,
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                labels=batch.labels,
            ).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return step, config, tokenizer


def without_dropout(config: CaptionConfig) -> CaptionConfig:
    """Return `config` without dropout, so that both libraries have the same loss."""
    return replace(
        config,
        text=replace(config.text, dropout=0.0, attn_dropout=0.0),
        vision=replace(config.vision, drop_path=0.0),
    )


def main() -> None:
    """Answer every line with the seconds, the loss and the memory of a step."""
    values = json.loads(sys.argv[1])
    worker = Worker(
        **{**values, "settings": tuple((name, value) for name, value in values["settings"])}
    )
    step, config, tokenizer = (cutline_step if worker.library == "cutline" else transformers_step)(
        worker
    )
    for number, _ in enumerate(sys.stdin):
        batch = make_batch(number, config, tokenizer, worker.images, worker.captions)
        begin = time.perf_counter()
        loss = step(batch)
        answer = {
            "seconds": time.perf_counter() - begin,
            "loss": loss,
            "peak_mib": memory_mib("VmHWM"),
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
