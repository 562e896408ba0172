"""Graphs in .npz files: arrays by the names that torch_geometric gives them, or those of the sparse graphs of Shchur et
al. 2018 ("Pitfalls of Graph Neural Network Evaluation")."""

from __future__ import annotations

import os
import zipfile

import numpy as np
from scipy.sparse import csr_matrix

from hf_replearn.data.graph_parts import Parts, check_finite, check_ids
from hf_replearn.errors import InputError

WANTED = (
    "edge_index of 2 rows, or adj_indptr and adj_indices; and maybe x or attr_matrix, a row a node, or its parts such "
    "as x_indptr, x_indices, x_data and x_shape; y or labels; train_idx, val_idx and test_idx, or such masks; ids"
)
SPLITS = {"train": ("train",), "validation": ("val", "validation", "valid"), "test": ("test",)}
ATTRIBUTES = ("x", "attr", "attr_matrix", "features")


def read_arrays(path: str) -> Parts:
    """The graph in a file of arrays. Node n is row n of each; its id is n where there are no `ids`.

    Raises InputError for a file that is none, for two arrays that say the same, and for some that do not fit together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:  # a TypeError where it is one array
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, EOFError) as error:
        reason = "or holds objects of Python, which are not safe to read" if "allow_pickle" in str(error) else error
        raise InputError(f"{path!r} is no .npz file of arrays: {reason}") from error
    edges = _edges(arrays, path)
    features = _features(arrays, path)
    labels, ids = _one(arrays, ("y", "labels"), path), _one(arrays, ("ids", "node_ids"), path)
    total = _one(arrays, ("num_nodes", "adj_shape"), path)
    sizes = {} if total is None else {"the graph": int(np.ravel(total)[0])}
    sizes |= {} if features is None else {"features": features.shape[0]}
    sizes |= {name: len(found) for name, found in (("labels", labels), ("ids", ids)) if found is not None}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} of {size:,} nodes" for name, size in sizes.items())
        raise InputError(f"{path!r}: the arrays do not fit together: {told}")
    count = next(iter(sizes.values()), int(edges.max(initial=-1)) + 1)
    bad = np.flatnonzero((edges < 0).any(1) | (edges >= count).any(1))
    if len(bad):
        told = " and ".join(map(str, edges[bad[0]].tolist()))
        raise InputError(f"{path!r}: edge {bad[0]} is between the nodes {told}, and there are {count:,}, from 0 on")
    classes, numbers = ([], None) if labels is None else _classes(labels, arrays, path)
    splits = _splits(arrays, count, path)
    return Parts(
        name=os.path.basename(path),
        ids=list(range(count)) if ids is None else check_ids(ids.tolist(), f"`ids` of {path!r}"),
        edges=edges,
        features=features,
        labels=numbers,
        classes=classes,
        splits=splits,
        notes=[f"arrays not used: {', '.join(sorted(arrays))}"] if arrays else [],
    )


def _one(arrays: dict[str, np.ndarray], names: tuple[str, ...], path: str) -> np.ndarray | None:
    """The array that is called by one of these names, taken out; None where there is none."""
    found = [name for name in names if name in arrays]
    if len(found) > 1:
        raise InputError(f"{path!r} has the arrays {' and '.join(found)}, which may mean the same: leave one out")
    return arrays.pop(found[0]) if found else None


def _edges(arrays: dict[str, np.ndarray], path: str) -> np.ndarray:
    """(m, 2) int64"""
    given = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "none"
    sparse = {"adj_indptr", "adj_indices"} <= arrays.keys()
    if sparse == ("edge_index" in arrays):
        problem = "both edge_index and adj_indptr" if sparse else f"the arrays {given[:300]}"
        raise InputError(f"{path!r} has {problem}; a graph is {WANTED}")
    if sparse:
        pointers, to = arrays.pop("adj_indptr"), arrays.pop("adj_indices")
        arrays.pop("adj_data", None)  # every edge counts the same
        if pointers.ndim != 1 or to.ndim != 1 or pointers[-1] != len(to) or (np.diff(pointers) < 0).any():
            raise InputError(f"{path!r}: adj_indptr and adj_indices do not fit together")
        return np.stack([np.repeat(np.arange(len(pointers) - 1), np.diff(pointers)), to], axis=1).astype(np.int64)
    edges = arrays.pop("edge_index")
    if edges.ndim != 2 or 2 not in edges.shape or not np.issubdtype(edges.dtype, np.integer):
        raise InputError(f"{path!r}: edge_index is {edges.dtype} {edges.shape}: give whole numbers, (2, edges)")
    if edges.shape == (2, 2):
        raise InputError(f"{path!r}: edge_index is (2, 2): it is not known whether an edge is a row or a column")
    return (edges.T if edges.shape[0] == 2 else edges).astype(np.int64)


def _features(arrays: dict[str, np.ndarray], path: str) -> csr_matrix | None:
    """(N, F)"""
    given = [name for name in ATTRIBUTES if name in arrays or f"{name}_indptr" in arrays]
    if len(given) > 1:
        raise InputError(f"{path!r} has the arrays {' and '.join(given)}, which may mean the same: leave one out")
    if not given:
        return None
    (name,) = given
    if name in arrays:
        dense = arrays.pop(name)
        if dense.ndim != 2 or not (np.issubdtype(dense.dtype, np.number) or dense.dtype == bool):
            raise InputError(f"{path!r}: {name} is {dense.dtype} {dense.shape}, and should be numbers, a row a node")
        return check_finite(csr_matrix(dense.astype(np.float32)), path)
    try:
        data, indices, pointers, shape = (
            arrays.pop(f"{name}_{part}") for part in ("data", "indices", "indptr", "shape")
        )
        found = csr_matrix((data.astype(np.float32), indices, pointers), shape=tuple(map(int, shape)))
        found.check_format(full_check=True)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path!r}: {name} is no sparse matrix in the parts {name}_...: {error}") from error
    found.sum_duplicates()
    return check_finite(found, path)


def _classes(labels: np.ndarray, arrays: dict[str, np.ndarray], path: str) -> tuple[list[str], np.ndarray]:
    """The names of the classes, and the class of each node, -1 where it is not known."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise InputError(
            f"{path!r}: the labels are {labels.dtype} {labels.shape}, and should be one class a node: a whole number, "
            "-1 where there is none, or a word"
        )
    names = _one(arrays, ("class_names", "label_names"), path)
    if labels.dtype.kind == "U":
        found = sorted(set(labels.tolist()) - {""})
        return found, np.array([found.index(label) if label else -1 for label in labels.tolist()], dtype=np.int64)
    labels = labels.astype(np.int64)
    if labels.min(initial=0) < -1:
        raise InputError(f"{path!r}: a label is {labels.min()}: classes are numbers from 0 on, -1 is for none")
    if names is not None:
        if labels.max(initial=-1) >= len(names):
            raise InputError(f"{path!r}: a label is {labels.max()}, and there are {len(names)} names of classes")
        return [str(name) for name in names.tolist()], labels
    known = np.unique(labels[labels >= 0])
    return list(map(str, known.tolist())), np.where(labels < 0, -1, np.searchsorted(known, labels))


def _splits(arrays: dict[str, np.ndarray], count: int, path: str) -> dict[str, np.ndarray]:
    """Rows of each split, from their numbers or from masks."""
    found = {}
    for split, words in SPLITS.items():
        names = tuple(f"{word}_{kind}" for word in words for kind in ("idx", "mask", "index"))
        given = next((name for name in names if name in arrays), None)
        rows = _one(arrays, names, path)
        if rows is None:
            continue
        is_mask = rows.dtype == bool and rows.shape == (count,)
        if not is_mask and (rows.ndim != 1 or rows.dtype.kind not in "iu"):
            raise InputError(f"{path!r}: {given} is {rows.dtype} {rows.shape}: give numbers of nodes, or a mask of all")
        rows = np.flatnonzero(rows) if is_mask else np.unique(rows.astype(np.int64))
        if len(rows) and (rows[0] < 0 or rows[-1] >= count):
            raise InputError(f"{path!r}: {given} has the node {rows[0] if rows[0] < 0 else rows[-1]} of {count:,}")
        if len(rows):
            found[split] = rows
    return found
