"""YAML without aliases and without keys that are given twice."""

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError


class _StrictLoader(yaml.SafeLoader):
    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ComposerError(None, None, f"the alias *{event.anchor}: write its value instead", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if (name := (key.tag, str(key.value))) in seen:
                raise ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def load_yaml(text: str) -> Any:
    """
    As `yaml.safe_load`. Refuses aliases, with which a short file fills the memory, and keys that are given twice, of
    which YAML takes the last.

    Raises:
        yaml.YAMLError: the text is no such YAML. The message names the line.
    """
    try:
        return yaml.load(text, _StrictLoader)
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error
