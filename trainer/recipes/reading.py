"""Reads the YAML of a recipe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from trainer.recipes.errors import RecipeError

_MOST_BYTES = 100_000


def read_values(path: Path, name: str) -> dict[str, Any]:
    """Option -> value. Raises RecipeError, which calls the recipe `name`."""
    try:
        if os.path.getsize(path) > _MOST_BYTES:
            raise RecipeError(f"{name} has more than {_MOST_BYTES:,} bytes: check that it is a recipe")
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except RecipeError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise RecipeError(f"{name} can't be read: {str(error).replace(chr(10), ' ')}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise RecipeError(f"{name}: expected lines of `option: value`")
    return found


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice, of which YAML would keep the last, and aliases, by which a few lines stand for
    billions of values.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            told = f"*{event.anchor} is an alias: write out its value"
            raise yaml.composer.ComposerError(None, None, told, event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)
