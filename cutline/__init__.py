"""cutline: train, run, measure and serve BLIP image captioners."""
