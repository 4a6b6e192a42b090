"""HTTP on the health port: liveness, readiness, metrics.

What belongs here: answering HTTP requests about this process. What does not: deciding whether it is ready, or counting anything.
"""
