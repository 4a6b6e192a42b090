"""Which Ingresses this control plane serves: by class, namespace and flags (nginx 4.8)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from xds.kube.objects import Ingress
from xds.kube.world import Reader, ingress, ingress_class, namespace, report_about, settings
from xds.model import LEFT_OUT
from xds.nginx.feature import Role
from xds.nginx.registry import role
from xds.problem import Severity
from xds.translate.configuration import ingress_settings

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_REQUIREMENT = re.compile(
    r"\s*(?P<not>!)?\s*(?P<key>[A-Za-z0-9][-A-Za-z0-9_./]*)\s*"
    r"(?:(?P<op>==|=|!=|\s+in\s*|\s+notin\s*)\s*(?:\((?P<values>[^()]*)\)|(?P<value>[-A-Za-z0-9_.]*)))?\s*(?:,|$)"
)


def served_as(read: Reader, ns: str, name: str) -> Role | None:
    """What an Ingress that is ours does with its paths; None for one that is not, or is left out. A Unit."""
    return role(read.unit(ingress_settings, ns, name)) if served(read, ns, name) else None


def served(read: Reader, ns: str, name: str) -> bool:
    """Whether this Ingress has an effect here, be it by offers alone (nginx 4.14: canaries get the addresses in their status, too)."""
    found = ingress(read, ns, name)
    if found is None or not claimed(read, ns, name):
        return False
    if settings(read).disable_catch_all and found.default_backend is not None:
        sentence = "The Ingress is ignored: it has a default backend, and --disable-catch-all is set."
        report_about(read, found, "spec.defaultBackend", "catch-all-disabled", sentence)
        return False
    return LEFT_OUT not in read.unit(ingress_settings, ns, name)


def claimed(read: Reader, ns: str, name: str) -> bool:
    """Whether this Ingress has our class and is in a namespace that we watch: then its Problems are reported. A Unit."""
    found = ingress(read, ns, name)
    if found is None:
        return False
    flags = settings(read)
    if flags.watch_namespace and ns != flags.watch_namespace:
        return False
    if flags.watch_namespace_selector:
        home = namespace(read, ns)
        if home is None or not selects(flags.watch_namespace_selector, home.meta.labels):
            return False
    return _of_our_class(read, found)


def _of_our_class(read: Reader, item: Ingress) -> bool:
    flags = settings(read)
    if item.class_name is not None:
        found = ingress_class(read, item.class_name)
        if found is not None:
            by_name = flags.ingress_class_by_name and found.meta.name == flags.ingress_class
            return found.controller == flags.controller_class or by_name
        if item.class_name == flags.ingress_class:
            # The IngressClass is deleted with the old controller's chart, and is seldom in a folder; its Ingresses are served all the same.
            if not flags.manifests:
                sentence = f'There is no IngressClass "{item.class_name}"; the Ingress is served because --ingress-class names it.'
                report_about(read, item, "spec.ingressClassName", "class-missing", sentence, Severity.WARNING)
            return True
        sentence = f'ingressClassName is "{item.class_name}", but there is no IngressClass of that name; nobody serves this Ingress. '
        sentence += f"An IngressClass of that name with the controller {flags.controller_class} would have it served here"
        sentence += f", and so would --ingress-class {item.class_name}." if flags.manifests else "."
        report_about(read, item, "spec.ingressClassName", "class-missing", sentence, Severity.WARNING)
        return False
    annotation = item.meta.annotations.get(CLASS_ANNOTATION, "")
    if annotation:
        return annotation == flags.ingress_class
    return flags.watch_ingress_without_class


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a Kubernetes label selector (`a=b,c!=d,e in (f,g),h,!i`) matches; an invalid one matches nothing."""
    end = 0
    while end < len(selector):
        part = _REQUIREMENT.match(selector, end)
        if part is None or not _holds(part, labels):
            return False
        end = part.end()
    return True


def _holds(part: re.Match[str], labels: Mapping[str, str]) -> bool:
    key, op = part["key"], (part["op"] or "").strip()
    has = labels.get(key)
    if not op:
        return (has is None) == bool(part["not"])
    wanted = {v.strip() for v in part["values"].split(",")} if part["values"] is not None else {part["value"]}
    if op in ("!=", "notin"):
        return has is None or has not in wanted
    return has is not None and has in wanted
