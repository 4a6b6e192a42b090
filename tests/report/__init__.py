"""Reporting back: what is decided, without an API server, and what is written, with a scripted one."""
