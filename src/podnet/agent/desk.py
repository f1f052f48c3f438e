"""What the agent does with a request, wherever it came from: the same as the in-process plugin."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from attrs import evolve

from podnet.cni import skel
from podnet.cni.main import is_own_netns, plugin_name
from podnet.engine import settings
from podnet.engine.verbs import perform
from podnet.errors import InvalidEnvironmentError, PodnetError, TryAgainLaterError
from podnet.model.urls import masked

if TYPE_CHECKING:
    from collections.abc import Callable

    from podnet.agent.frames import Request
    from podnet.cni.skel import Response
    from podnet.engine.house import House
    from podnet.model.attachment import Call
    from podnet.model.result import Result

_SETTINGS = ("PODNET_CONFIG", "PODNET_STATE_DIR", "PODNET_STORE")

_JUDGED = 64

# What is left of the caller's time for the way back.
_MARGIN = 1.0


class Desk:
    """Answers requests with one open house. Threads share it."""

    def __init__(self, house: House, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take a house.

        Args:
            house: stays open as long as requests are answered.
            clock: seconds, for deadlines.
        """
        self._house = house
        self._clock = clock
        self._lock = threading.Lock()
        self._judged: dict[tuple[str, ...], PodnetError | None] = {}

    def answer(self, request: Request, came: float) -> Response:
        """Return what the executable is to print, and its exit code.

        Args:
            request: what it was asked.
            came: when it came, by the clock.
        """
        return skel.handle(
            request.environ,
            lambda: request.stdin,
            lambda call: self._serve(request, call, came),
            same_netns=is_own_netns,
            about=f"{request.name}: podnet, CNI plugin; see https://www.cni.dev/docs/spec/",
        )

    def _serve(self, request: Request, call: Call, came: float) -> Result | None:
        self._judge(request)
        left = request.seconds - _MARGIN - (self._clock() - came)
        if left <= 0:
            raise TryAgainLaterError("the agent had too much to do to begin with this in time")
        timed = evolve(call, timeout=min(self._house.settings.timeout, left))
        with self._house.called_with(request.environ):
            return perform(self._house, timed, name=plugin_name(request.name, call))

    def _judge(self, request: Request) -> None:
        """Refuse a caller who means another installation of podnet than this one.

        Raises:
            InvalidEnvironmentError: his settings are others.
        """
        place = tuple(request.environ.get(name, "") for name in _SETTINGS)
        if not any(place):
            return
        with self._lock:
            if place not in self._judged:
                if len(self._judged) >= _JUDGED:
                    self._judged.clear()
                self._judged[place] = self._difference(dict(zip(_SETTINGS, place, strict=True)))
            error = self._judged[place]
        if error is not None:
            raise error

    def _difference(self, environ: dict[str, str]) -> PodnetError | None:
        try:
            theirs = settings.load(environ)
        except PodnetError as error:
            return error
        ours = self._house.settings
        same = (theirs.state_dir, theirs.store) == (ours.state_dir, ours.store)
        if same:
            return None
        told = " ".join(f"{key}={value}" for key, value in environ.items() if value)
        return InvalidEnvironmentError(
            "podnet's agent has other settings than its caller",
            f"{told}; the agent's: {ours.state_dir}, store {masked(ours.store)}",
        )
