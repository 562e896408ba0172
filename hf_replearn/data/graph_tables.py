"""Graphs in tables: one of edges, a row each, and maybe one of nodes, with what is known of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Value
from scipy.sparse import csr_matrix

from hf_replearn.data.graph_parts import Parts, check_finite, splits_of
from hf_replearn.data.inventory import READS, kind_of
from hf_replearn.data.labels import LabelType, choose_label, read_labels, shown_columns, shown_kind
from hf_replearn.data.sources import Source, is_string, load_source, local_path, tells_of_rows
from hf_replearn.errors import InputError

ENDS = (
    ("source", "target"), ("src", "dst"), ("from", "to"), ("head", "tail"), ("u", "v"), ("node1", "node2"),
    ("node_1", "node_2"), ("id1", "id2"), ("id_1", "id_2"), ("source_id", "target_id"), ("fromnodeid", "tonodeid"),
)  # fmt: skip
NODE = ("id", "node", "node_id", "nodeid", "ids")
PLACES, VALUES = "feature_index", "feature_value"  # of features that are not 0
LISTS = ("x", "features", "feature", "feat", "node_feat", "attributes")
PLAIN = (".txt", ".txt.gz", ".edges", ".edgelist", ".el")  # of edge lists that have no columns
FOLDER = "edges.csv and maybe nodes.csv, or such files of tsv, parquet, arrow or json"


def read_tables(
    dataset: str,
    *,
    nodes: str | None = None,
    label_column: str | None = None,
    label_type: LabelType | None = None,
    edge_columns: Sequence[str] = (),
    config: str | None = None,
) -> Parts:
    """The graph of a table of edges, and of one of its nodes. Arguments as of `data.graphs.load_graph`.

    Edges: two columns, by name (source and target, and the like) or as the only two. Nodes: `id`, and maybe features,
    which are a list of numbers, a list of places and one of values, or all columns of numbers; a label; `split`.
    Without such a table the nodes are those that an edge names.
    Raises InputError for whatever the user has to mend.
    """
    path, edges = local_path(dataset), dataset
    if path is not None and os.path.isdir(path):
        edges, inside = _in_folder(path)
        if nodes is not None and inside is not None:
            raise InputError(f"--nodes {nodes}, and {path!r} has nodes of its own, {inside!r}: give one of them")
        nodes = nodes or inside
    if path is not None and edges.lower().endswith(PLAIN):
        raise InputError(
            f"{edges!r} is plain text: make a .csv of it, an edge a line, below a line that names the columns, such as "
            "source,target"
        )
    source = load_source(edges, purpose="graphs", config=config)
    rows = _only_part(source, edges)
    columns = _ends(rows, edge_columns, edges)
    others = [column for column in rows.column_names if column not in columns]
    notes = [f"columns of edges not used: {', '.join(others)}"] if others else []
    about = {"name": os.path.basename(os.path.abspath(path)) if path else dataset, "hub_id": source.hub_id}
    if nodes is None:
        if label_column is not None:
            raise InputError(f"--label_column {label_column} is a column of nodes: give their table with --nodes")
        ends = _alike([_ids(rows, column, edges) for column in columns])
        known = pc.unique(pa.chunked_array([chunk for end in ends for chunk in end.chunks]))
        known = known.take(pc.sort_indices(known))
    else:
        table = _only_part(load_source(nodes, purpose="graphs"), nodes)
        own = _node_column(table, nodes)
        *ends, known = _alike([*(_ids(rows, column, edges) for column in columns), _ids(table, own, nodes)])
        known = known.combine_chunks()
        _check_different(known, nodes)
        facts = _node_facts(table.remove_columns(own), nodes, label_column, label_type)
        about |= facts
        notes += facts["notes"]
    places = np.stack([_places(end, known, f"{edges!r}", nodes) for end in ends], axis=1)
    return Parts(**about | {"notes": notes}, ids=known.to_pylist(), edges=places)


def _in_folder(path: str) -> tuple[str, str | None]:
    """The file of edges in a folder, and that of nodes, if there is one."""
    names = sorted(name for name in os.listdir(path) if name[0] != "." and os.path.isfile(os.path.join(path, name)))
    read = [name for name in names if kind_of(name)[0] in READS["graphs"] or name.endswith(".npz")]
    edges, nodes = (
        [name for name in read if name.lower().split(".")[0] in (word, f"{word}s")] for word in ("edge", "node")
    )
    others = [name for name in read if name not in (*edges, *nodes)]
    if len(edges) != 1 or len(nodes) > 1:
        raise InputError(f"the folder {path!r} has {', '.join(names[:5]) or 'no files'}; a graph is {FOLDER}")
    if others:
        raise InputError(
            f"the folder {path!r} has {edges[0]} and {others[0]}, which may be two graphs: give one file of them with "
            f"--dataset{', and ' + nodes[0] + ' with --nodes' if nodes else ''}"
        )
    return os.path.join(path, edges[0]), os.path.join(path, nodes[0]) if nodes else None


def _only_part(source: Source, dataset: str) -> Dataset:
    if len(source.splits) > 1:
        raise InputError(f"{dataset!r} has the splits {', '.join(source.splits)}, and a graph is one table: join them")
    (rows,) = source.splits.values()
    if not len(rows):
        raise InputError(f"{dataset!r} has no rows: a graph without edges or nodes")
    return rows


# ---- edges


def _ends(rows: Dataset, asked: Sequence[str], dataset: str) -> list[str]:
    """The two columns between whose nodes the edges are."""
    names = {name.strip().lower(): name for name in rows.column_names}
    if asked:
        if len(asked) != 2 or set(asked) - set(rows.column_names) or asked[0] == asked[1]:
            raise InputError(
                f"--edge_columns {' '.join(asked)}: give two of {dataset!r}, of {', '.join(rows.column_names)}"
            )
        return list(asked)
    found = [[names[one], names[other]] for one, other in ENDS if one in names and other in names]
    if len(found) > 1:
        several = " or ".join(map(" and ".join, found))
        raise InputError(f"{dataset!r}: the edges may be between {several}: choose with --edge_columns")
    if not found and len(names) == 2:
        found = [rows.column_names]
    if not found:
        raise InputError(
            f"{dataset!r} is no table of edges: it has the columns {shown_columns(rows.features)[:300]}, and an edge "
            "is two nodes, in the columns source and target; or choose with --edge_columns"
        )
    return found[0]


def _ids(rows: Dataset, column: str, dataset: str) -> pa.ChunkedArray:
    """A column of nodes: int64 or string, each row one that may be the id of a node."""
    kind, where = rows.features[column], f"the column {column!r} of {dataset!r}"
    is_word = is_string(kind)
    if not is_word and not (isinstance(kind, Value) and kind.dtype.lstrip("u").startswith("int")):
        hint = " (a column with gaps becomes one of decimal numbers)" if "float" in str(kind) else ""
        raise InputError(f"{where} is of {shown_kind(kind)}: nodes are whole numbers from 0 on, or words{hint}")
    cells = rows.with_format("arrow")[:][column].cast(pa.string() if is_word else pa.int64())
    if is_word:
        cells = pc.utf8_trim_whitespace(cells)
        missing = pc.fill_null(pc.equal(cells, ""), True)
    else:
        missing = pc.is_null(cells)
    if (row := pc.index(missing, True).as_py()) >= 0:
        raise InputError(f"{where} has no node in row {row:,}: leave such rows out")
    if not is_word and (row := pc.index(pc.less(cells, 0), True).as_py()) >= 0:
        raise InputError(f"{where} has the node {cells[row].as_py()} in row {row:,}: numbers of nodes are 0 or more")
    return cells


def _alike(columns: list[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    """Words, where any of them is of words: a node may be called 7 beside others called a7."""
    words = any(pa.types.is_string(column.type) for column in columns)
    return [column.cast(pa.string()) for column in columns] if words else columns


def _places(end: pa.ChunkedArray, known: pa.Array, edges: str, nodes: str | None) -> np.ndarray:
    """(m,) int64: the rows, among those that are known, of the nodes at one end of the edges."""
    places = pc.index_in(end, value_set=known)
    if places.null_count:
        row = pc.index(pc.is_null(places), True).as_py()
        others = f" (nor are those of {places.null_count - 1:,} other rows)" if places.null_count > 1 else ""
        raise InputError(
            f"{edges}, row {row:,}: the node {str(end[row].as_py())[:60]!r} is not among those of {nodes!r}{others}: "
            "give a row to each node"
        )
    return places.to_numpy().astype(np.int64)


# ---- nodes


def _node_column(rows: Dataset, nodes: str) -> str:
    found = [name for name in rows.column_names if name.strip().lower() in NODE]
    if len(found) != 1:
        problem = f"may be of {' or '.join(found)}" if found else "are in none of them"
        raise InputError(
            f"{nodes!r} has the columns {shown_columns(rows.features)[:300]}; the ids {problem}: call one column `id`"
        )
    return found[0]


def _check_different(ids: pa.Array, nodes: str) -> None:
    counts = pc.value_counts(ids)
    if (place := pc.index(pc.greater(counts.field("counts"), 1), True).as_py()) >= 0:
        twice = str(counts.field("values")[place].as_py())[:60]
        raise InputError(f"{nodes!r} has the node {twice!r} more than once: a node has one row")


def _node_facts(rows: Dataset, nodes: str, label_column: str | None, label_type: LabelType | None) -> dict[str, Any]:
    """Features, labels, classes, splits and notes, as of Parts."""
    rows, words = _without(rows, next((name for name in rows.column_names if name.lower() == "split"), None))
    splits = {} if words is None else splits_of(words, f"the column of splits of {nodes!r}")
    column = choose_label(rows.features, label_column)
    labels, classes, notes = None, [], []
    if column is not None:
        found = read_labels({"train": rows}, column, label_type=label_type, scores=False)
        if found.several:
            raise InputError(f"{nodes!r}: a node has one label here, and the column {column!r} has lists of them")
        values, classes, notes = found.values["train"], found.names, found.notes
        labels = np.array([-1 if value is None else value for value in values], dtype=np.int64)
        rows, _ = _without(rows, column)
    features, used = _node_features(rows, nodes)
    others = [name for name in rows.column_names if name not in used]
    notes = notes + ([f"columns of nodes not used: {', '.join(others)[:200]}"] if others else [])
    if used:
        notes = [*notes, f"features: the columns {', '.join(used[:3])}{', …' if len(used) > 3 else ''}"]
    return {"features": features, "labels": labels, "classes": classes, "splits": splits, "notes": notes}


def _without(rows: Dataset, column: str | None) -> tuple[Dataset, list | None]:
    return (rows, None) if column is None else (rows.remove_columns(column), rows[column][:])


def _node_features(rows: Dataset, nodes: str) -> tuple[csr_matrix | None, list[str]]:
    """(N, F), and of which columns it is: of places and values, of lists of numbers, or all of numbers."""
    names = rows.column_names
    lists = [name for name in names if name.lower() in LISTS and isinstance(rows.features[name], datasets.List)]
    sparse = PLACES in names and VALUES in names
    if len(lists) + sparse > 1:
        several = ", ".join([*lists, *[PLACES] * sparse])
        raise InputError(f"{nodes!r}: the features may be in {several}: leave the others out")
    table = rows.with_format("arrow")[:]
    if sparse:
        return check_finite(_of_places(table, nodes), f"{nodes!r}"), [PLACES, VALUES]
    if lists:
        return check_finite(_of_lists(table, lists[0], nodes), f"{nodes!r}"), lists
    numbers = [name for name in names if _is_number(rows.features[name]) and not tells_of_rows(name)]
    if not numbers:
        return None, []
    dense = np.stack([table[name].to_numpy().astype(np.float32) for name in numbers], axis=1)
    return check_finite(csr_matrix(dense), f"{nodes!r}, the columns {', '.join(numbers[:3])}"), numbers


def _is_number(kind: Any) -> bool:
    return isinstance(kind, Value) and kind.dtype.lstrip("u").startswith(("int", "float", "bool"))


def _lists(table: pa.Table, column: str, nodes: str) -> tuple[np.ndarray, np.ndarray]:
    """The items of lists, one after the other, and where each row begins."""
    cells = table[column].combine_chunks()
    if cells.null_count or cells.flatten().null_count:
        raise InputError(f"{nodes!r}: the column {column!r} has rows or numbers that are missing")
    lengths = pc.list_value_length(cells).to_numpy()
    return cells.flatten().to_numpy(zero_copy_only=False), np.concatenate([[0], np.cumsum(lengths)])


def _of_places(table: pa.Table, nodes: str) -> csr_matrix:
    (places, first), (values, second) = (_lists(table, column, nodes) for column in (PLACES, VALUES))
    if not np.array_equal(first, second) or (len(places) and places.min() < 0):
        raise InputError(f"{nodes!r}: {PLACES} and {VALUES} are not lists of the same lengths, with places from 0 on")
    width = int(places.max(initial=0)) + 1
    found = csr_matrix((values.astype(np.float32), places.astype(np.int64), first), shape=(len(first) - 1, width))
    found.sum_duplicates()
    return found


def _of_lists(table: pa.Table, column: str, nodes: str) -> csr_matrix:
    values, first = _lists(table, column, nodes)
    lengths = np.unique(np.diff(first))
    if len(lengths) != 1 or not lengths[0] or values.dtype.kind not in "iufb":
        raise InputError(f"{nodes!r}: the column {column!r} should be lists of numbers, all of one length")
    return csr_matrix(values.reshape(len(first) - 1, -1).astype(np.float32))
