"""Documents and JSON → the structs of `xds.kube.objects`, or a Problem with the reason.

What belongs here: which kinds and versions are known, whole lists, and the sentences about invalid objects. What does not: the fields of
each kind (`xds.kube.shapes`), text and lines (`xds.kube.documents`), files (`xds.kube.manifests`).

Any document becomes an object or a Problem about it, never an exception. A Problem never shows a value of a Secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from xds.kube import admission, shapes
from xds.kube.objects import EndpointSlice, Ingress, Object, ref
from xds.kube.shapes import SERVICE_NAME, InvalidObject
from xds.problem import Place, Problem, Ref, Severity


@dataclass(frozen=True, slots=True)
class _Reading:
    """How one kind in one version is parsed: the shape of its JSON, and the function that builds the object."""

    decoder: msgspec.json.Decoder[Any]
    build: Callable[[Any, Place | None], list[Object]]


def _reading(shape: type[Struct], build: Callable[[Any, Place | None], list[Object]]) -> _Reading:
    return _Reading(msgspec.json.Decoder(shape), build)


_INGRESS = _reading(shapes.IngressShape, shapes.ingress_v1beta1)
_CLASS = _reading(shapes.IngressClassShape, shapes.ingress_class)
_SLICE = _reading(shapes.EndpointSliceShape, shapes.endpoint_slice)

_READINGS: Mapping[tuple[str, str], _Reading] = {
    ("Ingress", "networking.k8s.io/v1"): _reading(shapes.IngressShape, shapes.ingress_v1),
    ("Ingress", "networking.k8s.io/v1beta1"): _INGRESS,
    ("Ingress", "extensions/v1beta1"): _INGRESS,
    ("IngressClass", "networking.k8s.io/v1"): _CLASS,
    ("IngressClass", "networking.k8s.io/v1beta1"): _CLASS,
    ("Service", "v1"): _reading(shapes.ServiceShape, shapes.service),
    ("EndpointSlice", "discovery.k8s.io/v1"): _SLICE,
    ("EndpointSlice", "discovery.k8s.io/v1beta1"): _SLICE,
    ("Endpoints", "v1"): _reading(shapes.EndpointsShape, shapes.endpoints),
    ("Secret", "v1"): _reading(shapes.SecretShape, shapes.secret),
    ("ConfigMap", "v1"): _reading(shapes.ConfigMapShape, shapes.config_map),
    ("Namespace", "v1"): _reading(shapes.NamespaceShape, shapes.namespace),
}
_NEWEST: Mapping[str, str] = dict(reversed(list(_READINGS)))
_CLUSTER_SCOPED = frozenset({"IngressClass", "Namespace"})
NO_MANIFEST = "no-manifest"
"""The code of a document that is nothing that Kubernetes could know, such as the values of a chart."""
TEMPLATE = "template"
"""The code of a document, or a file, that becomes a manifest only when a template engine has rendered it."""
ENCRYPTED = "encrypted"
"""The code of a Secret whose content SOPS has encrypted."""
MADE = "made-in-cluster"
"""The code of a Secret that is not written down, but ordered by an object of another kind."""
REFUSED = "api-server"
"""The code of what an API server would refuse of an Ingress."""
_ORDERS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Certificate", "cert-manager.io"): ("spec", "secretName"),
    ("ExternalSecret", "external-secrets.io"): ("spec", "target", "name"),
    ("SealedSecret", "bitnami.com"): (),
}
"""Kinds that become a Secret, by API group, and the field with its name; where there is none, it is called as the object."""
_RENDER_FIRST = "This looks like a Helm template: render it first, for instance with `helm template CHART | xds check -`."
_OWN_GROUPS = frozenset({"networking.k8s.io", "discovery.k8s.io"})


class _Head(Struct, frozen=True, gc=False, rename="camel"):
    """The fields that decide how to parse the rest."""

    kind: Any = None
    api_version: Any = None


_HEAD = msgspec.json.Decoder(_Head)


def from_json(raw: bytes | msgspec.Raw, *, kind: str = "", api_version: str = "") -> Object | Problem | None:
    """An object in the JSON of an API server. None where its kind does not matter here.

    `kind` and `api_version` are for entries of a list response, which lack them. Without them they are read from the object. The result for
    core/v1 Endpoints is None: an API server mirrors them as EndpointSlices.
    """
    try:
        if not kind:
            head = _HEAD.decode(raw)
            kind, api_version = head.kind, head.api_version
        reading = _READINGS.get((kind, api_version))
        if reading is not None:
            return None if kind == "Endpoints" else reading.build(reading.decoder.decode(raw), None)[0]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidObject, TypeError):
        pass  # the code below makes the sentence
    try:
        document = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problem(Ref(kind if isinstance(kind, str) and kind else "Object", "", ""), "", "syntax", "This is not JSON in UTF-8.")
    if isinstance(document, dict) and kind:
        document = {**document, "kind": kind, "apiVersion": api_version}
    found = _from_one(document, None)
    return found[0] if found else None


def from_document(document: Any, place: Place | None = None) -> list[Object | Problem]:
    """The objects and Problems of a decoded document. There are none where its kind does not matter here.

    A list (`kind: List`, `kind: IngressList`, …) gives what its entries give. Endpoints give an EndpointSlice for each set of ports.
    """
    found: list[Object | Problem] = []
    pending = [document]
    while pending:
        entry = pending.pop()
        entries = members(entry)
        if entries is None:
            found += _from_one(entry, place)
        else:
            pending.extend(reversed(entries))
    return found


def members(document: Any) -> list[Any] | None:
    """The entries of a list, with the kind and version that entries of an IngressList lack. None for a document that is no list."""
    if not isinstance(document, Mapping):
        return None
    kind, entries = document.get("kind"), document.get("items")
    if not isinstance(kind, str) or not kind.endswith("List"):
        return None
    of = kind.removesuffix("List")
    if entries is None and "items" in document and (not of or of in _NEWEST):
        return []
    if not isinstance(entries, list):
        return None
    given = {"kind": of, "apiVersion": document.get("apiVersion")} if of else {}
    return [{**given, **entry} if isinstance(entry, Mapping) else entry for entry in entries]


def _from_one(document: Any, place: Place | None) -> list[Object | Problem]:
    if not isinstance(document, Mapping):
        sentence = f"This is no Kubernetes manifest, which is a mapping with apiVersion, kind and metadata, but {_named(_type(document))}."
        return [_about_document(place, NO_MANIFEST, sentence, Severity.NOTE)]
    kind, version = document.get("kind"), document.get("apiVersion")
    if not isinstance(kind, str) or not kind:
        if "metadata" not in document:
            return [_about_document(place, NO_MANIFEST, "This is no Kubernetes manifest: it has neither kind nor metadata.", Severity.NOTE)]
        return [_about_document(place, "no-kind", "The document has no kind; write apiVersion and kind, such as v1 and Service.")]
    if kind not in _NEWEST:
        problem = _wrong_list(document, kind, place) or _ordered(document, kind, place) or _misspelt(document, kind, place)
        return [problem] if problem else []
    reading = _READINGS.get((kind, version)) if isinstance(version, str) else None
    about = _about(document, kind)
    if place is not None and _is_template(document):
        return [template(place)]
    if kind == "Secret" and isinstance(document.get("sops"), Mapping):
        sentence = "SOPS has encrypted this Secret, so its content is unknown here; what refers to it is judged as if it were not there."
        return [Problem(about, "sops", ENCRYPTED, sentence, Severity.NOTE, place)]
    if reading is None:
        if _is_foreign(version):
            return []
        shown = f"{kind} has no version {version!r}" if isinstance(version, str) and version else f"This {kind} has no apiVersion"
        return [Problem(about, "apiVersion", "unknown-version", f"{shown}; write apiVersion: {_NEWEST[kind]}.", place=place)]
    try:
        made = reading.build(msgspec.convert(document, reading.decoder.type), place)
        return [*made, *_unowned(made, place), *(_refusals(made) if place and version == _NEWEST["Ingress"] else ())]
    except InvalidObject as refused:
        return [Problem(about, refused.field, refused.code, refused.sentence, place=place)]
    except (msgspec.ValidationError, RecursionError) as error:
        field, sentence = _in_words(str(error), document)
        return [Problem(about, field, "wrong-type", sentence, place=place)]


def template(place: Place) -> Problem:
    """That a document is to be rendered before anybody can read it."""
    return _about_document(place, TEMPLATE, _RENDER_FIRST, Severity.NOTE)


def _is_template(document: Mapping[str, Any]) -> bool:
    """Whether a placeholder such as `{{ .Values.host }}` stands where no text with braces can be.

    The contents of ConfigMaps, Secrets and annotations may hold any text, templates of other programs among it.
    """
    metadata = document.get("metadata")
    fields = [metadata.get("name"), metadata.get("namespace")] if isinstance(metadata, Mapping) else []
    pending: list[Any] = [*fields, document.get("spec")]
    while pending:
        value = pending.pop()
        if isinstance(value, str) and "{{" in value:
            return True
        if isinstance(value, Mapping):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return False


def _refusals(made: list[Object]) -> list[Problem]:
    """What an API server would reject of the objects of a folder."""
    return [
        Problem(ref(item), refusal.field, REFUSED, refusal.sentence, Severity.NOTE, item.meta.place)
        for item in made
        if isinstance(item, Ingress)
        for refusal in admission.refusals(item)
    ]


def _unowned(made: list[Object], place: Place | None) -> list[Problem]:
    """A slice without the label belongs to no Service. Nothing else would show that."""
    sentence = f"The label {SERVICE_NAME} is missing, so that the slice belongs to no Service."
    field = f"metadata.labels[{SERVICE_NAME}]"
    return [
        Problem(ref(item), field, "no-service", sentence, Severity.WARNING, place)
        for item in made
        if isinstance(item, EndpointSlice) and not item.service
    ]


def _wrong_list(document: Mapping[str, Any], kind: str, place: Place | None) -> Problem | None:
    of = kind.removesuffix("List")
    if of == kind or (of and of not in _NEWEST) or _is_foreign(document.get("apiVersion")):
        return None
    return Problem(Ref(kind, "", ""), "items", "wrong-type", "This must be a list: begin each entry with '- '.", place=place)


def _ordered(document: Mapping[str, Any], kind: str, place: Place | None) -> Problem | None:
    """That an object has a Secret made in the cluster. Only files hold such objects: of an API server they are never asked."""
    group = str(document.get("apiVersion")).partition("/")[0]
    if place is None or (kind, group) not in _ORDERS:
        return None
    named: Any = document
    for step in _ORDERS[kind, group]:
        named = named.get(step) if isinstance(named, Mapping) else None
    about = _about(document, "Secret")
    secret = about._replace(name=named) if isinstance(named, str) and named else about
    sentence = (
        f"The {kind} {about.namespace}/{about.name} has this Secret made in the cluster; here it counts only where it is written down."
    )
    return Problem(secret, "", MADE, sentence, Severity.NOTE, place)


def _misspelt(document: Mapping[str, Any], kind: str, place: Place | None) -> Problem | None:
    """A misspelt kind, in a version that has the right one. Nothing else would show that the object is not read."""
    version = document.get("apiVersion")
    near = difflib.get_close_matches(kind, [ours for ours, of in _READINGS if of == version], n=1, cutoff=0.85) if len(kind) < 40 else []
    if place is None or not near:
        return None
    about = _about(document, near[0])
    return Problem(about, "kind", "unknown-kind", f"{version} has no kind {kind!r}; did you mean {near[0]}?", place=place)


def _is_foreign(version: object) -> bool:
    """Whether a version is of a foreign API group, such as serving.knative.dev/v1, which has a kind Service as well."""
    group = version.rpartition("/")[0] if isinstance(version, str) else ""
    return "." in group and group not in _OWN_GROUPS


def _about(document: Mapping[str, Any], kind: str) -> Ref:
    metadata = document.get("metadata")
    fields = metadata if isinstance(metadata, Mapping) else {}
    name, namespace = fields.get("name"), fields.get("namespace")
    space = namespace if isinstance(namespace, str) and namespace else "default"
    return Ref(kind, "" if kind in _CLUSTER_SCOPED else space, name if isinstance(name, str) else "")


def _about_document(place: Place | None, code: str, sentence: str, severity: Severity = Severity.ERROR) -> Problem:
    if place is None:
        return Problem(Ref("Object", "", ""), "", code, sentence, severity)
    return Problem(Ref("File", "", place.file), f"documents[{place.document}]", code, sentence, severity, place)


_VERDICT = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>.*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`")
_STEP = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "empty (null)",
}


def _named(kind: str) -> str:
    return _NAMES.get(kind, kind)


def _in_words(verdict: str, document: Mapping[str, Any]) -> tuple[str, str]:
    """The field, and a sentence for a message of msgspec, such as "Expected `str`, got `int` - at `$.spec.rules[0].host`"."""
    match = _VERDICT.fullmatch(verdict)
    what, path = (match["what"], match["path"] or "") if match else (verdict, "")
    if types := _EXPECTED.fullmatch(what):
        got = types["got"]
        field = _field(path, document, got)
        if match and match["key"]:
            return field, f"A key in this must be text, but one is {_named(got)}: put quotes around it."
        wanted = [each for each in types["expected"].split(" | ") if each != "null"]
        choice = " or ".join(_named(each) for each in wanted)
        return field, f"This must be {choice}, but it is {_named(got)}: {_advice(wanted, got)}."
    field = _field(path, document, "str")
    if "required field" in what:
        name = what.rpartition(" ")[2].strip("`")
        return (f"{field}.{name}" if field else name), "This is missing; write it."
    if what.startswith("Expected `int`"):
        return field, "This must be a port number from 0 to 65535."
    if what.startswith("Invalid enum value"):
        return field, "This must be true or false: write it without quotes."
    return field, "This cannot be read: it is too big, or too deep."


def _advice(wanted: list[str], got: str) -> str:
    if got == "null":
        return "write something, or leave it out"
    if "str" in wanted and got in ("int", "float", "bool"):
        return "put quotes around the value"
    if "array" in wanted:
        return "begin each entry with '- '"
    if "object" in wanted:
        return "write lines of `name: value` below it, further in"
    if "str" in wanted:
        return "write one value"
    return "write it without quotes" if got == "str" else "write one value"


def _field(path: str, document: Mapping[str, Any], got: str) -> str:
    """The path without the `$.`, and with the key in place of `[...]`: the first one that holds a value of the type `got`."""
    here: Any = document
    parts: list[str] = []
    for step in _STEP.finditer(path):
        if step["name"]:
            parts.append(("." if parts else "") + step["name"])
            here = here.get(step["name"]) if isinstance(here, Mapping) else None
        elif step["index"]:
            parts.append(step[0])
            here = here[int(step["index"])] if isinstance(here, list | tuple) and int(step["index"]) < len(here) else None
        elif isinstance(here, Mapping):
            key = next((key for key, value in here.items() if _type(value) == got), "")
            parts.append(f"[{key}]")
            here = here.get(key)
    return "".join(parts)


def _type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float() | str():
            return type(value).__name__
        case list() | tuple():
            return "array"
    return "object"
