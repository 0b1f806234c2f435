"""`python -m tinygen` is the command `tinygen`."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
