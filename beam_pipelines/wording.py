"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """`1 pair`, `2,000 pairs`; `several` is the plural of `one`, if that is not `one` with an s."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def rounded_up(share: float) -> str:
    """`share` as a whole percentage, rounded up."""
    return f"{int(share * 100) + 1}%" if share < 0.99 else "100%"
