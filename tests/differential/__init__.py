"""The same requests to Debian's nginx, with what ingress-nginx would have written for it, and to our Envoy.

Skipped where there is no nginx.
"""
