"""How many examples the property tests try: in `make test` a few, always the same; in `make explore` many, and new ones every time.

`explore` is chosen by the variable HYPOTHESIS_PROFILE; XDS_EXPLORE_TIMES says how many times as many examples it tries.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "xds")
_TIMES = int(os.environ.get("XDS_EXPLORE_TIMES", "20"))


def examples(usual: int) -> int:
    """How many examples a test tries that tries this many in `make test`. For tests that do not take the default of 100."""
    return usual * _TIMES if _PROFILE == "explore" else usual


def load_profile() -> None:
    """To be called before a test module is imported. A change is judged by itself in `make test`, not by what luck finds today."""
    settings.register_profile("xds", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, derandomize=True)
    settings.register_profile("explore", settings.get_profile("xds"), derandomize=False, max_examples=examples(100), database=None)
    settings.load_profile(_PROFILE)
