"""Worlds to derive requests from."""

from __future__ import annotations

from collections.abc import Sequence

from xds.config import Flags
from xds.explain.document import explain
from xds.explain.route_of import parse_url
from xds.json_forms import Json
from xds.kube.objects import Backend, Endpoint, EndpointPort, EndpointSlice, Ingress, Meta, Object, Path, Rule, Service, ServicePort, Tls
from xds.kube.world import DEFAULT_CERTIFICATE, NOW, World
from xds.model import Via
from xds.offline import MADE_AT_START
from xds.rehearse.derive import Scene, scene
from xds.translate.selection import claimed
from xds.units.memo import Recorder, Unit
from xds.units.tables import Tables

FLAGS = Flags(watch_ingress_without_class=True, configmap="default/config")
BOTH = (Via.HTTP, Via.HTTPS)
PREFIX = "nginx.ingress.kubernetes.io/"


def ingress(
    name: str, rules: dict[str, Sequence[Path]], notes: dict[str, str] | None = None, *, namespace: str = "default", tls: bool = False
) -> Ingress:
    """An Ingress: host → paths."""
    meta = Meta(namespace=namespace, name=name, annotations={PREFIX + key: value for key, value in (notes or {}).items()})
    made = tuple(Rule(host, tuple(paths)) for host, paths in rules.items())
    return Ingress(meta=meta, rules=made, tls=(Tls(tuple(rules), "absent"),) if tls else ())


def path(text: str, kind: str = "Prefix", service: str = "web", port: int | str = 80) -> Path:
    """A path that leads to a Service."""
    return Path(text, kind, Backend(service, port))


def services(*names: str, namespace: str = "default") -> list[Object]:
    """Services with an endpoint each."""
    made: list[Object] = []
    for name in names:
        meta = Meta(namespace=namespace, name=name)
        made.append(Service(meta=meta, ports=(ServicePort(80, "http", 8080),)))
        made.append(EndpointSlice(meta=meta, service=name, ports=(EndpointPort("http", 8080),), endpoints=(Endpoint(("10.0.0.1",)),)))
    return made


class Built:
    """A World that is translated."""

    def __init__(self, objects: Sequence[Object], flags: Flags = FLAGS) -> None:
        self.flags = flags
        self.world = World(flags, {DEFAULT_CERTIFICATE: (MADE_AT_START, MADE_AT_START), NOW: 0})
        self.tables = Tables(self.world)
        self.tables.apply(self.world.apply(objects, ()))
        self.read = Recorder(self.tables.build)

    @property
    def ingresses(self) -> list[Ingress]:
        """Those of our class."""
        found = self.world.objects(Ingress)
        return [i for i in found if self.tables.build.value(Unit(claimed, (i.meta.namespace, i.meta.name)))]

    def scene(self, vias: Sequence[Via] = BOTH, allow: Sequence[str] = ()) -> Scene:
        """What requests are derived from."""
        return scene(self.read, self.ingresses, self.tables.hosts.values.keys(), vias, allow)

    def explained(self, url: str, method: str = "GET") -> Json:
        """What `xds explain` has of a URL."""
        return explain(self.world, self.tables, self.flags, self.tables.problems(), parse_url(url, method))
