"""JSON as bytes, read and written so that Go's ``encoding/json`` agrees."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, NoReturn

from podnet.errors import DecodingError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Real documents nest below 10. The limit keeps every later walk far from Python's recursion limit.
MAX_DEPTH = 100

_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"

# Go's encoder escapes these for HTML's and JavaScript's sake; podnet's output equals its bytes.
_GO_ESCAPES = str.maketrans({each: f"\\u{ord(each):04x}" for each in "<>&\u2028\u2029"})


def load_json(data: bytes, what: str) -> dict[str, object]:
    """Return the JSON object that ``data`` holds.

    Lone surrogates become U+FFFD, as in Go, so that whatever is read can be printed.

    Args:
        data: UTF-8 text of one JSON object.
        what: what it should be, for the message, such as ``network config``.

    Raises:
        DecodingError: not UTF-8, not JSON (NaN and Infinity are not), not an object, a number
            that does not fit a float, or nested deeper than ``MAX_DEPTH``.
    """
    try:
        # A UTF-16 reading of the bytes, which json.loads would try, is not for a wire format.
        text = data.decode("utf-8")
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        _refuse(what, f"nested deeper than {MAX_DEPTH}")
    except UnicodeDecodeError as error:
        _refuse(what, f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        _refuse(what, f"{error.msg} at line {error.lineno} column {error.colno}")
    except ValueError as error:  # parse_constant, parse_float, or an integer above 4300 digits
        _refuse(what, str(error))
    if not isinstance(document, dict):
        _refuse(what, f"must be an object, not {kind(document)}")
    if _too_deep(document):
        _refuse(what, f"nested deeper than {MAX_DEPTH}")
    if "\\ud" in text or "\\uD" in text:
        document = _mended(document)
    assert isinstance(document, dict)
    return document


def print_json(document: Mapping[str, object], *, indent: int | None = 4) -> bytes:
    """Return the document in Go's layout: ``MarshalIndent``, or compact without ``indent``.

    Key order is the mapping's. There is no newline at the end.
    """
    text = json.dumps(
        document,
        indent=indent,
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":") if indent is None else (",", ": "),
    ).translate(_GO_ESCAPES)
    try:
        return text.encode()
    except UnicodeEncodeError:  # bytes of the environment that are not UTF-8
        return _SURROGATES.sub(_REPLACEMENT, text).encode()


def kind(value: object) -> str:
    """Return what a JSON value is, in JSON's words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {short(value)}"
    if isinstance(value, str):
        return f"the string {short(value)}"
    return "an object" if isinstance(value, dict) else "a list"


def short(value: object) -> str:
    """Return a JSON value on one line of at most 80 characters, for messages."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except ValueError:  # an integer too long to print
        text = "…"
    return text if len(text) <= 80 else f"{text[:79]}…"


def _refuse(what: str, reason: str) -> NoReturn:
    # "unmarshall" is the reference's spelling (skel.go, validateConfig): people search for it.
    raise DecodingError(f"error unmarshall {what}: {reason}") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} does not fit a float")
    return number


def _too_deep(document: object) -> bool:
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return False
        level = below
    return True


def _mended(value: object) -> object:
    if isinstance(value, str):
        return _SURROGATES.sub(_REPLACEMENT, value)
    if isinstance(value, dict):
        return {_SURROGATES.sub(_REPLACEMENT, k): _mended(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_mended(each) for each in value]
    return value
