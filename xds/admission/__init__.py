"""The validating webhook: an Ingress is judged before the API server stores it, in the sentences of `xds check`."""
