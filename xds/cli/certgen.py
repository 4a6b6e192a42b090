"""`xds certgen`: the certificates of xDS as Secrets of a cluster. `xds.certificates.certgen` decides on their content.

It may run at any time, and twice concurrently: valid certificates stay, and the run that meets a conflict reads again. Secrets that it did
not create are left alone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from kubernetes.aio.config import ConfigException
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from xds.certificates.certgen import AUTHORITIES, Data, Due, StoredSecrets, due
from xds.cli.arguments import Parsed
from xds.config import Failure, Flags
from xds.kube.apiserver.api import Api
from xds.kube.apiserver.writes import ApiError, Json, create, read, replace

_OURS = {"app.kubernetes.io/managed-by": "xds-certgen"}
_PATIENCE = 60.0
"""Seconds for retries, while the API server is away, or another run writes the same Secrets."""
_FIRST, _LONGEST = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class _StoredSecret:
    """A Secret as it is, and its decoded data."""

    body: Json
    data: Data

    def __repr__(self) -> str:
        return f"_StoredSecret({self.body['metadata']['name']!r})"


def run(parsed: Parsed) -> int:
    """Make or renew what is due, and print a line for each Secret. Raises Failure where that is impossible."""
    asyncio.run(_keep(parsed.settings))
    return 0


async def _keep(settings: Flags) -> None:
    api = Api(settings)
    await api.open()
    try:
        attempts = AsyncRetrying(
            stop=stop_after_delay(_PATIENCE),
            wait=wait_random_exponential(multiplier=_FIRST, max=_LONGEST),
            retry=retry_if_exception(_passes),
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                await _once(api, settings)
    except (ApiError, aiohttp.ClientError, OSError, TimeoutError, ValueError, ConfigException) as error:
        raise Failure(
            str(error) if isinstance(error, ApiError) else f"{api.host} does not answer ({error or type(error).__name__})."
        ) from None
    finally:
        await api.close()


def _passes(error: BaseException) -> bool:
    """Whether a retry may succeed: another run was first, or the API server is busy or away."""
    if isinstance(error, ApiError):
        return error.status in (409, 429) or error.status >= 500
    return isinstance(error, aiohttp.ClientError | OSError | TimeoutError)


async def _once(api: Api, settings: Flags) -> None:
    """Read the Secrets, and write what is due."""
    names = {"authority": settings.authority_secret, "server": settings.server_secret, "client": settings.client_secret}
    found = {part: await _find(api, settings.secrets_namespace, name) for part, name in names.items()}
    held = StoredSecrets(**{part: secret.data for part, secret in found.items() if secret is not None})
    now = datetime.datetime.now(datetime.UTC)
    wanted = due(held, settings.xds_server_names, settings.xds_client_names, now)
    for part, name in names.items():
        what = f"Secret {settings.secrets_namespace}/{name}"
        if part in wanted:
            await _write(api, settings.secrets_namespace, name, found[part], wanted[part])
            print(f"{what} {wanted[part].why}.")
        else:
            print(f"{what} is up to date.")
    if settings.webhook_configuration:
        authorities = (wanted["server"].data if "server" in wanted else held.server)[AUTHORITIES]
        print(await _show_authority(api, settings.webhook_configuration, authorities))


async def _find(api: Api, namespace: str, name: str) -> _StoredSecret | None:
    body = await read(api, f"/api/v1/namespaces/{namespace}/secrets/{name}")
    if body is None:
        return None
    labels = body["metadata"].get("labels") or {}
    if not _OURS.items() <= labels.items():
        raise Failure(
            f"Secret {namespace}/{name} was not made by xds certgen, which would overwrite it: it has no label "
            f"{'='.join(*_OURS.items())}. Choose another name with the flags --authority-secret, --server-secret and --client-secret."
        )
    return _StoredSecret(body, _decoded(body.get("data") or {}))


async def _write(api: Api, namespace: str, name: str, found: _StoredSecret | None, wanted: Due) -> None:
    """With the resourceVersion that was read, so that no change of another run is undone."""
    path = f"/api/v1/namespaces/{namespace}/secrets"
    data = {key: base64.b64encode(value).decode() for key, value in wanted.data.items()}
    if found is None:
        metadata: dict[str, Any] = {"name": name, "namespace": namespace, "labels": _OURS}
        await create(api, path, {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": data})
    else:
        await replace(api, f"{path}/{name}", found.body | {"data": data})


async def _show_authority(api: Api, name: str, authorities: bytes) -> str:
    """Write to all webhooks of a configuration who signs the server's certificate; returns what has become of it, as a sentence."""
    what, path = f"ValidatingWebhookConfiguration {name}", f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}"
    body = await read(api, path)
    if body is None:
        return f"{what} does not exist, so the API server asks no webhook."
    bundle = base64.b64encode(authorities).decode()
    webhooks = body.get("webhooks") or []
    if all(webhook["clientConfig"].get("caBundle") == bundle for webhook in webhooks):
        return f"{what} is up to date."
    shown = [webhook | {"clientConfig": webhook["clientConfig"] | {"caBundle": bundle}} for webhook in webhooks]
    await replace(api, path, body | {"webhooks": shown})
    return f"{what} has the authority of the certificate."


def _decoded(data: Mapping[str, str]) -> Data:
    """A value that is no base64 counts as missing."""
    decoded = {}
    for key, value in data.items():
        try:
            decoded[key] = base64.b64decode(value, validate=True)
        except binascii.Error:
            continue
    return decoded
