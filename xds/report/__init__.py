"""What is written back to the API server: the addresses of Ingresses, and Events about them.

What belongs here: what is to be written (`addresses`, `events`: pure; `lookup`, `nodes`: asked for), and writing it (`status_writer`,
`event_writer`, `reporter`). What does not: who of the replicas writes (`xds.replicas.election`), how an object is written
(`xds.kube.apiserver.writes`), and every decision about traffic.
"""
