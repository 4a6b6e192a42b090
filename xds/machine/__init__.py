"""This machine: the addresses that it has (`network`), and the folders that outlive a restart or a run (`state_dir`, `private_folder`).

What does not belong here: what stands in the folders, and what follows from the addresses.
"""
