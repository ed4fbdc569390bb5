"""Filter the texts of images by their scores, and add synthetic ones before: BLIP's CapFilt."""

from cutline.capfilt.job import FilterJob
from cutline.capfilt.run import FilterSettings, filter_captions, run_filter

__all__ = ["FilterJob", "FilterSettings", "filter_captions", "run_filter"]
