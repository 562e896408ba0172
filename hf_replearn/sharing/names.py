"""What metrics are called: in families on the page, in words on the card, and as the Hub's model-index has them."""

from __future__ import annotations

import re

FAMILIES = {  # protocol -> what it is about; a protocol may name its task: "knn_sst2@20", "finetune_sst2@1%"
    "k_shot": "Few labels",
    "nearest_mean": "Episodes",
    "nearest_mean_cosine": "Episodes",
    "adapted": "Episodes",
    "voc07": "Few labels",
    "voc07_full": "Linear probes and neighbours",
    "knn": "Linear probes and neighbours",
    "linear": "Linear probes and neighbours",  # as `evaluate` measures it; of shares of the labels, by `finetune`:
    "linear_bn": "Linear probes and neighbours",
    "linear_probe": "Linear probes and neighbours",
    "finetune": "Fine-tuned",
    "finetune_once": "Fine-tuned",  # with one seed, by `evaluate`
    "recall": "Retrieval",
    "map": "Retrieval",
    "sts_spearman": "Similarity of sentences",
    "nmi": "Clusters found without labels",
    "ari": "Clusters found without labels",
    "matched": "Clusters found without labels",
    "silhouette": "Clusters found without labels",
    "multitask": "Several tasks at once",
    "multitask_difference": "Several tasks at once",
    "prompt": "Prompted",
    "text_of_image": "Images and captions",
    "image_of_text": "Images and captions",
    "swapped_objects": "Images and captions",
    "zero_shot": "Classes told by their names",
    "word_spearman": "Similarity of words",
    "word_parts_spearman": "Similarity of words",
    "words_known": "Similarity of words",
    "words_composed": "Similarity of words",
    "analogy_add": "Analogies",
    "analogy_mul": "Analogies",
    "nodes_own_split": "Classes of nodes",
    "nodes_random_split": "Classes of nodes",
    "links_auc": "Links",
    "links_ap": "Links",
    "mig": "Disentanglement",
    "dci_disentanglement": "Disentanglement",
    "dci_completeness": "Disentanglement",
    "dci_informativeness": "Disentanglement",
    "sap": "Disentanglement",
    "modularity": "Disentanglement",
    "factor_vae_score": "Disentanglement",
    "beta_vae_score": "Disentanglement",
}
WORDS = {  # protocol -> its name, the head of its column, the type of the Hub; None: as its sentence begins
    "k_shot": ("accuracy, {} a class", "{}", "accuracy"),
    "voc07": ("mean average precision, {} a class", "{}, mAP", "mean_average_precision"),
    "voc07_full": ("mean average precision, linear SVMs", "linear SVMs, mAP", "mean_average_precision"),
    "nearest_mean": ("accuracy, nearest mean, {}", "nearest mean, {}", "accuracy"),
    "nearest_mean_cosine": ("accuracy, nearest mean by cosine, {}", "by cosine, {}", "accuracy"),
    "adapted": ("accuracy, adapted by gradients, {}", "adapted, {}", "accuracy"),
    "knn": ("accuracy, vote of {} nearest neighbours", "{} neighbours", "accuracy"),
    "linear": ("accuracy, linear probe", "linear probe", "accuracy"),
    "linear_bn": ("accuracy, linear probe after batch normalisation", "linear probe after batch norm", "accuracy"),
    "linear_probe": ("{measure}, linear probe, {} of the labels", "{measure}, {} of labels", None),
    "finetune": ("{measure}, fine-tuned, {} of the labels", "{measure}, {} of labels", None),
    "finetune_once": ("{measure}, fine-tuned once, {} of the labels", "{measure}, {} of labels, once", None),
    "recall": ("same class among the {} nearest", "among {} nearest", "recall_at_k"),
    "map": ("mean average precision, same class", "mean average precision", "mean_average_precision"),
    "sts_spearman": ("Spearman correlation with people's scores", "Spearman correlation", "spearmanr"),
    "nmi": ("normalised mutual information of clusters", "mutual information", "normalized_mutual_information"),
    "ari": ("adjusted Rand index of clusters", "adjusted Rand index", "adjusted_rand_index"),
    "matched": ("accuracy of clusters named after classes", "named clusters", "accuracy"),
    "silhouette": ("silhouette of the classes", "silhouette", "silhouette_score"),
    "multitask": ("{measure}", "{measure}", None),
    "multitask_difference": (
        "mean relative difference to each task alone",
        "relative difference",
        "relative_difference",
    ),
    "prompt": ("{measure}, {} in the prompt", "{measure}, {}", None),
    "text_of_image": ("a right caption among the {} nearest to an image", "image to caption, {}", "recall_at_k"),
    "image_of_text": ("a right image among the {} nearest to a caption", "caption to image, {}", "recall_at_k"),
    "swapped_objects": ("caption above the same with its objects swapped", "objects swapped", "accuracy"),
    "zero_shot": ("accuracy, zero-shot by the names of the classes", "zero-shot", "accuracy"),
    "word_spearman": ("Spearman correlation with people's scores of words", "Spearman correlation", "spearmanr"),
    "word_parts_spearman": (
        "Spearman correlation with people's scores of words, unknown ones by their parts",
        "Spearman correlation, unknown words by their parts",
        "spearmanr",
    ),
    "words_composed": ("share of the pairs with a word that is known by its parts alone", "by parts", "coverage"),
    "words_known": ("share of the items with words that are known", "known", "coverage"),
    "analogy_add": ("analogies told, 3CosAdd, {}", "3CosAdd, {}", "accuracy"),
    "analogy_mul": ("analogies told, 3CosMul, {}", "3CosMul, {}", "accuracy"),
    "nodes_own_split": ("accuracy of classes of nodes, the graph's own split", "own split", "accuracy"),
    "nodes_random_split": ("accuracy of classes of nodes, random splits", "random splits", "accuracy"),
    "links_auc": ("links held out, area under the ROC curve", "AUC", "roc_auc"),
    "links_ap": ("links held out, average precision", "average precision", "average_precision"),
    "mig": ("mutual information gap (MIG)", "MIG", "mutual_information_gap"),
    "dci_disentanglement": ("DCI disentanglement", "DCI disentangled", "dci_disentanglement"),
    "dci_completeness": ("DCI completeness", "DCI complete", "dci_completeness"),
    "dci_informativeness": ("DCI informativeness", "DCI informative", "dci_informativeness"),
    "sap": ("separated attribute predictability (SAP)", "SAP", "sap_score"),
    "modularity": ("modularity", "modularity", "modularity"),
    "factor_vae_score": ("FactorVAE score", "FactorVAE score", "factor_vae_score"),
    "beta_vae_score": ("BetaVAE score", "BetaVAE score", "beta_vae_score"),
}
TYPES = {"acc": "accuracy", "pearson": "pearsonr", "spearman": "spearmanr"}  # the Hub's, where another than the name


def family_and_task(metric: str) -> tuple[str, str | None]:
    """("Linear probes and neighbours", "sst2") of knn_sst2@20; None for a task: it is of the data trained on."""
    protocol, task, _ = _taken_apart(metric)
    return FAMILIES.get(protocol, "Tasks"), task


def in_words(metric: str, sentence: str = "", *, short: bool = False) -> str:
    """ "accuracy, 4 labels a class" of k_shot@4, and "k labels" of k_shot; of unknown metrics their own name.

    sentence: what defines the protocol, which begins with the measure. short: for the head of a column, "4 labels".
    """
    protocol, _, parameter = _taken_apart(metric)
    if protocol not in WORDS:
        return metric
    if protocol in ("k_shot", "voc07"):
        parameter = f"{parameter or 'k'} label{'s' * (parameter != '1')}"
    elif FAMILIES.get(protocol) == "Episodes":
        way, _, shots = (parameter or "NwK").rstrip("s").partition("w")
        parameter = f"{way} classes, {shots} image{'s' * (shots != '1')} each"
    elif protocol == "prompt":
        parameter = f"{parameter or 'K'} example{'s' * (parameter != '1')}"
    elif protocol in ("analogy_add", "analogy_mul"):
        parameter = parameter or "share of them"
    elif protocol in ("finetune", "finetune_once", "linear_probe"):
        parameter = re.sub(r"(?<=\d)%", " %", parameter or "a share")
    text = WORDS[protocol][short].format(parameter or "k", measure=measure(sentence))
    return re.sub(r"(?<=^accuracy, vote of )1 nearest neighbours", "1 nearest neighbour", text)


def measure(sentence: str) -> str:
    """ "accuracy" of "Accuracy on 872 test examples …"."""
    first = sentence.partition(" on ")[0].strip()
    if not first or len(first) > 40 or "," in first:
        return "score"
    return first if first[:2] == "F1" or first.split()[0] in ("Matthews", "Pearson", "Spearman") else first.lower()


def hub_type(metric: str, sentence: str = "") -> str:
    """The type of a metric in the Hub's model-index: "accuracy", "matthews_correlation", …"""
    protocol, _, parameter = _taken_apart(metric)
    kind = WORDS[protocol][2] if protocol in WORDS else metric.partition("@")[0]
    if kind is None:
        named = measure(sentence)  # "F1 of the class 'equivalent'" is F1
        kind = "f1" if named.startswith("F1 of ") else re.sub(r"\W+", "_", named.lower())
    return TYPES.get(kind, kind).replace("at_k", f"at_{parameter or 'k'}")


def _taken_apart(metric: str) -> tuple[str, str | None, str | None]:
    """("knn", "sst2", "20") of knn_sst2@20; of an unknown protocol, that is a task, ("", "x", …)."""
    protocol, _, parameter = metric.partition("@")
    known = max((name for name in FAMILIES if f"{protocol}_".startswith(f"{name}_")), key=len, default=None)
    return (
        (known, protocol[len(known) + 1 :] or None, parameter or None) if known else ("", protocol, parameter or None)
    )
