"""Checkpoints: cutline folders, BLIP's .pth files, Hugging Face folders and hub ids."""

from cutline.checkpoint.checkpoint import (
    Checkpoint,
    build_empty_model,
    build_matcher,
    build_model,
    compute_weight_shapes,
)
from cutline.checkpoint.huggingface_usage import format_usage
from cutline.checkpoint.load import (
    find_kinds,
    find_local_folder,
    is_matcher,
    load_checkpoint,
    load_config,
    load_matcher_checkpoint,
    load_tokenizer,
)
from cutline.checkpoint.locate import CheckpointFormat
from cutline.checkpoint.names import HUGGINGFACE, SALESFORCE
from cutline.checkpoint.native import NATIVE_FILES, save_native, save_native_folders
from cutline.checkpoint.onnx_folder import GraphPrecision, OnnxFolder
from cutline.checkpoint.pretrained import (
    LoadReport,
    load_pretrained_text,
    load_pretrained_vision,
)
from cutline.checkpoint.save import check_destination, save_checkpoint
from cutline.checkpoint.source import CheckpointSource
from cutline.checkpoint.weights import export_weights, import_weights

__all__ = [
    "HUGGINGFACE",
    "NATIVE_FILES",
    "SALESFORCE",
    "Checkpoint",
    "CheckpointFormat",
    "CheckpointSource",
    "GraphPrecision",
    "LoadReport",
    "OnnxFolder",
    "build_empty_model",
    "build_matcher",
    "build_model",
    "check_destination",
    "compute_weight_shapes",
    "export_weights",
    "find_kinds",
    "find_local_folder",
    "format_usage",
    "import_weights",
    "is_matcher",
    "load_checkpoint",
    "load_config",
    "load_matcher_checkpoint",
    "load_pretrained_text",
    "load_pretrained_vision",
    "load_tokenizer",
    "save_checkpoint",
    "save_native",
    "save_native_folders",
]
