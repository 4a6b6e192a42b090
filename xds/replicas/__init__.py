"""What the replicas of one control plane share: who leads (`lease`, `election`), how far whose Envoys are (`census`, `peers`), one
default certificate and one record of what Envoy refuses (`shared_certificate`, `shared_record`).

What does not belong here: what the leader writes (`xds.report`), and every decision about traffic.
"""
