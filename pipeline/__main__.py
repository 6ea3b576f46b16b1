"""``python -m pipeline VERB``."""

import sys

try:
    from pipeline.cli import main
except ModuleNotFoundError as e:  # Python would end with 1, and that is a judgement
    print(f"error: {e.name} is not installed for this Python ({sys.executable})", file=sys.stderr)
    print("what to do: run it by nox, or `pip install -e .` in the checkout", file=sys.stderr)
    sys.exit(4)

main()
