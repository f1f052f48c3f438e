"""What a benchmark found, and whether that is what was wanted."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Figure:
    """One number and its target.

    Attributes:
        name: what was measured.
        value: what came out; None if it could not be measured.
        unit: of both.
        target: what is wanted; None for a number that is told for comparison only.
        at_most: the target is an upper limit; else a lower one.
        counted: it does not depend on the speed of the machine, and may be relied on anywhere.
        note: what else there is to say.
    """

    name: str
    value: float | None
    unit: str
    target: float | None = None
    at_most: bool = False
    counted: bool = False
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None without a target or a value."""
        if self.target is None or self.value is None:
            return None
        return self.value <= self.target if self.at_most else self.value >= self.target

    def cells(self) -> tuple[str, ...]:
        """Return it as a row of a table."""
        limit = "≤" if self.at_most else "≥"
        wanted = "" if self.target is None else f"{limit} {_text(self.target)}"
        verdict = {True: "yes", False: "NO", None: ""}[self.reached]
        value = "not measured" if self.value is None else f"{_text(self.value)} {self.unit}"
        return self.name, value, wanted, verdict, self.note

    def document(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "at_most": self.at_most,
            "counted": self.counted,
            "reached": self.reached,
            "note": self.note,
        }


def grouped(value: float) -> str:
    """Return a whole number with its digits in groups of three."""
    return f"{value:,.0f}".replace(",", " ")


def _text(value: float) -> str:
    if value >= 1000:
        return grouped(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
