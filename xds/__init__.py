"""An Envoy management server for Kubernetes Ingress: the drop-in successor to ingress-nginx."""

__version__ = "0.1.0"
