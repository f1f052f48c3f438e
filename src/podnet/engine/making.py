"""Making an interface: the effects of ADD, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podnet.engine.ipam_delegate import NO_VERSION, add_ipam
from podnet.engine.links import observer
from podnet.errors import DelegateError, InterfaceExistsError, PluginNotFoundError
from podnet.model.ops import CreateLink
from podnet.model.printing import result_document
from podnet.model.reader import Reader

if TYPE_CHECKING:
    from podnet.engine.house import House
    from podnet.model.attachment import Call
    from podnet.model.result import Result


class Making:
    """The part of ADD that has effects.

    Attributes:
        found_another: a link of the name was there, so none was made.
        asked_ipam: addresses may be held.
    """

    def __init__(self, house: House, driver: Any, call: Call, sandbox: Any) -> None:
        self._house = house
        self._driver = driver
        self._call = call
        self._sandbox = sandbox
        self.found_another = False
        self.asked_ipam = False

    def run(self, want: Any, have: Any, ops: tuple[Any, ...]) -> Result:
        """Create the link, ask IPAM, configure the link; return the result of ADD.

        Args:
            want: what the configuration asks for.
            have: what was found before.
            ops: the driver's plan for these two.

        Raises:
            PodnetError: a step failed; nothing is undone here.
        """
        house = self._house
        try:
            self._sandbox.apply(ops, observer(house))
        except InterfaceExistsError:
            self.found_another = True
            raise
        if want.ipam:
            house.step("ipam.add")
            # From here on addresses may be held, whatever the plugin says of its success.
            self.asked_ipam = True
            try:
                answer = add_ipam(house.executor, self._call)
            except DelegateError as error:
                # What does not exist holds nothing, and cannot be asked to release it either.
                self.asked_ipam = not isinstance(error.__cause__, PluginNotFoundError)
                raise
            want = self._driver.configured(want, answer)
            for op in ops:
                if isinstance(op, CreateLink):
                    have = have.created(op)
            self._sandbox.apply(self._driver.plan(want, have), observer(house))
        result: Result = self._driver.result(want, have)
        # Versions up to 0.2.0 cannot tell of an interface without addresses: better none than one
        # that the runtime takes for failed (cni plugins, macvlan_test.go:174 leaves the link).
        result_document(result, Reader(self._call.config).string("cniVersion") or NO_VERSION)
        return result
