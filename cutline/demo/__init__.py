"""The demo: draw_scene scenes, train a small captioner on them, evaluate it and write a report."""
