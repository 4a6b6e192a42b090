"""Kubernetes: objects, where they come from, and where they are kept until somebody asks."""
