"""An API server as a Source of objects, and writes to it.

Decisions are pure: what to request (`reflector`, `referred`), and which 403 to believe (`denials`). `follow` and `api` send
requests, `apiserver` is the Source made of both, and `writes` and `faults` write. What does not belong here: the meaning of an object, and
what is written (`xds.report`, `xds.replicas`).
"""
