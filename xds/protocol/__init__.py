"""The xDS protocol without IO: what one stream asked for, what it was told, and what to say to it next.

`subscription` is one type on one stream; `session` is one stream: order, make before break, nonces. Requests, changes of the Snapshot and
the passing of time go in, responses come out. Elsewhere: bytes and gRPC (`xds.server`), what the resources are (`xds.snapshot`).
"""
