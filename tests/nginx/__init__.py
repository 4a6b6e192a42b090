"""The nginx dialect: what each declared name does, and that no value of a user breaks anything."""
