"""A cluster to play with: `make cluster`. It runs until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.harness import FOR_PODS, NEEDED, Cluster, NotPermitted, missing, own_network
from tests.cluster.harness.programs import folder

LINES = """\
A Kubernetes cluster, xds and an Envoy are running in a network of their own. In another terminal:

    nsenter --net=/proc/{pid}/ns/net env KUBECONFIG={kubeconfig} PATH={programs}:$PATH sh
    kubectl create deployment web --image=apps/http --port=8080 --replicas=3
    kubectl expose deployment web --port=80 --target-port=8080
    kubectl create ingress web --class=nginx --rule='web.test/*=web:80'
    curl --header 'Host: web.test' http://10.88.0.1/
    kubectl get ingress
    kubectl rollout restart deployment web

Images that run: apps/http, apps/tcp, apps/udp. Streams: kubectl edit configmap xds-tcp-services -n ingress-xds (or xds-udp-services).
xDS answers at {xds}, health and metrics at {health}, Envoy's admin page at {admin}; all logs are in {logs}.
Ctrl-C ends it all.
"""


async def main() -> None:
    """Start everything, say how to use it, and wait for the end."""
    with tempfile.TemporaryDirectory(prefix="xds-cluster-") as logs:
        ends = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ends.set)
        async with Cluster(Path(logs)) as cluster:
            values = {
                "pid": os.getpid(),
                "kubeconfig": cluster.kube.kubeconfig,
                "programs": folder(),
                "xds": "{}:{}".format(*cluster.control_plane.xds),
                "health": "http://{}:{}".format(*cluster.control_plane.health),
                "admin": "http://{}:{}".format(*cluster.envoy.admin),
                "logs": logs,
            }
            print(LINES.format(**values), flush=True)
            await ends.wait()


if __name__ == "__main__":
    if why := missing(*NEEDED, *FOR_PODS):
        sys.exit(why)
    try:
        with own_network():
            asyncio.run(main())
    except NotPermitted as refused:
        sys.exit(str(refused))
