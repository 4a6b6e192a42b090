"""Upgrades of xds itself: one version beside another, Envoys that are replaced, and what a release changes in the bytes that Envoys get."""
