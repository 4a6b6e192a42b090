"""Bytes of protobuf: encoders compiled once a class (`encode`), and messages with placeholders (`template`).

What does not belong here: any message by name.
"""
