"""Fixtures shared by all tests."""

import gc
import os
import signal
from collections.abc import Callable, Iterator

# One thread per test process; set before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from importlib.util import find_spec
from pathlib import Path

import pytest
from golden_folder import GoldenFolder
from hypothesis import settings

# Tests import so much, none of it garbage, that looking for some takes a quarter of the time.
gc.disable()  # until `pytest_collection_finish`

# Tests send themselves and their processes a Ctrl-C, which is ignored in the background of a shell.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples take longer on a slow or busy machine, which is no reason to fail.
settings.register_profile("cutline", deadline=None)
settings.load_profile("cutline")

# The oldest versions of cutline's dependencies are too old for transformers.
collect_ignore = []
if find_spec("transformers") is None:
    collect_ignore += [
        "generation/test_generate_transformers.py",
        "tokenizer/test_read_tokenizer.py",
        "tokenizer/test_tokenizer.py",
    ]
if find_spec("fastapi") is None:  # tests of the oldest versions do not install the server
    collect_ignore += ["client", "serving", "test_deploy.py"]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use one more process than there are cores: many tests wait for a process of their own."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """Collect garbage from now on, though seldom, and not among what has been imported."""
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of larger fixtures; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("CUTLINE_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "fixtures").is_dir():
        pytest.skip(f"no fixtures in {folder}: set CUTLINE_SHARED to run this test")
    return folder


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """Collect no garbage: hypothesis is called then, and fails if the stack is nearly full."""
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int | None], None]]:
    """Return a function that limits the size of files in bytes; None lifts the limit.

    It simulates a full disk: the real system call fails. Tests that need it skip on Windows.
    """
    resource = pytest.importorskip("resource", reason="Windows cannot limit the size of files")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int | None) -> None:
        soft = limits[0] if size is None else size
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, limits[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture(scope="session", params=["salesforce-micro", "salesforce-tiny"])
def golden_folder(request: pytest.FixtureRequest) -> GoldenFolder:
    """Return a reference captioner: the committed one always, the larger where it is present."""
    return find_golden_folder(request)


@pytest.fixture(scope="session", params=["salesforce-itm-micro", "salesforce-itm-tiny"])
def golden_matcher(request: pytest.FixtureRequest) -> GoldenFolder:
    """Return a reference matcher: the committed one always, the larger where it is present."""
    return find_golden_folder(request)


def find_golden_folder(request: pytest.FixtureRequest) -> GoldenFolder:
    if request.param.endswith("micro"):
        return GoldenFolder(Path(__file__).parent / "golden" / request.param)
    shared: Path = request.getfixturevalue("shared")
    return GoldenFolder(shared / "fixtures" / request.param)
