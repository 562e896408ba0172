"""What a linear classifier, or ridge regression, reads off a frozen layer, and off the words alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hf_replearn.errors import InputError
from hf_replearn.evaluation.checks import check_features
from hf_replearn.evaluation.linear_probe import linear_predictions
from hf_replearn.evaluation.softmax_regression import centre_and_scale
from hf_replearn.metrics import score
from hf_replearn.representation import Features

ALPHAS = tuple(10.0**e for e in range(-5, 3))  # of ridge regression, times the number of examples
BAG_COST, BAG_ALPHA = 10.0, 1.0  # rows of TF-IDF have norm 1, for which these are usual


def probe(
    train: Features, test: Features, *, metrics: Sequence[str], positive: int = 1, seed: int = 0
) -> dict[str, float]:
    """Scores on test of the `linear_probe` classifier or, where labels are floats, of ridge regression.

    Ridge regression sees features centred and scaled as the linear probe does, and takes the penalty of least
    leave-one-out error. positive: the class that f1 is of.
    """
    if train.labels.is_floating_point():
        from sklearn.linear_model import RidgeCV

        check_features(train, test)
        x, [test_x] = centre_and_scale(train.x[None], test.x)
        ridge = RidgeCV(alphas=[alpha * len(train) for alpha in ALPHAS]).fit(x[0].double(), train.labels.double())
        return score(ridge.predict(test_x.double()), test.labels.numpy(), metrics=metrics, positive=positive)
    predictions, _ = linear_predictions(train, test, seed=seed)
    return score(predictions.numpy(), test.labels.numpy(), metrics=metrics, positive=positive)


def probe_layers(
    layers: Sequence[tuple[Features, Features]],
    rows: np.ndarray,
    *,
    which: str,
    metrics: Sequence[str],
    positive: int = 1,
    seed: int = 0,
) -> dict[str, float]:
    """`probe` of the judged layers, {metric: score}; with which = "all" also {"metric layer n": score}.

    layers: train and test features of each; rows: of the train features that have labels.
    Raises InputError for a layer that does not exist.
    """
    judged = judged_layers(which, len(layers))
    judged = {name: len(layers) - 1 if number is None else number for name, number in judged.items()}
    found = {}
    for number in set(judged.values()):
        train, test = layers[number]
        found[number] = probe(train[torch.from_numpy(rows)], test, metrics=metrics, positive=positive, seed=seed)
    return {metric + name: found[number][metric] for name, number in judged.items() for metric in metrics}


def judged_layers(which: str, count: int) -> dict[str, int | None]:
    """What is judged, of `count` layers: what it adds to the name of a score -> its number, None: the network as it is.

    which: "last", "all" (that, and each layer) or the number of one. Raises InputError for one that does not exist.
    """
    if which == "last":
        return {"": None}
    if which == "all":
        return {"": None} | {f" layer {number}": number for number in range(count)}
    if int(which) >= count:
        raise InputError(f"--layers {which}: the layers of this network are 0 to {count - 1}")
    return {"": int(which)}


def bag_of_words(train, test, *, metrics: Sequence[str], positive: int = 1, seed: int = 0) -> dict[str, float]:
    """Scores on test of logistic regression (C = 10) or ridge regression on TF-IDF of words and pairs of words.

    train, test: datasets with `text`, maybe `text_pair`, and `label`. A pair of texts is represented by both vectors,
    their product, and their cosine.
    """
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge

    columns = [name for name in ("text", "text_pair") if name in train.column_names]
    bag = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
    bag.fit([text for name in columns for text in train[name][:]])

    def vectors(part):
        found = [bag.transform(part[name][:]) for name in columns]
        if len(found) == 1:
            return found[0]
        product = found[0].multiply(found[1]).tocsr()
        return hstack([*found, product, product.sum(axis=1)]).tocsr()

    labels = np.array(train["label"][:])
    if np.issubdtype(labels.dtype, np.floating):
        model = Ridge(alpha=BAG_ALPHA, random_state=seed)
    else:
        model = LogisticRegression(C=BAG_COST, max_iter=1000, random_state=seed)
    told = model.fit(vectors(train), labels).predict(vectors(test))
    return score(told, np.array(test["label"][:]), metrics=metrics, positive=positive)
