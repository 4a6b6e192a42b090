"""The nginx dialect: one module for each feature, found by being here.

A module of this package that has a `FEATURE` is a feature: it declares its annotations and ConfigMap keys, reads them, and draws what
they ask for on Envoy messages. Modules whose names begin with an underscore are what features are made of. What does not belong here:
what every Ingress has without asking (`xds.translate`, `xds.render`).
"""
