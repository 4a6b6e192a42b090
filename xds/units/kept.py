"""Kept certificates: the last valid certificate of a Secret that has been overwritten with an invalid one.

What does not belong here: validating a Secret (`xds.certificates.pairs`), and serving what is kept (`xds.translate.certificates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds.certificates.pairs import Pair, Unusable, parse
from xds.kube.objects import Meta, Object, Secret
from xds.kube.world import SETTINGS, Key, last_valid_key
from xds.problem import Ref
from xds.translate.certificates import DEFAULT, certificate
from xds.units.memo import Recorder
from xds.units.record import Certificate
from xds.units.tables import Tables


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


def _is_served(tables: Tables, item: Secret) -> bool:
    """Whether a host is served under the certificate of this Secret."""
    name = f"{item.meta.namespace}/{item.meta.name}"
    if name == tables.world.get(SETTINGS).default_ssl_certificate:
        return DEFAULT in tables.secrets.values
    return name in tables.secrets.values
