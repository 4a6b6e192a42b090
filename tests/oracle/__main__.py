"""Every recorded answer: `make oracle`. Arguments are those of the player, such as `--only 'cors*'`.

Exit code 1 if an answer differs that is not among the expected differences.
"""

from __future__ import annotations

import sys

from tests.oracle.playing import play, recorded, why_not

if __name__ == "__main__":
    sys.exit(why_not() or play(recorded(), arguments=sys.argv[1:], quiet=False)[0])
