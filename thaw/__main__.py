"""The command `thaw STAGE`, which `python -m thaw` and `python -m pipeline` are too."""

import shlex
import sys


def main() -> None:
    """Run one command line and exit with its code."""
    try:
        from thaw.pipeline.cli import run
    except ModuleNotFoundError as missing:
        sys.exit(
            f"error: this Python ({sys.executable}) has no {missing.name}; expected the project's own Python: "
            f"type .venv/bin/thaw {shlex.join(sys.argv[1:])} (make setup makes it)"
        )
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
