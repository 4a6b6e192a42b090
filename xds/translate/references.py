"""Objects that annotations name: the one way from an Ingress to objects of other namespaces.

ingress-nginx reads some of them only if the ConfigMap says `allow-cross-namespace-resources`; here that holds for all. Else whoever may
write an Ingress could have shown what stands in a namespace that is not theirs to read.
"""

from __future__ import annotations

import re
from typing import Any

from xds.kube.objects import ConfigMap, Secret, Service
from xds.kube.world import Reader, config_map, secret, service, settings
from xds.nginx.feature import Annotation, Closed
from xds.nginx.values import shown
from xds.problem import Ref
from xds.translate.endpoint_addresses import external_host, name_refusal

_NAME = re.compile(r"[a-z0-9_.:-]+")
"""A DNS name, or an IP address, in lower case."""


_OBJECT = re.compile(r"[A-Za-z0-9._-]{1,253}")
"""The name of an object or namespace. An API server permits fewer; a folder holds whatever its author called it."""


class References:
    """What the features of an Ingress in the namespace `home` may read; with `crosses` also of other namespaces (`Objects`)."""

    __slots__ = ("_crosses", "_home", "_read")

    def __init__(self, read: Reader, home: str, *, crosses: bool) -> None:
        self._read = read
        self._home = home
        self._crosses = crosses

    def config_map(self, annotation: Annotation[Any], written: str) -> ConfigMap | Closed:
        """The ConfigMap that an annotation names as `namespace/name`."""
        namespace, _, name = written.partition("/")
        if not _OBJECT.fullmatch(namespace) or not _OBJECT.fullmatch(name):
            return Closed(annotation.name, f"is {shown(written)}, which is no namespace/name of a ConfigMap")
        about = Ref("ConfigMap", namespace, name)
        if not self._may_read(namespace):
            return _of_another_namespace(annotation, about)
        return config_map(self._read, namespace, name) or _missing(annotation, about)

    def secret(self, annotation: Annotation[Any], written: str) -> Secret | Closed:
        """The Secret, of any type, that an annotation names as `name` (in the namespace of its Ingress) or `namespace/name`."""
        namespace, name = written.split("/", 1) if "/" in written else (self._home, written)
        if not _OBJECT.fullmatch(namespace) or not _OBJECT.fullmatch(name):
            return Closed(annotation.name, f"is {shown(written)}, which is no name or namespace/name of a Secret")
        about = Ref("Secret", namespace, name)
        if not self._may_read(about.namespace):
            return _of_another_namespace(annotation, about)
        return secret(self._read, about.namespace, name) or _missing(annotation, about)

    def service(self, namespace: str, name: str) -> Service | None:
        """A Service by name; None where it does not exist, or may not be read."""
        return service(self._read, namespace, name) if self._may_read(namespace) else None

    def external_host(self, found: Service) -> str:
        """The DNS name that a Service of type ExternalName stands for; "" where it is none, or --disable-svc-external-name is set."""
        name = external_host(found)
        return name if _NAME.fullmatch(name) and not settings(self._read).disable_svc_external_name else ""

    def refusal(self, host: str, port: int) -> str:
        """Why nothing may be sent to a host name or IP address, as the end of a sentence ("is …"); "" where it may."""
        return name_refusal(self._read, host, port)

    def _may_read(self, namespace: str) -> bool:
        """What all of these ask before they read anything."""
        return self._crosses or namespace == self._home


def _of_another_namespace(annotation: Annotation[Any], about: Ref) -> Closed:
    return Closed(annotation.name, f"names {about} of another namespace, which allow-cross-namespace-resources does not allow")


def _missing(annotation: Annotation[Any], about: Ref) -> Closed:
    return Closed(annotation.name, f"names {about}, which does not exist")
