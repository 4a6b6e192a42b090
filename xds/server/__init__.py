"""The xDS server: gRPC streams around `xds.protocol.session`, the Fleet of connected Envoys, TLS, health.

What belongs here: reading and writing streams, their bytes on the wire, their life and death, and what is counted meanwhile. What does
not: what to send to an Envoy and when (`xds.protocol`), and what the resources are (`xds.snapshot`).
"""
