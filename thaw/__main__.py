"""The command `thaw STAGE`, which `python -m thaw` and `python -m pipeline` are too."""

import sys


def main() -> None:
    """Run one command line and exit with its code."""
    from thaw.pipeline.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
