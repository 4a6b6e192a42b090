"""How many examples the property tests try: in `make test` a few, always the same; in `make explore` many, and new ones every time.

`explore` is chosen by the variable HYPOTHESIS_PROFILE; XDS_EXPLORE_TIMES says how many times as many examples it tries.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "xds")
EXPLORES = _PROFILE == "explore"
"""Whether examples are new ones every time."""
_TIMES = int(os.environ.get("XDS_EXPLORE_TIMES", "20"))


def examples(usual: int) -> int:
    """How many examples a test tries that tries this many in `make test`. For tests that do not take the default of 100."""
    return usual * _TIMES if EXPLORES else usual


def load_profile() -> None:
    """To be called before a test module is imported. A change is judged by itself in `make test`, not by what luck finds today."""
    settings.register_profile("xds", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True, derandomize=True)
    settings.register_profile("explore", settings.get_profile("xds"), derandomize=False, max_examples=examples(100), database=None)
    settings.load_profile(_PROFILE)
    if not EXPLORES:
        setattr(providers, "is_local_module_file", _is_local)  # noqa: B010 - hypothesis has no setting for it


def _is_local(_path: str) -> bool:
    """No module is one whose constants hypothesis draws from: the examples would depend on what this process has imported until then.

    That is another set of modules for each order of the tests, and with several processes the order is left to chance.
    """
    return False
