"""A small graph that is made here: who knows whom in a village with four clubs."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from hf_replearn.data.graph_parts import Parts

CLUBS = ["chess", "choir", "football", "garden"]
PEOPLE = 75  # of a club
WORDS, OWN, TOLD = 120, 30, 10  # words by which people tell what they like, those of a club, and of a person


def village() -> Parts:
    """300 people, 75 in each of four clubs, like Zachary's karate club (1977) a graph in which groups are planted.

    Most people whom somebody knows are of the same club; some know many, some few or nobody. Each is told by
    some of 120 words (0 or 1), of which half are drawn from the 30 of the own club. Labels: the club. Splits as those
    of Cora (Yang, Cohen & Salakhutdinov 2016): 5 of each club to train on, 80 to choose by, 200 to test on.
    """
    rng = np.random.default_rng(0)
    count = PEOPLE * len(CLUBS)
    clubs = rng.permutation(np.repeat(np.arange(len(CLUBS)), PEOPLE))
    friendly = rng.gamma(3, 1 / 3, count)  # how many somebody knows, as a share of the mean
    friendly[rng.choice(count, 3, replace=False)] = 0
    chance = np.where(clubs[:, None] == clubs, 4.2 / PEOPLE, 1.8 / (count - PEOPLE)) * np.outer(friendly, friendly)
    edges = np.argwhere(np.triu(rng.random((count, count)) < chance, 1))
    told = np.zeros((count, WORDS), dtype=np.float32)
    for person, club in enumerate(clubs):
        own = rng.choice(OWN, TOLD // 2, replace=False) + OWN * club
        told[person, np.concatenate([own, rng.choice(WORDS, TOLD // 2, replace=False)])] = 1
    order = rng.permutation(count)
    train = np.sort(np.concatenate([order[clubs[order] == club][:5] for club in range(len(CLUBS))]))
    rest = order[~np.isin(order, train)]
    return Parts(
        name="toy",
        ids=[f"person-{number:03d}" for number in range(count)],
        edges=edges.astype(np.int64),
        features=csr_matrix(told),
        labels=clubs.astype(np.int64),
        classes=CLUBS,
        splits={"train": train, "validation": np.sort(rest[:80]), "test": np.sort(rest[80:])},
    )
