"""Verbs to methods, and the executor that prefers a built-in to an executable."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from podnet.engine import registry
from podnet.errors import InvalidEnvironmentError, PluginNotFoundError
from podnet.model.printing import print_result
from podnet.model.reader import Reader
from podnet.model.versions import reconcile

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.model.attachment import Call, Done
    from podnet.model.result import Result
    from podnet.ports import Executor

_METHODS = {"ADD": "add", "DEL": "delete", "CHECK": "check", "GC": "gc", "STATUS": "status"}


def perform(house: House, call: Call, *, name: str = "") -> Result | None:
    """Do one verb of one built-in plugin, under the locks of its role.

    Args:
        house: the parts.
        call: what is asked; VERSION never comes here.
        name: the built-in's name where it is not ``call.plugin``: an IPAM plugin is called with
            the configuration of the plugin that delegates to it (CNI 1.1.0, section 4).

    Raises:
        PluginNotFoundError: podnet has no plugin of that name.
        PodnetError: the verb failed.
    """
    name = name or call.plugin
    plugin = house.plugin(name)
    if plugin is None:
        raise PluginNotFoundError(f"podnet has no built-in plugin {name!r}")
    method = _METHODS.get(call.verb)
    if method is None:
        raise InvalidEnvironmentError(f"unknown CNI_COMMAND: {call.verb}")
    with house.exclusive(registry.ROLES[registry.PLUGINS[name]], call):
        result: Result | None = getattr(plugin, method)(call)
    return result


class Delegates:
    """Executor of an open house: what is built in runs here, everything else as a process."""

    def __init__(self, house: House) -> None:
        self._house = house

    @cached_property
    def _builtin(self) -> Executor:
        made: Executor = registry.resolve(registry.BUILTIN_EXECUTOR)(
            dict.fromkeys(registry.PLUGINS, self._run_here)
        )
        return made

    @property
    def _process(self) -> Executor:
        house = self._house
        # A delegate may call podnet back, as an IPAM plugin: it has to find the same leases.
        own = {"PODNET_STATE_DIR": house.settings.state_dir, "PODNET_STORE": house.store_url}
        made: Executor = registry.resolve(registry.PROCESS_EXECUTOR)(
            environment={**house.environ, **own}
        )
        return made

    def _run_here(self, call: Call) -> bytes:
        result = perform(self._house, call)
        if result is None:
            return b""
        return print_result(result, reconcile(Reader(call.config).string("cniVersion")))

    def has(self, plugin: str) -> bool:
        """Tell whether a built-in or an executable of that name may be run."""
        return self._builtin.has(plugin) or self._process.has(plugin)

    def run(self, call: Call) -> Done:
        """Run the delegate; see ``ports.Executor.run``."""
        target = registry.PLUGINS.get(call.plugin)
        if target and not self._house.may_delegate(registry.ROLES[target]):
            raise PluginNotFoundError(f"plugin {call.plugin!r} cannot be delegated to from here")
        chosen = self._builtin if self._builtin.has(call.plugin) else self._process
        return chosen.run(call)
