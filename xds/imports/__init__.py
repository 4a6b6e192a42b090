"""How libraries are imported: what they do meanwhile, and no command of ours needs, is left out or waits for its first use.

Imports are most of a short command, and a third of the memory of a control plane with few Ingresses. All of this is done by an import hook
(`hook.py`), so that no other module needs a trick:

| library | what it does | what it does now |
|---|---|---|
| envoy-data-plane | makes validators of pydantic for hundreds of messages | makes plain dataclasses (`plain_messages.py`) |
| envoy-data-plane | imports with one module all that its messages may have in them | runs these modules with their first use |
| envoy-data-plane | imports grpclib and h2 for its services, which we serve by grpc.aio | leaves them out |
| kubernetes | imports the blocking client, requests and oauthlib, and every other part of it | imports them with their first use |
| kubernetes | imports pydantic, for responses that we read ourselves | imports it with the first `ApiClient` |
| aiohttp | reads the authorities of the system, twice | reads them before the first connection (`late_authorities.py`) |

What is imported before `xds` stays as it is. Others in this process find all of it as always, but for messages without validators, and the
bases of services for grpclib: they import `betterproto2.grpclib` before `xds`.
"""
