"""What Envoy refuses: finding the Part that it is about, and holding it back so that nothing else waits for it.

What belongs here: the search and its rules (`quarantine`), what Envoy's words name (`refusal`), whose object it is (`blame`). What does
not: building without the Part (`xds.units.tables`), and keeping the order of all this (`xds.publish.publisher`).
"""
