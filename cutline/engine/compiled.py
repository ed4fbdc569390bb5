"""The vision encoder as a compiled graph, which is cached on disk: compilation happens once."""

import hashlib
import inspect
import logging
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import BaseFileLock, FileLock, Timeout
from torch import Tensor, nn

from cutline.config import VisionConfig
from cutline.engine.module import InferenceModule
from cutline.errors import ConfigError
from cutline.files import atomic_write
from cutline.model import token_merging
from cutline.model.vision import VisionTransformer, check_image_size

RunGraph = Callable[[Tensor], Tensor]
"""pixel_values (B, 3, S, S) -> image_embeds"""
T = TypeVar("T")

logger = logging.getLogger(__name__)


class CompiledVision(InferenceModule):
    """A vision encoder that is a compiled graph instead of layers."""

    def __init__(
        self, config: VisionConfig, run_graph: RunGraph, weights: dict[str, Tensor] | None = None
    ) -> None:
        """Wrap a graph.

        Args:
            config: Sizes of the encoder.
            run_graph: The graph.
            weights: Weights that the graph reads but does not own, to keep them in memory.
        """
        super().__init__()
        self.config = config
        self.run_graph = run_graph
        self.weights = weights

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Map pixel_values (B, 3, S, S) to image_embeds, as `VisionTransformer` does.

        Raises:
            ValueError: The images have another size.
        """
        check_image_size(pixel_values, self.config.image_size)  # the graph itself does not check
        return self.run_graph(pixel_values.contiguous())


def compile_vision(vision: VisionTransformer) -> nn.Module:
    """Compile the encoder for its device and precision; in fp32, the result shares its weights.

    Raises:
        ConfigError: There is no C++ compiler, or the cache directory cannot be created.
    """
    if vision.pos_embed.is_cuda:
        vision.compile(dynamic=False, fullgraph=True)
        return vision
    # In bf16, oneDNN packs the weights, which are then constants in the file of the graph.
    frozen = vision.pos_embed.dtype == torch.bfloat16
    # A graph without its own weights is shared by all models with these sizes.
    weights_key = frozen and fingerprint_vision(vision)
    path = graph_path(
        "vision", ".pt2", torch.get_num_threads(), weights_key, *graph_dependencies(vision)
    )
    graph = load_or_build(
        path,
        load=torch._inductor.aoti_load_package,
        build=lambda file: compile_graph(vision, frozen, file),
    )
    weights = None if frozen else dict(vision.state_dict())
    if weights:
        graph.load_constants(weights, check_full_update=False, user_managed=True)
    return CompiledVision(vision.config, graph, weights)


def compile_graph(vision: VisionTransformer, frozen: bool, file: Path) -> None:
    """Write the compiled graph of the encoder to `file`, including its weights if `frozen`."""
    check_compiler()
    logger.info("compiling the vision encoder for this machine: about half a minute, once")
    options = {"freezing": frozen, "aot_inductor.package_constants_in_so": frozen}
    exported = export_vision(vision)
    with file.open("wb") as archive, silence_torch():
        torch._inductor.aoti_compile_and_package(
            exported, package_path=archive, inductor_configs=options
        )


def check_compiler() -> None:
    """Raise ConfigError if PyTorch finds no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ConfigError(
            'engine "compiled" needs a C++ compiler: install g++, or use engine "packed"'
        ) from None


def export_vision(vision: VisionTransformer) -> torch.export.ExportedProgram:
    """Export the graph of the encoder for any number of images."""
    size, weight = vision.config.image_size, vision.pos_embed
    # Two images, because torch.export takes a batch size of 1 for a constant.
    pixels = torch.zeros(2, 3, size, size, dtype=weight.dtype, device=weight.device)
    batch = torch.export.Dim("batch", min=1, max=2**16)
    with torch.no_grad(), silence_torch():
        return torch.export.export(vision, (pixels,), dynamic_shapes=({0: batch},), strict=True)


@contextmanager
def silence_torch() -> Iterator[None]:
    """Suppress the deprecation warnings that PyTorch raises in its own code in this block."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
        yield


def load_or_build(path: Path, load: Callable[[Path], T], build: Callable[[Path], None]) -> T:
    """Load `path`, which `build` writes first if it is missing or damaged.

    One process builds it while others wait: in PyTorch's own cache, which they share, two that
    compile the same graph at the same time write broken files.
    """
    graph = _load_if_valid(path, load)
    if graph is not None:
        return graph
    with _acquire(FileLock(path.with_name(f".{path.name}.lock"))):
        graph = _load_if_valid(path, load)  # another process may have built it meanwhile
        if graph is None:
            with atomic_write(path) as file:
                build(file)
            graph = load(path)
    return graph


def _acquire(lock: BaseFileLock) -> AbstractContextManager[object]:
    """Wait for a lock, and return a context that releases it."""
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("waiting for another process, which holds %s", lock.lock_file)
        return lock.acquire()


def _load_if_valid(path: Path, load: Callable[[Path], T]) -> T | None:
    """Return None if the file is missing or damaged."""
    if path.exists():
        try:
            return load(path)
        except Exception:  # PyTorch and OpenVINO raise errors of several types
            logger.info("%s cannot be read and is built again", path)
    return None


def graph_path(name: str, suffix: str, *dependencies: object) -> Path:
    """Return the path of a graph, which is named after a hash of its dependencies.

    Raises:
        ConfigError: The cache directory cannot be created.
    """
    directory = cache_dir()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{directory}: {error.strerror}; "
            "set CUTLINE_CACHE to a writable directory for compiled graphs"
        ) from None
    key = hashlib.sha256("\n".join(map(str, dependencies)).encode()).hexdigest()
    return directory / f"{name}-{key[:32]}{suffix}"


def cache_dir() -> Path:
    """Return $CUTLINE_CACHE, else `cutline` in the user's cache directory.

    Raises:
        ConfigError: The user has no home directory.
    """
    if directory := os.environ.get("CUTLINE_CACHE"):
        return Path(directory)
    if user_caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(user_caches) / "cutline"
    try:
        return Path.home() / ".cache" / "cutline"
    except RuntimeError:
        raise ConfigError(
            "there is no home directory; set CUTLINE_CACHE to a directory for compiled graphs"
        ) from None


def graph_dependencies(vision: VisionTransformer) -> list[Any]:
    """List what a graph depends on besides weights: sizes, precision, code, PyTorch and CPU."""
    code = {inspect.getsource(token_merging)} | {
        inspect.getsource(inspect.getmodule(type(module)) or type(module))
        for module in vision.modules()
    }
    return [
        vision.config,
        vision.merge_tokens,
        vision.pos_embed.dtype,
        *sorted(code),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        identify_cpu(),
    ]


def identify_cpu() -> str:
    """Return model name and feature flags of the CPU, which determine the compiled code."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    features = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return platform.processor() + "".join(sorted(features))


def fingerprint_vision(vision: VisionTransformer) -> str:
    """Return the SHA-256 of the encoder's weights."""
    digest = hashlib.sha256()
    for weight in vision.state_dict().values():
        digest.update(weight.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
