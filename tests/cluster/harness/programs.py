"""Where the programs of a Kubernetes control plane are: in KUBEBUILDER_ASSETS where that is set, else where `make kube` puts them."""

from __future__ import annotations

import os
from pathlib import Path

NEEDED = ("etcd", "kube-apiserver", "kubectl")
"""Without one of these, nothing here runs."""
FOR_PODS = ("kube-controller-manager", "kwok")
"""Without these no pod ever comes, and no Service has an endpoint; objects are as they should be."""


def folder() -> Path:
    """Return the folder in which the programs are looked for."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        return Path(assets)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "xds-ingress" / "kube"


def path(name: str) -> str:
    """Return the path of a program, whether it is there or not."""
    return str(folder() / name)


def missing(*names: str) -> str:
    """Return why these programs cannot be used, as a sentence; "" where all are there."""
    absent = [name for name in names if not os.access(path(name), os.X_OK)]
    return f"{', '.join(absent)} not in {folder()}: run make kube" if absent else ""
