"""The `--config` file of `grid run` and `grid session`: Grid's YAML, of which the datastore keys are read.

    compute:
      train:
        datastore_name: imagenet
        datastore_version: 2          # the highest where it is left out
        datastore_mount_dir: /opt/data

Other keys (instance, framework, hyper_params, ...) chose machines that Grid rented; they are accepted and not used.
Mistakes are reported with line and key, from YAML's own marks.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from gridfs.cli.run_request import RequestedDatastore, requested
from gridfs.errors import InvalidInput, NotFound

_KEYS = ("datastore_name", "datastore_version", "datastore_mount_dir")

_SHAPE = "correct it there; what is read is compute, below it train, and below that datastore_name: NAME"


def read_run_config(path: Path) -> RequestedDatastore | None:
    """The datastore that the file asks for; None when it names none. Raises NotFound, InvalidInput."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"no such configuration file: {path}", remedy="check the path given to --config") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"can't read {path}: {error}", remedy="--config takes a YAML file in UTF-8") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidInput(f"{path}{line}: not valid YAML: {error.problem}", remedy=_SHAPE) from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: not valid YAML: {error}", remedy=_SHAPE) from error
    compute = _mapping(path, root, "the file").get("compute")
    train = _mapping(path, compute, "compute").get("train")
    values = _mapping(path, train, "compute.train")
    for key, node in values.items():
        if key.startswith("datastore") and key not in _KEYS:
            raise InvalidInput(
                f"{path} line {_line(node)}: compute.train.{key} is not a key of gridfs",
                remedy="the keys are " + ", ".join(_KEYS),
            )
    name, version, mount_dir = (_scalar(path, values.get(key), key) for key in _KEYS)
    if name is None:
        lonely = next((key for key in _KEYS if key in values), None)
        if lonely is not None:
            raise InvalidInput(
                f"{path} line {_line(values[lonely])}: compute.train.{lonely} needs compute.train.datastore_name",
                remedy="add the name of the datastore beside it",
            )
        return None
    try:
        return requested(name, version, mount_dir)
    except InvalidInput as error:
        raise InvalidInput(
            f"{path} line {_line(values['datastore_name'])}: {error.message}", remedy=error.remedy
        ) from error


def _mapping(path: Path, node: yaml.Node | None, where: str) -> dict[str, yaml.Node]:
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise InvalidInput(f"{path} line {_line(node)}: {where} must be a mapping of keys to values", remedy=_SHAPE)
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _scalar(path: Path, node: yaml.Node | None, key: str) -> str | None:
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return None
    if not isinstance(node, yaml.ScalarNode):
        raise InvalidInput(f"{path} line {_line(node)}: compute.train.{key} must be a single value", remedy=_SHAPE)
    return str(node.value)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
