"""The demo: a captioner trained on drawn scenes, so that every caption can be checked."""
