"""The directory of a training run: recipe, log, run information and report."""
