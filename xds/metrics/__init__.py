"""The metrics of requests beside an Envoy: its statistics under the names, labels and units that they have in ingress-nginx.

A program of its own, `xds metrics`, which knows nothing of the control plane. What belongs here: from Envoy's pages (`statistics.py`,
`process.py`) to a page for Prometheus (`page.py`), and the server (`service.py`). What does not belong here: what Envoy counts
(`xds.render.request_counts`), and metrics of the control plane (`xds.web`).
"""
