"""The nginx dialect: the contract of a Feature (`feature`), finding and asking Features (`registry`), parsers of values (`values`).

What belongs here: everything that knows the name of an annotation or of a ConfigMap key. The Features themselves are in `features/`; names
without one have a verdict in `known`, names that never were have a hint in `hints`. What does not: what every Ingress has without asking.
"""
