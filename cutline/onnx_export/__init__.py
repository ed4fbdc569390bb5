"""ONNX export: a captioner as two graphs, with a script and a page that run them."""

from cutline.onnx_export.folder import check_onnx_export, save_onnx

__all__ = ["check_onnx_export", "save_onnx"]
