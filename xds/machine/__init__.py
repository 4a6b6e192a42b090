"""This machine: its addresses (`network`), what this process asks of it (`process`), and folders (`state_dir`, `private_folder`).

What does not belong here: the content of the folders, and the use of the addresses.
"""
