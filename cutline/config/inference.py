"""How a captioner is run."""

from typing import Literal

InferencePrecision = Literal["auto", "fp32", "bf16", "int8"]
"""auto is bf16 where the processor multiplies it in hardware, else fp32; int8 is for CPUs"""

Engine = Literal["plain", "packed", "compiled", "openvino"]
"""plain leaves the model as it is; packed lays its weights out for the processor; compiled and openvino also hand the
encoder to PyTorch's compiler or to OpenVINO"""
