"""Whether libraries that are imported in our way are what they are for others."""
