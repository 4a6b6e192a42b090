"""The model → Envoy's messages. Pure; names and shapes are an interface.

What does not belong here: deciding anything about traffic (`xds.translate`), annotations (`xds.nginx`), bytes (`xds.wire.encode`).
"""
