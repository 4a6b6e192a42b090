"""A migration rehearsed: the same requests to ingress-nginx and to our Envoy, and where their answers differ.

The way: requests are derived from objects (`derive`, with samples of regular expressions by `samples`) or read from an access log
(`access_log`); both are asked (`asking`, which alone does IO); answers are compared (`comparing`); and differences are grouped by cause,
with the differences that are known (`known`), into a document (`report`).

What does not belong here: wording and printing (`xds.cli.rehearse`).
"""
