"""The model → Envoy's messages. Pure. Names and shapes are an interface: dashboards and alerts of users depend on them.

What does not belong here: deciding anything about traffic (`xds.translate`), annotations (`xds.nginx`), bytes (`xds.wire.encode`).
"""
