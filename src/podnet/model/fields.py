"""Typed reading of the JSON that podnet itself wrote, and that a disk may have damaged."""

from __future__ import annotations

import math

from podnet.errors import DecodingError


class Fields:
    """Typed access to one JSON object that podnet itself wrote: keys are exact.

    Every method raises DecodingError, naming the place, where the value is not of its type.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DecodingError(f"{where}: is no object")
        self._value: dict[str, object] = value
        self.where = where

    def _refuse(self, key: str, kind: str) -> DecodingError:
        return DecodingError(f"{self.where}.{key}: is no {kind}")

    def text(self, key: str) -> str:
        """Return a text."""
        value = self._value.get(key)
        if not isinstance(value, str):
            raise self._refuse(key, "text")
        return value

    def number(self, key: str, most: int | None = None) -> int:
        """Return a whole number from 0 to ``most``."""
        value = self._value.get(key)
        if type(value) is not int or value < 0 or (most is not None and value > most):
            raise self._refuse(key, "whole number in range")
        return value

    def truth(self, key: str) -> bool:
        """Return true or false."""
        value = self._value.get(key)
        if not isinstance(value, bool):
            raise self._refuse(key, "true or false")
        return value

    def seconds(self, key: str) -> float:
        """Return a finite number."""
        value = self._value.get(key)
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            raise self._refuse(key, "number of seconds")
        return float(value)  # type: ignore[arg-type]

    def array(self, key: str) -> list[object]:
        """Return a list."""
        value = self._value.get(key)
        if not isinstance(value, list):
            raise self._refuse(key, "list")
        return value
