"""The manual's tables of annotations and ConfigMap keys, written from their declarations.

`python -m xds.nginx.manual annotations > docs/annotations.md`, and the same with `configmap`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum

from xds.nginx.feature import Annotation, Fidelity
from xds.nginx.registry import known_annotations, known_keys
from xds.nginx.snippets.directives import ROWS, Outcome, Row

_NOTE = "<!-- Written by `python -m xds.nginx.manual`; change the declarations in xds/nginx/ instead. -->"
_SNIPPETS = """\
A snippet is nginx configuration in an annotation. As in ingress-nginx, an Ingress with one is left out, unless the
ConfigMap has `annotations-risk-level: Critical`; and the snippet counts only with `allow-snippet-annotations:
"true"`. `xds check` says what would become of it in any case. The keys `location-snippet` and `server-snippet` of the
ConfigMap hold for all Ingresses, behind their own snippets, and need neither.

Envoy has no nginx configuration. A white list of directives is translated to its routes and filters; nothing of a
snippet is executed, and no file is read. What is in no row of this table is refused. A directive that nginx does not
take where it stands, or with the arguments that it has, is refused alone; text that nginx could not read at all
leaves the Ingress out; that of a key closes all paths. In ingress-nginx either stops every change of all Ingresses.

Where it matters:

- A snippet may have 200 directives, in 4 blocks within each other, and 16 ways through its conditions.
- `add_header` without `always`, and `expires`, hold for the statuses 200, 201, 204, 206, 301, 302, 303, 304, 307 and
  308, as in nginx. So do the rules by which blocks inherit: a block with an `add_header` of its own has none of the
  outer one.
- Headers that say who the client is (`X-Real-IP`, `X-Forwarded-*`, …) are the proxy's. nginx would send them twice.
- Conditions are matchers of routes. `$http_x_forwarded_*` and `$remote_addr` cannot be asked for there: use the lists
  of addresses, and `ssl-redirect`.
- Regular expressions are RE2's, with the same limits as in paths.
- Variables: those of the request (`$host`, `$http_*`, `$arg_*`, `$cookie_*`, `$request_uri`, `$uri`, `$args`,
  `$is_args`, `$scheme`, `$request_method`, `$remote_addr`, `$remote_user`, `$request_id`, …), of the response
  (`$status`, `$upstream_status`, `$upstream_addr`, `$upstream_http_*`, `$sent_http_*`), of the Ingress (`$namespace`,
  `$ingress_name`, `$service_name`, `$service_port`), and those that `set` and `auth_request_set` set.

What becomes of a directive:"""
_LEGEND = {
    Fidelity.EXACT: "as in ingress-nginx, but for differences without an effect",
    Fidelity.APPROXIMATE: "with a difference, which is in the last column",
    Fidelity.IGNORED: "accepted without effect; users lose nothing",
    Fidelity.REFUSED: "no effect, for the reason in the last column, which has what to do instead; `xds check` reports each place",
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


def snippet_page() -> str:
    """docs/snippets.md."""
    meaning = {
        Outcome.HEADERS: "changes headers of the request or the response",
        Outcome.FLOW: "becomes routes, each with its conditions",
        Outcome.ANSWER: "keeps what the service of auth-url answers, for headers",
        Outcome.ACCESS: "becomes an access rule",
        Outcome.PLACE: "becomes paths of the host",
        Outcome.BACKEND: "configures TLS to backends",
        Outcome.IDLE: "accepted; nothing but speed, or a log, differs",
        Outcome.REFUSED: "no effect; `xds check` names it with its line, and the rest of the snippet counts",
        Outcome.CLOSES: "as above, and the paths of the snippet answer 503: nginx would have kept somebody out by it",
    }
    rows = sorted(ROWS.items(), key=lambda item: (list(Outcome).index(item[1].kind), item[0]))
    return "\n".join(
        (
            "# Snippets",
            "",
            _NOTE,
            "",
            _SNIPPETS,
            "",
            *(f"- **{kind.value}**: {text}" for kind, text in meaning.items()),
            "",
            *_table(
                ("Directive", "Becomes", "In", "Remark"),
                ((f"`{name}`", row.kind.value, _blocks(row), _sentence(row.remark)) for name, row in rows),
            ),
            "",
        )
    )


def _blocks(row: Row) -> str:
    return ", ".join(f"{block.value} (no effect)" if block in row.idle else block.value for block in row.blocks)


PAGES: dict[str, Callable[[], str]] = {"annotations": annotation_page, "configmap": configmap_page, "snippets": snippet_page}
"""What can be written, by the name of its file in docs/."""


def _page(title: str, opening: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    legend = (f"- **{fidelity.value}**: {meaning}" for fidelity, meaning in _LEGEND.items())
    return "\n".join((f"# {title}", "", _NOTE, "", opening, "", "Verdicts:", "", *legend, "", *_table(head, rows), ""))


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
    """A reason as a sentence of its own. A name such as `limit-rate` keeps its spelling at the beginning."""
    is_name = not reason.partition(" ")[0].isalpha()
    return f"{reason if is_name else reason[:1].upper() + reason[1:]}." if reason else ""


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
