"""What Envoy rejects: finding the Part that it is about, and holding it back so that nothing else waits for it.

    quarantine   the rules, and the one class that others call
    search       the search for culprits by halves
    ledger       which content was published when, and what of it was accepted
    replays      NACKs that count again when what they were about comes back
    dependents   what names a cluster that is left out
    refusal      what Envoy's words name or quote
    blame        from Parts to the objects that a user can fix

What does not belong here: building without the Part (`xds.units.tables`), and keeping the order of all this (`xds.publish.publisher`).
"""
