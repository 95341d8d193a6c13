"""The networks of `keras.applications` as data of the package: one list of all, and the graph of each in its own file.

`benchmarks/keras_graphs.py` writes the files from Keras itself, so that nothing here imports Keras.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

from thaw.features.backbones.graph import IMAGE, Graph, Operation

FOLDER = Path(__file__).parent / "graphs"
LIST = "networks.json"
DEFAULTS = {field.name: field.default for field in fields(Operation) if field.default is not MISSING}


@cache
def read_list() -> tuple[Mapping[str, Any], ...]:
    """Return what is known of each network beside its graph: name, preprocessing, image sizes, file of weights."""
    return tuple(json.loads((FOLDER / LIST).read_text(encoding="utf-8")))


def read_graph_file(name: str) -> Graph:
    """Return the graph of a network of the list."""
    graph, below = Graph(), IMAGE
    for row in _rows(name):
        options: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
        options.pop("place", None)
        inputs = options.pop("inputs", (below,))
        below = graph.add(options.pop("name"), options.pop("kind"), inputs, options.pop("channels"), **options)
    return graph


def read_places(name: str) -> dict[str, int]:
    """Return the place of each operation with weights in a weights file of Keras' old format."""
    return {row["name"]: row["place"] for row in _rows(name) if "place" in row}


def list_as_text(networks: list[dict[str, Any]]) -> str:
    """Return the content of the file of the list, a line for each network."""
    return _lines(networks)


def graph_as_text(graph: Graph, places: Mapping[str, int]) -> str:
    """Return the content of a network's file, a line for each operation.

    Options with their default are left out, and inputs that are the operation of the line before.

    Args:
        graph: The network.
        places: As `read_places` returns them.
    """
    rows, below = [], IMAGE
    for operation in graph.operations.values():
        row: dict[str, Any] = {"name": operation.name, "kind": operation.kind}
        if operation.inputs != (below,):
            row["inputs"] = operation.inputs
        given = {name: getattr(operation, name) for name in DEFAULTS}
        changed = {name: value for name, value in given.items() if value != DEFAULTS[name]}
        placed = {"place": places[operation.name]} if operation.name in places else {}
        rows.append({**row, "channels": operation.channels, **changed, **placed})
        below = operation.name
    return _lines(rows)


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return rows


def _lines(rows: list[dict[str, Any]]) -> str:
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
