"""Ingresses of public repositories, checked and translated.

The files and their runner are no part of this repository; `make test` takes some of them and `make wild` all, where `../shared/wild` is.
"""
