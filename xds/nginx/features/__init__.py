"""One module for each feature of the nginx dialect, found by being here.

A module has a `FEATURE`: it declares its annotations and ConfigMap keys, reads them, and draws what they ask for on Envoy messages.
What features are made of is in `xds.nginx.feature`; what every Ingress has without asking in `xds.translate` and `xds.render`.
"""
