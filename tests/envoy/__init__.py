"""Tests through a real Envoy, and what they are made with (`tests.envoy.harness`)."""
