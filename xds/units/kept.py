"""Certificates that are kept: what a Secret held while it could be used, after somebody has overwritten it with what cannot.

What does not belong here: judging a Secret (`xds.certificates.pairs`), and serving what is kept (`xds.translate.certificates`).
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
    """What is to be kept from now on, or (None) no longer, once the World has taken over these objects. To be asked before it does."""
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
    """What was kept before a restart, by namespace/name, as far as its Secret is there and still holds nothing of use."""
    found: dict[Key, Pair] = {}
    for name, kept in certificates.items():
        namespace, _, own = name.partition("/")
        judged = parse(Secret(meta=Meta(namespace=namespace, name=own), data={"tls.crt": kept.chain, "tls.key": kept.key}))
        there = tables.world.get(("Secret", namespace, own))
        if isinstance(judged, Pair) and there is not None and isinstance(parse(there), Unusable):
            found[last_valid_key(namespace, own)] = judged
    return found


def _is_served(tables: Tables, item: Secret) -> bool:
    name = f"{item.meta.namespace}/{item.meta.name}"
    if name == tables.world.get(SETTINGS).default_ssl_certificate:
        return DEFAULT in tables.secrets.values
    return name in tables.secrets.values
