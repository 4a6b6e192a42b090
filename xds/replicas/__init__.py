"""What the replicas of one control plane share.

They elect a leader (`lease`, `election`), count each other's Envoys (`census`, `peers`), and share one default certificate and one record
of the resources that Envoy rejects (`shared_certificate`, `shared_record`).
"""
