"""Of the collected snippets most are translated whole."""

from __future__ import annotations

import pytest

from tests.wild.snippets import FILE, TRANSLATED, shares


@pytest.mark.skipif(not FILE.is_file(), reason="there are no collected snippets beside this checkout (../shared/wild)")
@pytest.mark.parametrize("annotation", TRANSLATED)
def test_most_snippets_have_no_refused_directive(annotation: str) -> None:
    whole, all_ = shares()[annotation]
    assert whole / all_ >= 0.83
