"""The xDS protocol without IO: what one stream subscribes to, what it was sent, and what to send next.

`session` is one stream: order and make before break. `subscription` is one type on one stream, with its `interest` (which names the client
subscribes to) and `rejections` (what it rejected). `discovery` has the messages. Requests, changes of the Snapshot and the passing of time
go in, responses come out. Elsewhere: bytes and gRPC (`xds.server`), what the resources are (`xds.snapshot`).
"""
