"""A real cluster in a network of its own: the API server and what it needs, pods that answer, and xds with an Envoy beside them."""
