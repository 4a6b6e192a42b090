"""Kubernetes: the objects, their Sources, and the World that stores them."""
