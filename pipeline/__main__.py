"""`python -m pipeline STAGE`."""

import shlex
import sys

if __name__ == "__main__":
    try:
        from thaw.pipeline.cli import run
    except ModuleNotFoundError as missing:
        sys.exit(
            f"error: this Python ({sys.executable}) has no {missing.name}; expected that of the project: "
            f"type .venv/bin/python -m pipeline {shlex.join(sys.argv[1:])} (make setup makes it)"
        )
    sys.exit(run(sys.argv[1:]))
