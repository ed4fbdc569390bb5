"""Diagnostics of a recipe: short runs that answer one question and save no checkpoint."""
