"""The authorisation service beside each Envoy (`xds authz`): Envoy asks it over a Unix socket about requests that need a password or count.

    subscription.py   one more xDS client of the control plane: password files come in, ACKs go out
    check.py          Envoy's question, and the answer (envoy.service.auth.v3)
    counts.py         how many requests a client has open: Envoy's conversation about each (envoy.service.ext_proc.v3)
    verifier.py       whether user and password are right: files, remembered verdicts, and turns for what is expensive
    hashes.py         whether a password belongs to a hash
    messages.py       protobuf
    service.py        the process

It is small, and starts fast: of the control plane's rooms it imports none. No password, hash or user is ever logged.
"""
