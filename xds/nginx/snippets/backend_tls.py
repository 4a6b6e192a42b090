"""What a snippet says of TLS to backends: the name that they are sent, and the ciphers that they are offered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xds.nginx.tls import no_ciphers, suites
from xds.nginx.values import shown

_NAME = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]{0,251}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class TowardsBackends:
    """`name` is sent to backends (SNI) if `sends_name`; without `suites` those that are usual are offered, with TLS 1.2."""

    name: str = ""
    sends_name: bool = False
    suites: tuple[str, ...] = ()

    @property
    def sni(self) -> str:
        """The name that is sent; "" for none."""
        return self.name if self.sends_name else ""


def with_directive(what: str, args: Sequence[str], before: TowardsBackends) -> TowardsBackends:
    """What directives ask for so far (`before`), with one more: `name`, `server_name` or `ciphers`.

    Raises ValueError with the end of a sentence.
    """
    if len(args) != 1:
        raise ValueError("takes one argument")
    [text] = args
    if what == "name":
        if not _NAME.fullmatch(text):
            raise ValueError(f"has {shown(text)}, which is no name of a host")
        return replace(before, name=text)
    if what == "server_name":
        if text not in ("on", "off"):
            raise ValueError(f"has {shown(text)}, which is neither on nor off")
        return replace(before, sends_name=text == "on")
    found, unknown = suites(text)
    if unknown:
        raise ValueError(no_ciphers(unknown))
    return replace(before, suites=found)
