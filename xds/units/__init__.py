"""Units: pure functions that remember what they read; the tables of those whose values make up the Snapshot."""
