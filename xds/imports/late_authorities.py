"""TLS contexts that read the authorities of the system before their first connection, not when they are made.

Reading them takes 20 ms and a megabyte for each context. aiohttp makes two while it is imported, for connections without a context of their
own. Ours have one.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any


class _LateContext(ssl.SSLContext):
    """An ordinary context, but for the authorities of the system; it becomes one with the first use of these."""

    def _complete(self) -> ssl.SSLContext:
        self.__class__ = ssl.SSLContext  # type: ignore[assignment]
        self.set_default_verify_paths()
        return self

    def wrap_bio(self, *positional: Any, **named: Any) -> ssl.SSLObject:
        """As of any context, and so are the others."""
        return self._complete().wrap_bio(*positional, **named)

    def wrap_socket(self, *positional: Any, **named: Any) -> ssl.SSLSocket:
        """A TLS connection."""
        return self._complete().wrap_socket(*positional, **named)

    def cert_store_stats(self) -> dict[str, int]:
        """How many authorities there are."""
        return self._complete().cert_store_stats()

    def get_ca_certs(self, *positional: Any, **named: Any) -> Any:
        """The authorities."""
        return self._complete().get_ca_certs(*positional, **named)


def _wait(self: ssl.SSLContext) -> None:
    self.__class__ = _LateContext


@contextlib.contextmanager
def late() -> Iterator[None]:
    """Contexts that are made in this block read the authorities of the system late."""
    ssl.SSLContext.set_default_verify_paths = _wait  # type: ignore[method-assign]
    try:
        yield
    finally:
        del ssl.SSLContext.set_default_verify_paths  # the method of its base is there again
