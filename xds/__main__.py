"""`python -m xds`, and what the command `xds` calls."""

from __future__ import annotations

import sys

from xds.cli import main

if __name__ == "__main__":
    sys.exit(main())
