"""Text that its stream can take and its terminal does not obey."""

from __future__ import annotations

# What podnet itself prints that an encoding may lack.
_ASCII = dict(zip("✓✗·─┬├└→…", ("+", "!", "-", "-", "+", "+", "+", "->", "..."), strict=True))


def printable(text: str) -> str:
    """Escape what a terminal would obey: names come from files that others wrote."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def encodable(text: str, encoding: str | None) -> str:
    """Return the text without what a stream's encoding lacks; None lacks nothing.

    Marks, lines and arrows get an ASCII form; other characters, such as those of names, their
    escape.
    """
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(_encodable(c, encoding or "utf-8") for c in text)
    return text


def _encodable(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return _ASCII.get(character) or ascii(character)[1:-1]
    return character
