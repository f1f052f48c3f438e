"""Delegates that run in this process: functions, with a plugin's exit code and output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podnet.errors import PluginNotFoundError, PodnetError
from podnet.model.attachment import Done
from podnet.model.printing import print_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from podnet.model.attachment import Call


class BuiltinExecutor:
    """Runs functions as an executable of their name would run.

    A ``PodnetError`` becomes exit code 1 with the error object on standard output, any other
    exception the same with code 999 and its traceback on standard error: a defect of one plugin
    is that plugin's failure, and the chain undoes what it left like any other's. A function runs
    in the caller's thread, so ``Call.timeout`` is its own to keep.
    """

    def __init__(self, table: Mapping[str, Callable[[Call], bytes]]) -> None:
        """Take the functions by plugin name; each returns what it would print."""
        self._table = table

    def has(self, plugin: str) -> bool:
        """Tell whether there is a function of that name."""
        return plugin in self._table

    def run(self, call: Call) -> Done:
        """Run the function and return what it said.

        Raises:
            PluginNotFoundError: there is no function of that name.
        """
        function = self._table.get(call.plugin)
        if function is None:
            raise PluginNotFoundError(f"no built-in plugin is named {call.plugin!r}")
        try:
            return Done(0, function(call))
        except PodnetError as error:
            return Done(1, print_error(error), error=error)
        except Exception as error:  # whatever it is, the calls that undo must still be made
            import traceback

            wrong = PodnetError(f"{call.plugin}: unexpected {type(error).__name__}", str(error))
            return Done(1, print_error(wrong), traceback.format_exc().encode(errors="replace"))
