"""Typed reading of JSON objects from users, collecting every mistake with its path."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from podnet.errors import InvalidConfigError
from podnet.model.addresses import Address, Prefix, parse_address, parse_mac, parse_prefix
from podnet.model.wire import kind, short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Mistakes = list[tuple[str, str]]

T = TypeVar("T")
Default = TypeVar("Default")

INVALID = "invalid network configuration"

# Parsers quote what they refuse, and a value may be as long as a whole document.
_MESSAGE_LENGTH = 200


class Reader:
    """One JSON object being read.

    Keys match as in Go: the exact key, else one that differs in case only. ``null`` is absent.
    A wrong value is recorded as a mistake and its default returned, so that one reading finds all
    mistakes; ``finish`` raises them. Readers of nested objects share one list of mistakes.

    Attributes:
        document: the object, untouched.
        path: where it is in the whole document, such as ``ipam.ranges[0]``; empty at the top.
        mistakes: ``(path, what)`` pairs found so far, everywhere in the document.
    """

    __slots__ = ("_folded", "document", "mistakes", "path")

    def __init__(
        self, document: Mapping[str, object], path: str = "", mistakes: Mistakes | None = None
    ) -> None:
        self.document = document
        self.path = path
        self.mistakes: Mistakes = [] if mistakes is None else mistakes
        self._folded: dict[str, str] | None = None

    def __contains__(self, key: str) -> bool:
        return self.value(key) is not None

    def where(self, key: str) -> str:
        """Return the path of the key in the whole document."""
        return f"{self.path}.{key}" if self.path else key

    def mistake(self, key: str, what: str) -> None:
        """Record that the value of ``key`` is wrong."""
        self.mistakes.append((self.where(key), what))

    def value(self, key: str) -> object:
        """Return the value as it is; None if absent or null."""
        if key in self.document:
            return self.document[key]
        if self._folded is None:
            self._folded = {each.lower(): each for each in self.document}
        found = self._folded.get(key.lower())
        return None if found is None else self.document[found]

    @overload
    def string(self, key: str, default: str = "", *, required: bool = False) -> str: ...
    @overload
    def string(self, key: str, default: None, *, required: bool = False) -> str | None: ...
    def string(self, key: str, default: str | None = "", *, required: bool = False) -> str | None:
        """Return a text. With ``required`` an absent or empty one is a mistake."""
        value = self.value(key)
        if value is not None and not isinstance(value, str):
            self.mistake(key, f"must be a string, not {kind(value)}")
            return default
        if required and not value:
            self.mistake(key, "is required")
        return default if value is None else value

    def choice(self, key: str, choices: Collection[str], default: str = "") -> str:
        """Return a text that is one of ``choices``; an empty one counts as absent."""
        value = self.string(key)
        if not value:
            return default
        if value not in choices:
            self.mistake(key, f"must be one of {', '.join(choices)}, not {short(value)}")
            return default
        return value

    @overload
    def integer(
        self, key: str, default: int = 0, *, minimum: int | None = None, maximum: int | None = None
    ) -> int: ...
    @overload
    def integer(
        self, key: str, default: None, *, minimum: int | None = None, maximum: int | None = None
    ) -> int | None: ...
    def integer(
        self,
        key: str,
        default: int | None = 0,
        *,
        minimum: int | None = None,
        maximum: int | None = None,
    ) -> int | None:
        """Return a whole number, ``minimum`` and ``maximum`` included."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.mistake(key, f"must be a whole number, not {kind(value)}")
            return default
        if minimum is not None and value < minimum:
            self.mistake(key, f"must be at least {minimum}, not {short(value)}")
            return default
        if maximum is not None and value > maximum:
            self.mistake(key, f"must be at most {maximum}, not {short(value)}")
            return default
        return value

    @overload
    def boolean(self, key: str, default: bool = False, *, texts: bool = False) -> bool: ...
    @overload
    def boolean(self, key: str, default: None, *, texts: bool = False) -> bool | None: ...
    def boolean(
        self, key: str, default: bool | None = False, *, texts: bool = False
    ) -> bool | None:
        """Return a truth value; with ``texts`` also one spelled "true" or "false", any case."""
        value = self.value(key)
        if value is None:
            return default
        if isinstance(value, bool):
            return value
        if texts and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        self.mistake(key, f"must be true or false, not {kind(value)}")
        return default

    def section(self, key: str) -> Reader:
        """Return a reader of the object at ``key``; of an empty one if it is absent."""
        value = self.value(key)
        if value is not None and not isinstance(value, dict):
            self.mistake(key, f"must be an object, not {kind(value)}")
            value = None
        return Reader(value or {}, self.where(key), self.mistakes)

    def sections(self, key: str) -> tuple[Reader, ...]:
        """Return readers of a list of objects."""
        readers = []
        for i, value in enumerate(self.values(key)):
            if isinstance(value, dict):
                readers.append(Reader(value, f"{self.where(key)}[{i}]", self.mistakes))
            else:
                self.mistake(f"{key}[{i}]", f"must be an object, not {kind(value)}")
        return tuple(readers)

    def values(self, key: str) -> tuple[object, ...]:
        """Return a list's values as they are."""
        value = self.value(key)
        if value is None:
            return ()
        if not isinstance(value, list | tuple):
            self.mistake(key, f"must be a list, not {kind(value)}")
            return ()
        return tuple(value)

    def strings(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return self._each(key, str)

    def addresses(self, key: str) -> tuple[Address, ...]:
        """Return a list of IP addresses."""
        return self._each(key, parse_address)

    def prefixes(self, key: str) -> tuple[Prefix, ...]:
        """Return a list of ``address/length`` prefixes, host bits kept."""
        return self._each(key, parse_prefix)

    def address(self, key: str, *, required: bool = False) -> Address | None:
        """Return an IP address; None if it is absent, empty or wrong."""
        return self.parsed(key, parse_address, None, required=required)

    def prefix(self, key: str, *, required: bool = False) -> Prefix | None:
        """Return an ``address/length`` prefix, host bits kept; None if absent, empty or wrong."""
        return self.parsed(key, parse_prefix, None, required=required)

    def mac(self, key: str) -> str:
        """Return a hardware address, lower case with colons; empty if absent or wrong."""
        return self.parsed(key, parse_mac, "")

    def parsed(
        self, key: str, parse: Callable[[str], T], default: Default, *, required: bool = False
    ) -> T | Default:
        """Return a text through ``parse``, whose ValueError is a mistake; empty means absent."""
        text = self.string(key, required=required)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as error:
            self.mistake(key, str(error)[:_MESSAGE_LENGTH])
            return default

    def checked(self, key: str, fault: Callable[[str], str]) -> str:
        """Return a text, also an empty one, in which ``fault`` finds nothing wrong.

        Args:
            key: where.
            fault: returns what is wrong with a text, empty if nothing is.
        """
        before = len(self.mistakes)
        text = self.string(key)
        if len(self.mistakes) == before and (what := fault(text)):
            self.mistake(key, f"{what}, is {short(text)}" if text else what)
        return text

    def file_path(self, key: str) -> str:
        """Return a path or an empty text; no system call takes one with a NUL in it."""
        return self.checked(key, lambda text: "has a NUL character" if "\0" in text else "")

    def finish(self, msg: str = INVALID) -> None:
        """Raise all mistakes found so far, anywhere in the document, if there are any.

        Raises:
            InvalidConfigError: with ``msg`` and every mistake.
        """
        if self.mistakes:
            raise InvalidConfigError(msg, tuple(self.mistakes))

    def _each(self, key: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        found = []
        for i, value in enumerate(self.values(key)):
            if not isinstance(value, str):
                self.mistake(f"{key}[{i}]", f"must be a string, not {kind(value)}")
                continue
            try:
                found.append(parse(value))
            except ValueError as error:
                self.mistake(f"{key}[{i}]", str(error)[:_MESSAGE_LENGTH])
        return tuple(found)
