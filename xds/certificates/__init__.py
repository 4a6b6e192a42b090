"""X.509 certificates: pairs that Secrets hold (`pairs`), the generated default certificate, and those of the xDS port (`certgen`).

What does not belong here: which host gets which certificate (`xds.translate.certificates`), and TLS of our own port (`xds.server.tls`).
"""
