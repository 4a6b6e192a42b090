"""use-gzip, enable-brotli and their siblings: responses are compressed for clients that take it.

Both stand in the route table, in a place of their own, so that a change of the ConfigMap drains no connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.envoy.extensions.compression.brotli.compressor.v3 import Brotli
from envoy_data_plane.envoy.extensions.compression.gzip.compressor.v3 import Gzip, GzipCompressionLevel
from envoy_data_plane.envoy.extensions.filters.http.compressor.v3 import (
    Compressor,
    CompressorCommonDirectionConfig,
    CompressorResponseDirectionConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher

from xds.model import Route
from xds.nginx.feature import Feature, Fidelity, FilterPlace, Key, Notes
from xds.nginx.values import boolean, shown, whole
from xds.wire.encode import encode, field, pack

_HTML = "text/html"
"""nginx compresses it whatever the list is."""
_ALL = ("*",)
_TYPE = re.compile(r"[-A-Za-z0-9.+_]+/[-A-Za-z0-9.+_]+")
_MOST_TYPES = 200
_LARGEST = 1 << 30
_COMPRESSED = (200, 403, 404)
"""The statuses whose responses nginx compresses."""
_OTHERS = [status for status in range(200, 600) if status not in _COMPRESSED]
_CONTENT_TYPE_MATCHER = 4
"""The field number of CommonDirectionConfig.content_type_matcher."""
_CHUNK = 32 << 10
"""Bytes that a compressor hands on at a time."""
_LEAST_LEVEL = 2
"""Envoy's gzip is zlib-ng, of which level 1 does without what makes text small: it gives a quarter more than level 1 of nginx' zlib.
That is the default there. Level 2 gives some hundredths less, in about the time that it takes nginx."""
_WINDOW_BITS = 17
"""How far Brotli looks back: 128 KiB. nginx looks back 512 KiB, but for a response that is known to be shorter no further than that, and
begins it with other bits then. Of a script of 800 KB it saves 0.6 % more, and each open response takes more memory."""
_REASON = (
    "Cache-Control: no-transform is obeyed; and Vary says of each response that could be compressed that it depends on Accept-Encoding"
)


def _types(text: str) -> tuple[str, ...]:
    """The media types of the list, each once, in lower case and sorted; `_ALL` where a "*" is among them."""
    if "*" in text.split():
        return _ALL
    found = {word.lower() for word in text.split()} | {_HTML}
    if odd := next((word for word in sorted(found) if not _TYPE.fullmatch(word)), None):
        raise ValueError(f"has {shown(odd)}, which is no media type such as text/css")
    if len(found) > _MOST_TYPES:
        raise ValueError(f"has {len(found)} media types, more than {_MOST_TYPES}")
    return tuple(sorted(found))


def _switch(name: str, doc: str) -> Key[bool]:
    return Key(name, boolean, doc, "true", default=False, fidelity=Fidelity.APPROXIMATE, reason=_REASON, tuning=True)


def _key(name: str, parse: Callable[[str], int], doc: str, example: str, default: int) -> Key[int]:
    return Key(name, parse, doc, example, default, tuning=True)


_WEB_TYPES = (
    "application/atom+xml application/javascript application/json application/rss+xml application/vnd.ms-fontobject "
    "application/x-font-ttf application/x-javascript application/x-web-app-manifest+json application/xhtml+xml application/xml "
    "font/opentype image/svg+xml image/x-icon text/css text/javascript text/plain text/x-component"
)
USE_GZIP = _switch("use-gzip", "Whether responses are compressed with gzip.")
GZIP_LEVEL = _key("gzip-level", whole(1, 9), "How hard gzip tries, from 1 to 9.", "6", 1)
GZIP_MIN_LENGTH = _key("gzip-min-length", whole(0, _LARGEST), "The least bytes of a response that is compressed with gzip.", "1000", 256)
GZIP_TYPES = Key(
    "gzip-types",
    _types,
    'The media types of responses that are compressed with gzip: text/html always is, "*" stands for all.',
    "text/css application/json",
    _types(_WEB_TYPES),
    tuning=True,
)
ENABLE_BROTLI = _switch("enable-brotli", "Whether responses are compressed with Brotli.")
BROTLI_LEVEL = _key("brotli-level", whole(0, 11), "How hard Brotli tries, from 0 to 11.", "6", 4)
BROTLI_MIN_LENGTH = _key(
    "brotli-min-length", whole(0, _LARGEST), "The least bytes of a response that is compressed with Brotli.", "1000", 20
)
BROTLI_TYPES = Key(
    "brotli-types",
    _types,
    'The media types of responses that are compressed with Brotli: text/html always is, "*" stands for all.',
    "text/css application/json",
    _types(f"{_WEB_TYPES} application/xml+rss"),
    tuning=True,
)


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress: how hard, from how many bytes on, and what."""

    level: int
    least: int
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compressions:
    """Those that are switched on."""

    brotli: Compression | None
    gzip: Compression | None


def _read(notes: Notes) -> Compressions | None:
    brotli = Compression(notes.key(BROTLI_LEVEL), notes.key(BROTLI_MIN_LENGTH), notes.key(BROTLI_TYPES))
    gzip = Compression(notes.key(GZIP_LEVEL), notes.key(GZIP_MIN_LENGTH), notes.key(GZIP_TYPES))
    found = Compressions(brotli if notes.key(ENABLE_BROTLI) else None, gzip if notes.key(USE_GZIP) else None)
    return found if found != Compressions(None, None) else None


def _filters(setting: Compressions, _route: Route) -> tuple[TypedExtensionConfig, ...]:
    return _compressors(setting)


@lru_cache(maxsize=16)
def _compressors(setting: Compressions) -> tuple[TypedExtensionConfig, ...]:
    """Of a client that takes both, equally, Brotli wins."""
    made = []
    if brotli := setting.brotli:
        library = TypedExtensionConfig(
            name="brotli", typed_config=pack(Brotli(quality=brotli.level, window_bits=_WINDOW_BITS, chunk_size=_CHUNK))
        )
        made.append(_compressor("brotli", brotli, library, first=True))
    if gzip := setting.gzip:
        level = GzipCompressionLevel[f"COMPRESSION_LEVEL_{max(gzip.level, _LEAST_LEVEL)}"]
        config = pack(Gzip(memory_level=8, compression_level=level, window_bits=15, chunk_size=_CHUNK))
        made.append(_compressor("gzip", gzip, TypedExtensionConfig(name="gzip", typed_config=config), first=False))
    return tuple(made)


def _compressor(name: str, wanted: Compression, library: TypedExtensionConfig, *, first: bool) -> TypedExtensionConfig:
    common = _with_types(CompressorCommonDirectionConfig(min_content_length=wanted.least), wanted.types)
    responses = CompressorResponseDirectionConfig(common_config=common, weaken_etag_on_compress=True, uncompressible_response_codes=_OTHERS)
    config = Compressor(compressor_library=library, response_direction_config=responses, choose_first=first)
    return TypedExtensionConfig(name=name, typed_config=pack(config))


def _with_types(config: CompressorCommonDirectionConfig, types: tuple[str, ...]) -> CompressorCommonDirectionConfig:
    """Envoy 1.40 has a list of matchers in place of `content_type`, which it warns about; envoy-data-plane 2.2 does not know it yet."""
    matchers = [StringMatcher(contains="/")] if types == _ALL else [StringMatcher(exact=each, ignore_case=True) for each in types]
    return CompressorCommonDirectionConfig.parse(encode(config) + b"".join(field(_CONTENT_TYPE_MATCHER, encode(each)) for each in matchers))


FEATURE = Feature(
    read=_read,
    keys=(
        USE_GZIP,
        GZIP_LEVEL,
        GZIP_MIN_LENGTH,
        GZIP_TYPES,
        ENABLE_BROTLI,
        BROTLI_LEVEL,
        BROTLI_MIN_LENGTH,
        BROTLI_TYPES,
    ),
    filters=_filters,
    place=FilterPlace.COMPRESSION,
)
