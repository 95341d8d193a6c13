"""`python -m pipeline STAGE`."""

import sys

from pipeline.cli import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
