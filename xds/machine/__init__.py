"""This machine: its addresses (`network`), what this process asks of it (`process`), and folders (`state_dir`, `private_folder`).

What does not belong here: what stands in the folders, and what follows from the addresses.
"""
