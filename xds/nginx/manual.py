"""The manual's tables of annotations and ConfigMap keys, written from their declarations.

`python -m xds.nginx.manual annotations > docs/annotations.md`, and the same with `configmap`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from xds.nginx.feature import Annotation, Fidelity
from xds.nginx.registry import known_annotations, known_keys

_LEGEND = {
    Fidelity.EXACT: "as in ingress-nginx, but for differences without an effect",
    Fidelity.APPROXIMATE: "with a difference, which is in the last column",
    Fidelity.IGNORED: "accepted without effect; users lose nothing",
    Fidelity.LATER: "no effect yet; `xds check` reports each place where it is written",
    Fidelity.CLOSES: "the paths that it protects answer 503, because without it they would be open; `xds check` reports them",
    Fidelity.REFUSED: "no effect, for the reason in the last column",
}


def annotation_page() -> str:
    """docs/annotations.md."""
    return _page(
        "Annotations",
        "Every annotation of ingress-nginx, without its prefix `nginx.ingress.kubernetes.io/`, and its verdict.",
        ("Annotation", "Verdict", "Default", "Holds for", "Meaning", "Example", "Remark"),
        (
            (f"`{name}`", a.fidelity.value, _code(_text(a.default)), a.scope.value, a.doc, _code(a.example), _remark(name, a))
            for name, a in sorted(known_annotations().items())
        ),
    )


def configmap_page() -> str:
    """docs/configmap.md."""
    return _page(
        "ConfigMap keys",
        "Every key of the ConfigMap that `--configmap` names, and its verdict. "
        "A key that has the name of an annotation is its default for the whole cluster.",
        ("Key", "Verdict", "Default", "Meaning", "Example", "Remark"),
        (
            (
                f"`{name}`",
                k.fidelity.value,
                _code(_text(k.default)),
                k.doc,
                _code(k.example if k.example != _text(k.default) else ""),
                _sentence(k.reason),
            )
            for name, k in sorted(known_keys().items())
        ),
    )


PAGES: dict[str, Callable[[], str]] = {"annotations": annotation_page, "configmap": configmap_page}
"""What can be written, by the name of its file in docs/."""


def _page(title: str, opening: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    legend = (f"- **{fidelity.value}**: {meaning}" for fidelity, meaning in _LEGEND.items())
    note = "<!-- Written by `python -m xds.nginx.manual`; change the declarations in xds/nginx/ instead. -->"
    return "\n".join((f"# {title}", "", note, "", opening, "", "Verdicts:", "", *legend, "", *_table(head, rows), ""))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ("---",) * len(head), *rows):
        cells = " | ".join(cell.replace("|", r"\|") for cell in row)
        yield f"| {cells} |"


def _text(value: object) -> str:
    """A default as a user would write it."""
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if isinstance(value, tuple) else str(value)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _remark(name: str, annotation: Annotation[object]) -> str:
    if name != annotation.name:
        return f"The older name of `{annotation.name}`."
    return _sentence(annotation.reason)


def _sentence(reason: str) -> str:
    return f"{reason[0].upper()}{reason[1:]}." if reason else ""


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
