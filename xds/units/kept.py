"""What is kept of objects that were valid: certificates of Secrets that were overwritten with invalid ones, and Ingresses.

An Ingress that was served, and whose annotations are refused now, keeps its last valid form: the World has that in its place, so that
whatever reads Ingresses reads this one. How the Ingress is written stands beside it (`RefusedEdit`).

What does not belong here: validating a Secret (`xds.certificates.pairs`) or annotations (`xds.translate.configuration`), and serving what
is kept (`xds.translate.certificates`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from xds.certificates.pairs import Pair, Unusable, parse
from xds.kube.objects import Ingress, Meta, Object, Secret, ref, without_report
from xds.kube.world import SETTINGS, Key, RefusedEdit, World, last_valid_key, refused_edit_key, settings
from xds.problem import Problem, Ref
from xds.translate.certificates import DEFAULT, certificate
from xds.translate.configuration import refusals
from xds.translate.selection import claimed, served
from xds.units.memo import Recorder
from xds.units.record import Certificate, LastForm
from xds.units.tables import Tables

T = TypeVar("T")
_JUDGES = frozenset(("ConfigMap", "IngressClass", "Namespace"))
"""Kinds by which the same Ingress may be refused or not, ours or not."""


def changes(tables: Tables, put: Iterable[Object], drop: Iterable[Ref]) -> dict[Key, Pair | None]:
    """The certificates to keep from now on, or (None) no longer, when these objects are applied to the World.

    To be called before they are: it compares them with what the World holds.
    """
    found: dict[Key, Pair | None] = {last_valid_key(gone.namespace, gone.name): None for gone in drop if gone.kind == "Secret"}
    for item in put:
        if isinstance(item, Secret):
            key = last_valid_key(item.meta.namespace, item.meta.name)
            if _is_served(tables, item):
                before = Recorder(tables.build).unit(certificate, item.meta.namespace, item.meta.name)
                found[key] = before if isinstance(before, Pair) and isinstance(parse(item), Unusable) else None
            elif tables.world.get(key) is not None and isinstance(parse(item), Pair):
                found[key] = None
    return found


def restored(tables: Tables, certificates: Mapping[str, Certificate]) -> dict[Key, Pair]:
    """The certificates that were kept before a restart (by namespace/name), of those Secrets that exist and are still invalid."""
    found: dict[Key, Pair] = {}
    for name, kept in certificates.items():
        namespace, _, own = name.partition("/")
        judged = parse(Secret(meta=Meta(namespace=namespace, name=own), data={"tls.crt": kept.chain, "tls.key": kept.key}))
        there = tables.world.get(("Secret", namespace, own))
        if isinstance(judged, Pair) and there is not None and isinstance(parse(there), Unusable):
            found[last_valid_key(namespace, own)] = judged
    return found


class Forms(NamedTuple):
    """What the World is to hold of Ingresses: `put` in place of what was put, and the refused edits beside it (None: no longer)."""

    put: Sequence[Object]
    edits: Mapping[Key, RefusedEdit | None]


def forms(tables: Tables, put: Sequence[Object], drop: Collection[Ref]) -> Forms:
    """The Ingresses among these objects, each in its last valid form where it is refused; and those that are refused no longer.

    To be called before the objects are applied to the World: it asks what was served.
    """
    edits: dict[Key, RefusedEdit | None] = {refused_edit_key(*gone[1:]): None for gone in drop if gone.kind == "Ingress"}
    after = _After(tables, _judges(put, drop))
    found = list(put)
    for number, item in enumerate(put):
        if isinstance(item, Ingress):
            key = refused_edit_key(item.meta.namespace, item.meta.name)
            kept = None if key in edits else _kept(tables, after, item)
            found[number], edits[key] = kept or (item, None)
    if after.judges_anew:
        for which, edit in tables.world.refused_edits().items():
            if refused_edit_key(*which[1:]) not in edits and not _is_refused(after, edit.written):
                found.append(as_written(tables.world, tables.world.get(tuple(which))))
                edits[refused_edit_key(*which[1:])] = None
    return Forms(found, edits)


def restored_forms(tables: Tables, last: Mapping[str, LastForm]) -> Forms:
    """The forms that were kept before a restart, or are kept by another replica, of Ingresses that exist and are still refused.

    Of two forms the one of the later resourceVersion is kept, by all replicas.
    """
    now = _After(tables, {})
    put: list[Object] = []
    edits: dict[Key, RefusedEdit | None] = {}
    for name, kept in last.items():
        key = refused_edit_key(*name.split("/", 1))
        there, edit = tables.world.get(("Ingress", *key[1:])), tables.world.get(key)
        written = edit.written if edit else there
        if there is None or there.uid != kept.uid or (edit and _age(edit.valid) >= _age(kept.version)):
            continue
        form = _in_place_of(there, kept.form)
        if (edit or _is_refused(now, written)) and not refusals(now, form):
            put.append(form)
            edits[key] = RefusedEdit(without_report(written), kept.version)
    return Forms(put, edits)


def last_forms(tables: Tables) -> dict[str, LastForm]:
    """The last valid forms of all Ingresses that are refused now, by namespace/name."""
    found: dict[str, LastForm] = {}
    for which, edit in tables.world.refused_edits().items():
        there: Ingress = tables.world.get(tuple(which))
        form = replace(without_report(there), uid="", meta=replace(there.meta, version="", place=None))
        found[f"{which.namespace}/{which.name}"] = LastForm(there.uid, edit.valid, form)
    return found


def _judges(put: Iterable[Object], drop: Iterable[Ref]) -> dict[Key, Object | None]:
    """The objects among these by which Ingresses are judged, None for what is gone."""
    gone: dict[Key, Object | None] = {tuple(which): None for which in drop if which.kind in _JUDGES}
    return {**gone, **{tuple(which): item for item in put if (which := ref(item)).kind in _JUDGES}}


def as_written(world: World, item: Object) -> Object:
    """An object of the World as it is written now, whatever stands in its place."""
    edit: RefusedEdit | None = world.get(refused_edit_key(item.meta.namespace, item.meta.name)) if isinstance(item, Ingress) else None
    if edit is None or not isinstance(item, Ingress):
        return item
    meta = replace(edit.written.meta, version=item.meta.version)
    return replace(edit.written, meta=meta, addresses=item.addresses)


def _kept(tables: Tables, after: _After, item: Ingress) -> tuple[Ingress, RefusedEdit] | None:
    """The last valid form of an Ingress that is refused, if it was served until now and is the same object."""
    which = ref(item)
    last: Ingress | None = tables.world.get(tuple(which))
    if last is None or last.uid != item.uid:
        return None
    edit: RefusedEdit | None = tables.world.get(refused_edit_key(*which[1:]))
    if edit is None and last.meta.annotations == item.meta.annotations:
        return None  # refused or not, it is not this edit that did it
    if not _is_refused(after, item) or not served(Recorder(tables.build), *which[1:]) or refusals(after, last):
        return None
    return _in_place_of(item, last), RefusedEdit(without_report(item), edit.valid if edit else last.meta.version)


def _is_refused(after: _After, item: Ingress) -> bool:
    """Whether an Ingress that is ours is left out for its annotations, and for nothing else."""
    if item.default_backend is not None and settings(after).disable_catch_all:
        return False
    return bool(refusals(after, item)) and claimed(after.beside(item), item.meta.namespace, item.meta.name)


def _in_place_of(item: Ingress, last: Ingress) -> Ingress:
    """The last valid form of an Ingress, with what does not concern traffic as it is now."""
    meta = replace(item.meta, annotations=last.meta.annotations)
    return replace(last, meta=meta, uid=item.uid, addresses=item.addresses)


def _age(version: str) -> tuple[int, str]:
    """A sort key of resourceVersions: the later one is the greater number."""
    return (int(version) if version.isdecimal() else 0, version)


class _After:
    """Reads the World as it will be when these objects are applied to it. Problems go nowhere."""

    def __init__(self, tables: Tables, changed: Mapping[Key, Object | None]) -> None:
        self._tables = tables
        self._changed = changed
        self._units: dict[Hashable, Any] = {}

    @property
    def judges_anew(self) -> bool:
        """Whether anything of it may judge an Ingress that did not change in another way."""
        return bool(self._changed)

    def __call__(self, key: Key) -> Any:
        return self._changed[key] if key in self._changed else self._tables.world.get(key)

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of a Unit: that of the tables, where nothing has changed that it reads."""
        if not self._changed:
            return Recorder(self._tables.build).unit(function, *arguments)
        if (function, *arguments) not in self._units:
            self._units[(function, *arguments)] = function(self, *arguments)
        found: T = self._units[(function, *arguments)]
        return found

    def report(self, problem: Problem) -> None:
        """Nowhere: it may yet not be."""

    def beside(self, item: Ingress) -> _After:
        """The same World with this Ingress."""
        return _After(self._tables, {**self._changed, tuple(ref(item)): item})


def _is_served(tables: Tables, item: Secret) -> bool:
    """Whether a host is served under the certificate of this Secret."""
    name = f"{item.meta.namespace}/{item.meta.name}"
    if name == tables.world.get(SETTINGS).default_ssl_certificate:
        return DEFAULT in tables.secrets.values
    return name in tables.secrets.values
