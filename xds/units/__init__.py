"""Units: memoised pure functions of the objects that they read; and the tables of those whose values make up the Snapshot."""
