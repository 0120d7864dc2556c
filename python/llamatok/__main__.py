"""`python -m llamatok`: the command line."""

import sys

from llamatok.cli import main

if __name__ == "__main__":
    sys.exit(main())
