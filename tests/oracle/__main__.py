"""Every recorded answer: `make oracle`. Arguments are those of the player, such as `--only 'cors*'`.

Exit code 1 if an answer differs that is not among the expected differences; with `--stale`, if one of these is not needed any more.
"""

from __future__ import annotations

import sys

from tests.oracle.playing import play, recorded, stale, why_not


def main(arguments: list[str]) -> int | str:
    """The exit code, or why there is none."""
    if absent := why_not():
        return absent
    if "--stale" not in arguments:
        return play(recorded(), arguments=arguments, quiet=False)[0]
    _, printed = play(recorded(), arguments=[each for each in arguments if each != "--stale"], forgiving=False)
    found = stale(printed)
    print(*found, *printed.splitlines()[-1:], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
