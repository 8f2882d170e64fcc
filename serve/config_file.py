"""The YAML file that ``SFUMATO_CONFIG`` names: settings by their field names."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml


class WrongConfigFile(ValueError):
    """The file cannot be used; the message says why, and what to do."""


class _Loader(yaml.SafeLoader):
    """YAML without code; a key that a mapping has twice is refused, not overwritten."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()  # before keys that `<<` merges are among them
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} stands here twice", problem_mark=key.start_mark
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_config_file(path: Path) -> dict[str, Any]:
    """What the file says, unchecked: `serve.settings.Settings` knows the fields.

    Raises:
        WrongConfigFile: it cannot be read, is no YAML, or has no keys at its top.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _Loader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise WrongConfigFile(
            f"SFUMATO_CONFIG is {str(path)!r}, which cannot be read ({reason}): give the path of a"
            " YAML file, or unset it."
        ) from error
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        problem = (isinstance(error, yaml.MarkedYAMLError) and error.problem) or str(error)
        raise WrongConfigFile(f"{path} is no valid YAML: {place}{problem}.") from error
    if content is None:
        return {}
    if not (isinstance(content, dict) and all(isinstance(key, str) for key in content)):
        raise WrongConfigFile(f"{path} must hold settings by name, like `port: 8000`.")
    if "config" in content:
        raise WrongConfigFile(f"{path} names a file itself by `config`: remove that line.")
    return content
