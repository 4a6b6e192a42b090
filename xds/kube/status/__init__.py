"""Reporting back to the API server: the addresses of Ingresses, Events about them, and the Lease that says which replica does so.

What belongs here: what is to be written (`addresses`, `events`, `lease`: pure; `lookup`, `nodes`: asked for), and writing it (`election`,
`status_writer`, `event_writer`, `reporter`). What does not: how an object is written (`xds.kube.writes`), and every decision about traffic.
"""
