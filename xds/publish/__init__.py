"""From a change to the streams: taking changes over in order (`publisher`), and which Problems there are now (`notices`).

What does not belong here: what is served (`xds.units`), and to whom (`xds.server`).
"""
