"""Whether the bytes are right: for betterproto2, for google.protobuf, and for a real Envoy."""
