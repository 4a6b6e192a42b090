"""Kubernetes objects → the model: which Ingress wins, what a path means, which Service answers, which certificate is served. Pure.

Every function whose first argument is a `Reader` is a Unit or part of one (`xds.units`). What does not belong here: annotations
(`xds.nginx`), but for the few that change the structure, and Envoy's messages (`xds.render`).
"""
