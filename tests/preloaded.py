"""What forked processes have imported already; see `forked`."""

import gc
from contextlib import suppress
from importlib import import_module

MODULES = (
    *("cutline.training", "cutline.bulk.collection", "cutline.capfilt", "cutline.retrieval"),
    *("cutline.cli", "torch._dynamo", "torch.distributed.fsdp"),  # which any training run imports
    *("cutline.check", "cutline.explanation.output", "cutline.serving.server", "typeguard"),
    *("forked_server", "stopped_runs"),
)

# Nothing of this is garbage: to look for none, now or later, saves each process time.
gc.disable()
for name in MODULES:
    with suppress(ImportError):  # of an extra that is not installed
        import_module(name)
gc.freeze()
gc.enable()
