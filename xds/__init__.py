"""An Envoy management server for Kubernetes Ingress: the drop-in successor to ingress-nginx."""

from xds import plain_messages

__version__ = "0.1.0"

plain_messages.begin()
