"""From a change of the World to a change of resources: which Units are wanted, and the Snapshot that their values make.

Hosts want clusters and certificates, entries of the stream ConfigMaps want listeners and clusters, clusters want endpoints. Each table
follows the one that wants it, so that a change costs what it touches. Where a Part is held (`xds.units.parts`), what is held takes the
place of its Unit's value before anything follows it: so the clusters that held bytes name are wanted, too.

| module | what |
|---|---|
| `tables.py` | all groups of resources in their order: a new one is a class like those below, and a line there |
| `routes.py` | `RouteTable`: virtual hosts, the frame around them, and how they are joined |
| `listeners.py` | `HttpListener`; `HttpsListener`, with its filter chains and the certificates that these need |
| `streams.py` | `Streams`: the listeners of the tcp- and udp-services ConfigMaps |
| `backends.py` | `Backends`: clusters and endpoints |
| `table.py` | what the groups are made of: `Table`, Units by name; `Single`, a Unit that there is one of |
| `update.py`, `holds.py` | what is to be published; what is held because Envoy rejected it |
"""

from xds.units.tables.holds import Holds
from xds.units.tables.tables import Tables
from xds.units.tables.update import Update

__all__ = ["Holds", "Tables", "Update"]
