"""Answers recorded from the real ingress-nginx, compared with ours.

The recordings and their player are no part of this repository. Where `../shared/oracle` is, `make test` plays some and `make oracle` all.
"""
