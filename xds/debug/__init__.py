"""The debug server: what a running control plane knows, over gRPC, for those who debug.

What belongs here: our debug service, Envoy's client status discovery service, reflection, and the words (`subject`) in which the rest of
the house answers. `v1` is generated from protos/. What does not: knowing any of it; who asks is told by the Subject, nothing here
decides, and nothing here writes. Private keys leave this room redacted or not at all.
"""
