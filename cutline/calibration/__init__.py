"""Calibrate a captioner: how often words of some confidence are right, by references."""

from cutline.calibration.report import write_calibration_report
from cutline.calibration.run import CalibrationResult, JudgedCaption, calibrate

__all__ = ["CalibrationResult", "JudgedCaption", "calibrate", "write_calibration_report"]
