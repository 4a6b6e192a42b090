"""Who the client of a request is, and what else proxies in front may say of it: one function of the ConfigMap's keys.

What belongs here: what is believed of whom, as nginx and ingress-nginx believe it. What does not: how Envoy is made to
(`xds.nginx.features.real_ip`).
"""

from __future__ import annotations

from dataclasses import dataclass

X_FORWARDED_FOR = "x-forwarded-for"
EVERYBODY = ("0.0.0.0/0",)
"""ingress-nginx's default for the proxies that are believed: every IPv4 address."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What a listener believes.

    `proxy_protocol`: each connection begins with a PROXY header, whose source address is the peer, if the one who sends it is in `proxies`.
    `header`: the request header, in lower case, whose addresses name the client; "" for none. From the right, each is believed while the
    one who names it, the peer first, is in `proxies`.
    `original`: the header that backends get as X-Original-Forwarded-For.
    `forwarded`: X-Forwarded-Proto, -Host and -Port count, whoever sends them.
    `full`: X-Forwarded-For grows by the peer, where it is the client otherwise.
    `proxies`: ranges, each an address with the length of its prefix. `patience`: milliseconds in which a PROXY header must come.
    """

    proxy_protocol: bool
    header: str
    original: str
    forwarded: bool
    full: bool
    proxies: tuple[str, ...]
    patience: int = 0

    @property
    def by_forwarded(self) -> bool:
        """Whether the scheme of a request may be another one than that of its connection."""
        return self.forwarded or self.proxy_protocol


NOBODY = Trust(proxy_protocol=False, header="", original=X_FORWARDED_FOR, forwarded=False, full=False, proxies=())
"""The defaults: the client is the peer, and says nothing that counts."""


def trust(
    *,
    use_proxy_protocol: bool,
    use_forwarded_headers: bool,
    enable_real_ip: bool,
    compute_full_forwarded_for: bool,
    forwarded_for_header: str,
    proxy_real_ip_cidr: tuple[str, ...],
    proxy_protocol_header_timeout: int,
) -> Trust:
    """What the keys of the ConfigMap say together.

    With the PROXY protocol `enable-real-ip` adds nothing, and `use-forwarded-headers` goes on from the address in the PROXY header.
    `compute-full-forwarded-for` has no effect without `use-forwarded-headers`.
    """
    header = forwarded_for_header.lower()
    reads = use_forwarded_headers or (enable_real_ip and not use_proxy_protocol)
    return Trust(
        proxy_protocol=use_proxy_protocol,
        header=header if reads else "",
        original=header,
        forwarded=use_forwarded_headers,
        full=use_forwarded_headers and compute_full_forwarded_for,
        proxies=proxy_real_ip_cidr if reads or use_proxy_protocol else (),
        patience=proxy_protocol_header_timeout if use_proxy_protocol else 0,
    )
