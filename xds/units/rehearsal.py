"""What would be wrong with an Ingress if it were there: its Units run as they would, and nothing of that is kept.

The World takes the Ingress over for as long as this lasts, and gets back what it had. The memos of a Build stay as they are: what does
not depend on the Ingress is taken from them, everything else runs in a place of its own. So it costs what the change itself would cost.
It must not run beside anything that reads or changes the World or the Build.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from xds.kube.objects import Ingress, ref
from xds.kube.world import Key, World, host_of_key, refused_edit_key
from xds.problem import Problem
from xds.units import units
from xds.units.memo import Build, Unit

T = TypeVar("T")


def problems_with(world: World, build: Build, item: Ingress) -> list[Problem]:
    """The Problems that an Ingress, and others on its hosts, have if it is there like this, in the order of object and field.

    It is judged as it is written, also where its last valid form would stay in its place.
    """
    which = ref(item)
    before, edited = world.get(tuple(which)), refused_edit_key(which.namespace, which.name)
    edit, keys = world.get(edited), world.set_constant(edited, None) | world.apply([item])
    if not keys:  # it is there already
        return [problem for problems in build.problems.values() for problem in problems if problem.about == which]
    try:
        return _Trial(world, build, keys).problems()
    finally:
        world.set_constant(edited, edit)
        world.apply([before] if before else (), () if before else [which])


class _Trial:
    """The reader (`xds.kube.world.Reader`) of Units in a World that differs in some keys from the one that the memos of a Build know."""

    def __init__(self, world: World, build: Build, keys: Iterable[Key]) -> None:
        self._lookup = world.get
        self._build = build
        self._keys = frozenset(keys)
        self._depending = build.depending(self._keys)
        self._values: dict[Unit, Any] = {}
        self._problems: dict[Problem, None] = {}

    def problems(self) -> list[Problem]:
        """Those of the Units that ran for the hosts that the keys are about."""
        for host in sorted({found for key in self._keys if (found := host_of_key(key)) is not None}):
            self.unit(units.host, host)
        return sorted(self._problems, key=lambda p: (p.about, p.field, p.code))

    def __call__(self, key: Key) -> Any:
        """What the World holds under this key."""
        return self._lookup(key)

    def unit(self, function: Callable[..., T], *arguments: Hashable) -> T:
        """The value of a Unit: that of its memo, if it cannot be another one."""
        unit = Unit(function, arguments)
        if unit not in self._values:
            known = None if unit in self._depending else self._build.known(unit)
            self._values[unit] = known[0] if known is not None else self._run(unit)
        value: T = self._values[unit]
        return value

    def report(self, problem: Problem) -> None:
        """A Unit that runs has this Problem."""
        self._problems[problem] = None

    def _run(self, unit: Unit) -> Any:
        try:
            return unit.function(self, *unit.arguments)
        except Exception:  # noqa: BLE001 - a fault of ours: it is logged when the object comes, and is no reason to judge it
            return None
