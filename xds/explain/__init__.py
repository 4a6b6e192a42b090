"""What answers a URL, and why: computed from the Model (`route_of`), and as a document with the names of resources (`document`).

What does not belong here: wording and printing (`xds.cli.explain`).
"""
