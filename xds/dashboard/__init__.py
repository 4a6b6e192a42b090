"""The dashboard: a page of the fleet for people, on `--dashboard-address`. Read-only HTML over the documents of the debug service.

What belongs here: which document a page shows, its templates, and the limits of the port. What does not: state of its own, any decision,
and any markup that is joined by hand. What it imports beyond the rest of the server is imported at the first request.
"""
