"""Checkpoints: cutline folders, BLIP's .pth files, Hugging Face folders and hub ids."""

from cutline.checkpoint.load import (
    CheckpointFormat,
    build_model,
    load_checkpoint,
    load_config,
    load_tokenizer,
    save_checkpoint,
)
from cutline.checkpoint.names import HUGGINGFACE, SALESFORCE
from cutline.checkpoint.native import NATIVE_FILES, save_native
from cutline.checkpoint.pretrained import LoadReport, load_pretrained_text, load_pretrained_vision
from cutline.checkpoint.weights import (
    Checkpoint,
    compute_weight_shapes,
    export_weights,
    import_weights,
)

__all__ = [
    "HUGGINGFACE",
    "NATIVE_FILES",
    "SALESFORCE",
    "Checkpoint",
    "CheckpointFormat",
    "LoadReport",
    "build_model",
    "compute_weight_shapes",
    "export_weights",
    "import_weights",
    "load_checkpoint",
    "load_config",
    "load_pretrained_text",
    "load_pretrained_vision",
    "load_tokenizer",
    "save_checkpoint",
    "save_native",
]
