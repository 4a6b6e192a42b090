"""Every collected manifest: `make wild`. Arguments are those of the runner, such as `--sample neutral`.

Exit code 1 if something crashes.
"""

from __future__ import annotations

import sys

from tests.wild import snippets
from tests.wild.running import run, why_not

if __name__ == "__main__":
    if not why_not():
        print(snippets.report(), flush=True)
    sys.exit(why_not() or run(sys.argv[1:], quiet=False)[0])
