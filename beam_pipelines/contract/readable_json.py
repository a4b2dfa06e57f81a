"""JSON that a person can read: one line for each list of plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def render(value: Any, indent: str = "") -> str:
    """`value` as JSON, indented by two spaces at each level below `indent`."""
    deeper = indent + "  "
    if isinstance(value, Mapping) and value:
        rows = [f"{deeper}{json.dumps(key)}: {render(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        rows = [json.dumps(item, ensure_ascii=False) if _is_flat(item) else render(item, deeper) for item in value]
        return "[\n" + ",\n".join(deeper + row for row in rows) + f"\n{indent}]"
    return json.dumps(dict(value) if isinstance(value, Mapping) else value, ensure_ascii=False)


def _is_flat(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(item, dict) for item in items)
