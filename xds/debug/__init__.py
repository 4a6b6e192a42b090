"""The debug server: the state of a running control plane over gRPC, read-only.

What belongs here: our debug service, Envoy's client status discovery service, reflection, and the Protocol (`subject`) by which they read
that state. `live` implements it for a running control plane. `v1` is generated from protos/. What does not: state of its own, and any
decision. Private keys leave this package redacted or not at all.
"""
