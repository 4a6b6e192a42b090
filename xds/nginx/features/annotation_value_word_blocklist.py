"""annotation-value-word-blocklist: an Ingress with one of these words in an annotation is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xds.nginx.feature import Feature, Forbidden, Key, Written
from xds.nginx.values import shown, words

WORD_BLOCKLIST = Key[tuple[str, ...]](
    "annotation-value-word-blocklist",
    words,
    "Words, separated by commas, that no annotation may have anywhere in its value; an Ingress with one is left out.",
    "load_module,lua_package,_by_lua,location,root,proxy_pass,serviceaccount",
    (),
)


def _forbids(blocked: tuple[str, ...], annotations: Iterable[Written]) -> Iterator[Forbidden]:
    for written in annotations:
        if found := next((word for word in blocked if word in written.text), None):
            yield Forbidden(written.name, f"has {shown(found)}, which annotation-value-word-blocklist does not allow")


FEATURE = Feature(read=lambda notes: notes.key(WORD_BLOCKLIST) or None, keys=(WORD_BLOCKLIST,), forbids=_forbids)
