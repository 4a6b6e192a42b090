"""The API server as a Source of objects, and writing to it.

What belongs here: deciding what to ask (`reflector`, `secrets`, `denials`: pure), asking it (`follow`, `api`), the Source made of both
(`apiserver`), and how an object is written (`writes`, `faults`). What does not: what an object means, and what is reported (`xds.report`).
"""
