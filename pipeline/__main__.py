"""`python -m pipeline STAGE`, the command `thaw` in a checkout."""

from thaw.__main__ import main

if __name__ == "__main__":
    main()
