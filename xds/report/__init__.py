"""What is written to the API server: the addresses of Ingresses, and Events about them.

Decisions are pure: which addresses (`status_addresses`) and which Events (`events`). `lookup` and `envoy_nodes` find the sources of
addresses, `status_writer` and `event_writer` send the requests, and `reporter` runs all of it. What does not belong here: the form of a
request (`xds.kube.apiserver.writes`), the election (`xds.replicas`), and every decision about traffic.
"""
