"""The image encoder as one compiled graph, kept on disk so that only the first start waits for the compiler."""

import hashlib
import inspect
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cutline.config import VisionConfig
from cutline.errors import ConfigError
from cutline.files import atomic_write
from cutline.model.vision import VisionTransformer

Run = Callable[[Tensor], Tensor]
T = TypeVar("T")

logger = logging.getLogger(__name__)


class CompiledVision(nn.Module):
    """An image encoder that is a graph and no longer layers: it can only be run."""

    def __init__(
        self, config: VisionConfig, run: Run, weights: dict[str, Tensor] | None = None
    ) -> None:
        """run: pixel_values (B, 3, S, S) -> image_embeds (B, N, D). weights: what it reads; they live as long as it does."""
        super().__init__()
        self.config = config
        self.run = run
        self.weights = weights

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (B, 3, S, S) -> image_embeds (B, N, D). Raises ValueError for another image size."""
        size = self.config.image_size
        if pixel_values.shape[1:] != (3, size, size):  # the graph itself would not notice
            raise ValueError(
                f"the model takes images of {size} x {size}, not {tuple(pixel_values.shape[-2:])}"
            )
        return self.run(pixel_values.contiguous())


def compile_vision(vision: VisionTransformer) -> nn.Module:
    """`vision` compiled for the device and precision it is in; in fp32 both share their weights.

    Raises:
        ConfigError: there is no C++ compiler, or no folder to keep the graph in.
    """
    if vision.pos_embed.is_cuda:
        vision.compile(dynamic=False, fullgraph=True)
        return vision
    frozen = (
        vision.pos_embed.dtype == torch.bfloat16
    )  # then oneDNN packs the weights, once, into the file
    path = graph_file(
        "vision",
        ".pt2",
        torch.get_num_threads(),
        frozen and fingerprint_vision(vision),
        *graph_parts(vision),
    )
    graph = kept(
        path, torch._inductor.aoti_load_package, lambda file: compile_graph(vision, frozen, file)
    )
    weights = None if frozen else dict(vision.state_dict())
    if weights:
        graph.load_constants(weights, check_full_update=False, user_managed=True)
    return CompiledVision(vision.config, graph, weights)


def compile_graph(vision: VisionTransformer, frozen: bool, file: Path) -> None:
    """Write the compiled graph of `vision` to `file`, with its weights if `frozen`."""
    check_compiler()
    logger.info("compiling the image encoder for this machine: about half a minute, once")
    options = {"freezing": frozen, "aot_inductor.package_constants_in_so": frozen}
    exported = export_vision(vision)
    with file.open("wb") as archive, quiet_torch():
        torch._inductor.aoti_compile_and_package(
            exported, package_path=archive, inductor_configs=options
        )


def check_compiler() -> None:
    """Raise ConfigError where PyTorch finds no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ConfigError(
            'the engine "compiled" needs a C++ compiler: install g++, or use the engine "packed"'
        ) from None


def export_vision(vision: VisionTransformer) -> torch.export.ExportedProgram:
    """The graph of `vision` for any number of images."""
    size, weight = vision.config.image_size, vision.pos_embed
    pixels = torch.zeros(
        2, 3, size, size, dtype=weight.dtype, device=weight.device
    )  # 2: an example of 1 would be taken for a constant
    batch = torch.export.Dim("batch", min=1, max=2**16)
    with torch.no_grad(), quiet_torch():
        return torch.export.export(vision, (pixels,), dynamic_shapes=({0: batch},), strict=True)


@contextmanager
def quiet_torch() -> Iterator[None]:
    """Without what PyTorch, while it exports and compiles, has to say about its own code."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def kept(path: Path, load: Callable[[Path], T], make: Callable[[Path], None]) -> T:
    """What `load` reads from `path`, which `make` writes where it is absent or cannot be read."""
    if path.exists():
        try:
            return load(path)
        except RuntimeError:  # what PyTorch and OpenVINO raise for a damaged file
            logger.info("%s cannot be read and is made anew", path)
    with atomic_write(path) as file:
        make(file)
    return load(path)


def graph_file(name: str, suffix: str, *parts: object) -> Path:
    """The file of a graph that depends on `parts`, in the cache folder. Raises ConfigError if that cannot be made."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error.strerror}; set CUTLINE_CACHE to a folder in which compiled graphs can be kept"
        ) from None
    key = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
    return folder / f"{name}-{key[:32]}{suffix}"


def cache_folder() -> Path:
    """$CUTLINE_CACHE, else `cutline` among the user's caches."""
    own, caches = os.environ.get("CUTLINE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(caches) if caches else Path.home() / ".cache") / "cutline"


def graph_parts(vision: VisionTransformer) -> list[Any]:
    """What every graph of `vision` depends on: sizes, precision, code, PyTorch and the processor."""
    code = {
        inspect.getsource(inspect.getmodule(type(module)) or type(module))
        for module in vision.modules()
    }
    return [
        vision.config,
        vision.pos_embed.dtype,
        *sorted(code),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        processor(),
    ]


def processor() -> str:
    """Model and features of the processor: the compiler uses all it finds."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return platform.processor() + "".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})
    )


def fingerprint_vision(vision: VisionTransformer) -> str:
    """SHA-256 of the weights."""
    digest = hashlib.sha256()
    for weight in vision.state_dict().values():
        digest.update(weight.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
