"""The machine the pipeline runs on: its tools, its container engine, the images made there."""
