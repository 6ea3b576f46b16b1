"""Ratios the pipeline is held to, each measured in one run."""
