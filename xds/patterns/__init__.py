"""Regular expressions: what RE2 takes and what it costs (`regex`), and patterns for all spellings of a path (`spelling`).

What does not belong here: which paths need a pattern (`xds.translate`).
"""
