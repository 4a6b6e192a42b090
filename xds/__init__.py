"""An Envoy management server for Kubernetes Ingress: the drop-in successor to ingress-nginx."""

from xds.imports import hook

__version__ = "0.1.0"

hook.begin()
