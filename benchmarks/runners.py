"""The libraries that are measured: cutline and transformers, in every precision and engine.

A library is imported when it is loaded, so that a new process imports only the one it measures.
"""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

Images = Sequence[npt.NDArray[np.uint8]] | Sequence[Path]
TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class Search:
    """Search settings: every caption has `length` tokens, start token and prompt included."""

    num_beams: int = 3
    length: int = 20


@dataclass(frozen=True)
class Runner:
    """A library with a precision and an engine."""

    library: Literal["cutline", "transformers"]
    precision: Literal["fp32", "bf16", "int8"]
    engine: Literal["eager", "packed", "compiled", "openvino", "onnx"] = "packed"
    merge_tokens: int = 0
    """visual tokens that cutline merges in each block"""

    @property
    def name(self) -> str:
        """Return the display name, such as "cutline bf16 compiled"."""
        return " ".join(
            [self.library, self.precision, *([] if self.engine == "packed" else [self.engine])]
        )


RUNNERS = (
    Runner("cutline", "fp32"),
    Runner("cutline", "bf16"),
    Runner("cutline", "int8"),
    Runner("cutline", "fp32", "eager"),
    Runner("cutline", "fp32", "compiled"),
    Runner("cutline", "bf16", "compiled"),
    Runner("cutline", "fp32", "openvino"),
    Runner("cutline", "bf16", "openvino"),
    Runner("cutline", "fp32", "onnx"),
    Runner("cutline", "int8", "onnx"),
    Runner("transformers", "fp32"),
    Runner("transformers", "bf16"),
)
CUTLINE_FP32, TRANSFORMERS_FP32, TRANSFORMERS_BF16 = (
    "cutline fp32",
    "transformers fp32",
    "transformers bf16",
)


def find_runner(name: str) -> Runner:
    """Return the runner `name`, its words joined by spaces or hyphens; exit if there is none."""
    for runner in RUNNERS:
        if runner.name == name.strip().replace("-", " "):
            return runner
    names = ", ".join(runner.name.replace(" ", "-") for runner in RUNNERS)
    raise SystemExit(f"no runner is called {name!r}; there are {names}")


class LoadedRunner(Protocol):
    """A loaded captioner. Only `caption` is timed."""

    def prepare(self, images: Images) -> Any:
        """Convert images to the input of `caption`."""

    def caption(self, images: Any, batch: int, search: Search) -> list[TokenIds]:
        """Return the tokens of the best caption of each image, without prompt and end token."""


def load_runner(runner: Runner, folder: Path) -> LoadedRunner:
    """Load the captioner in the `folder` that `write_model` wrote.

    Raises:
        CutlineError: The machine does not support the runner.
        ImportError: A package is not installed.
    """
    return (Cutline if runner.library == "cutline" else Transformers)(runner, folder)


class Cutline:
    """The public interface of cutline: arrays or files in, captions out."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        import cutline

        engine: dict[str, Any] = {} if runner.engine == "packed" else {"engine": runner.engine}
        load: Any = cutline.load
        has_graphs = runner.engine == "onnx"
        model = convert_to_onnx(folder, runner.precision) if has_graphs else folder / "cutline"
        self.captioner = load(
            model,
            device="cpu",
            precision=runner.precision,
            merge_tokens=runner.merge_tokens,
            **engine,
        )

    def prepare(self, images: Images) -> Images:
        """Return `images`: opening them is part of the work."""
        return images

    def caption(self, images: Images, batch: int, search: Search) -> list[TokenIds]:
        """Return the tokens of the best caption of each image."""
        length = {"max_length": search.length, "min_length": search.length}
        return [
            caption.token_ids
            for caption in self.captioner.caption(
                images, batch_size=batch, num_beams=search.num_beams, **length
            )
        ]


def convert_to_onnx(folder: Path, precision: str) -> Path:
    """Return the folder of ONNX graphs, which are made once, in a process of their own.

    Raises:
        CutlineError: A package is missing.
    """
    from cutline.errors import CutlineError

    graphs = folder / f"onnx-{precision}"
    if not graphs.exists():
        command = [sys.executable, "-m", "cutline", "convert", folder / "cutline", graphs]
        flags = ["--to", "onnx", *(["--int8"] if precision == "int8" else [])]
        result = subprocess.run([*command, *flags], capture_output=True, text=True)
        if result.returncode:
            raise CutlineError(result.stderr.strip())
    return graphs


class Transformers:
    """`BlipForConditionalGeneration.generate` on prepared tensors, in whole batches.

    Its BLIP supports only eager attention, not `sdpa`.
    """

    def __init__(self, runner: Runner, folder: Path) -> None:
        import torch
        import transformers

        from cutline.tokenizer import Tokenizer

        logging: Any = transformers.utils.logging
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.dtype = torch.bfloat16 if runner.precision == "bf16" else torch.float32
        blip: Any = transformers.BlipForConditionalGeneration.from_pretrained(
            folder / "huggingface"
        )
        self.model = blip.to(self.dtype).eval()
        tokenizer = Tokenizer.load(folder / "huggingface")
        # `generate` drops the last id of a prompt as the end token
        self.prompt, self.end = (
            [*tokenizer.encode_prompt("a picture of "), tokenizer.sep_id],
            tokenizer.sep_id,
        )

    def prepare(self, images: Images) -> Any:
        """Return pixel_values (B, 3, S, S) of images of the model's size."""
        import torch

        from cutline.config import ImageConfig
        from cutline.image import normalize

        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(
            0, 3, 1, 2
        )
        return normalize(pixels, ImageConfig()).to(self.dtype).contiguous()

    def caption(self, images: Any, batch: int, search: Search) -> list[TokenIds]:
        """Return the tokens of the best caption of each image."""
        return [
            self._tokens(row)
            for pixels in images.split(batch)
            for row in self._generate(pixels, search)
        ]

    def _generate(self, pixels: Any, search: Search) -> list[list[int]]:
        import torch

        prompts = torch.tensor([self.prompt]).repeat(len(pixels), 1)
        length = {"max_length": search.length, "min_length": search.length}
        with torch.inference_mode():
            rows = self.model.generate(
                pixels, prompts, num_beams=search.num_beams, do_sample=False, **length
            )
        return rows.tolist()  # type: ignore[no-any-return]

    def _tokens(self, row: list[int]) -> TokenIds:
        new = row[len(self.prompt) - 1 :]
        return tuple(new[: new.index(self.end)] if self.end in new else new)
