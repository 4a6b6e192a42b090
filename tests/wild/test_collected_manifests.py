"""Twenty of the collected files are judged and translated without a crash; `make wild` takes all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.wild.running import cases, run, why_not

_MANY = 20
_TRUE_ERRORS = {"annotation-verdict", "annotation-value", "annotation-forbidden", "key-verdict", "key-value", "wrong-type"}
"""Of whole manifests, with everything that they refer to, errors can only be about what is not supported, or cannot be read."""


@pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")
@pytest.mark.timeout(1200)
def test_what_people_wrote_is_judged_and_translated(tmp_path: Path) -> None:
    found = cases()
    chosen = found[:: len(found) // _MANY][:_MANY]
    for case in chosen:
        (tmp_path / case.name).symlink_to(case)
    report = tmp_path / "report.json"
    code, printed = run(["--cases", str(tmp_path), "--json", str(report)])
    assert code == 0, printed
    results = json.loads(report.read_text())["results"]
    assert [result["case"] for result in results] == [case.name for case in chosen]
    assert {result["case"]: result["translate"] for result in results} == dict.fromkeys((case.name for case in chosen), 0)
    assert any(result["ingresses"] for result in results)
    errors = {(p["code"], p["sentence"]) for result in results for p in result["problems"] if p["severity"] == "error"}
    assert {(code, sentence) for code, sentence in errors if code not in _TRUE_ERRORS} == set()
