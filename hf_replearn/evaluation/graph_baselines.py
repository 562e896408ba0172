"""What is known of a graph's nodes and pairs without learning: what every method is to be compared with.

N nodes, P unordered pairs of them that are linked, D numbers of a vector
"""

from __future__ import annotations

import numpy as np

from hf_replearn.evaluation.links import Score

WIDTH = 512  # of the GCN at random
EIGENVECTORS = 64
EDGE = 4000  # nodes up to which all eigenvectors are computed


def adjacency(pairs: np.ndarray, nodes: int):
    """(N, N) scipy.sparse.csr_matrix of 1 for each unordered pair (P, 2), both ways."""
    from scipy.sparse import csr_matrix

    rows, columns = np.concatenate([pairs, pairs[:, ::-1]]).T
    found = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(nodes, nodes))
    found.data[:] = 1.0
    return found


def normalised(pairs: np.ndarray, nodes: int):
    """Â = D^-1/2 (A + I) D^-1/2 (Kipf & Welling 2017, section 2), a scipy.sparse.csr_matrix."""
    from scipy.sparse import diags, identity

    a = adjacency(pairs, nodes) + identity(nodes, format="csr")
    scale = diags(np.asarray(a.sum(axis=1)).ravel() ** -0.5)
    return (scale @ a @ scale).tocsr()


def spread(features, pairs: np.ndarray, times: int) -> np.ndarray:
    """Â^k X (Wu et al. 2019): each node's features, mixed with its neighbours' so many times; (N, D) float32."""
    a = normalised(pairs, features.shape[0])
    for _ in range(times):
        features = a @ features
    return _dense(features)


def random_gcn(features, pairs: np.ndarray, *, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """What a GCN of one layer with random weights makes of the features, by Glorot & Bengio (2010) and a PReLU with
    0.25, as an untrained DGI: (N, width) float32."""
    inputs = features.shape[1]
    bound = (6 / (inputs + width)) ** 0.5
    weight = np.random.default_rng(seed).uniform(-bound, bound, (inputs, width))
    found = normalised(pairs, features.shape[0]) @ (features @ weight)
    return np.where(found > 0, found, 0.25 * found).astype(np.float32)


def degrees(pairs: np.ndarray, nodes: int) -> np.ndarray:
    """Neighbours of each node: (N,)."""
    return np.bincount(pairs.ravel(), minlength=nodes)


def spectral(pairs: np.ndarray, nodes: int, *, width: int = EIGENVECTORS) -> np.ndarray:
    """Eigenvectors of Â for its largest eigenvalues, times the roots of these: (N, width) float32, fewer of fewer
    nodes. That of eigenvalue 1 of each component, which every node of it has alike but for its degree, says nothing
    and is left out."""
    a, alike = normalised(pairs, nodes), _alike(pairs, nodes)
    width = min(width, nodes - 1)
    if nodes <= EDGE:
        values, vectors = np.linalg.eigh((a - alike @ alike.T).toarray())
        values, vectors = values[-width:], vectors[:, -width:]
    else:
        from scipy.sparse.linalg import LinearOperator, eigsh

        rest = LinearOperator(a.shape, matvec=lambda x: a @ x - alike @ (alike.T @ x), dtype=np.float64)
        values, vectors = eigsh(rest, k=width, which="LA", v0=np.random.default_rng(0).standard_normal(nodes))
    return (vectors * np.maximum(values, 0) ** 0.5).astype(np.float32)


def _alike(pairs: np.ndarray, nodes: int):
    """The eigenvectors of Â for the eigenvalue 1, one of each component: (N, components), sparse."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    count, component = connected_components(adjacency(pairs, nodes), directed=False)
    degree = degrees(pairs, nodes) + 1.0
    share = np.sqrt(degree / np.bincount(component, weights=degree)[component])
    return csr_matrix((share, (np.arange(nodes), component)), shape=(nodes, count))


def degree_product(pairs: np.ndarray, nodes: int) -> Score:
    """Nodes with many edges are linked (preferential attachment)."""
    degree = degrees(pairs, nodes).astype(np.float64)
    return lambda asked: degree[asked[:, 0]] * degree[asked[:, 1]]


def adamic_adar(pairs: np.ndarray, nodes: int) -> Score:
    """Nodes with common neighbours are linked, each of which counts 1 / log of its degree (Adamic & Adar 2003)."""
    from scipy.sparse import diags

    a = adjacency(pairs, nodes)
    weighted = a @ diags(1 / np.log(np.maximum(degrees(pairs, nodes), 2)))
    return lambda asked: np.asarray(weighted[asked[:, 0]].multiply(a[asked[:, 1]]).sum(axis=1)).ravel()


def _dense(features) -> np.ndarray:
    found = features if isinstance(features, np.ndarray) else features.toarray()
    return np.asarray(found, dtype=np.float32)
