"""What representations are worth, side by side: any encoders of images, texts or sounds, on any labelled dataset.

    hf-replearn evaluate --model out/mine --model timm/resnet18.a1_in1k --dataset path/to/fashion_mnist \\
        --output_dir out/report
    hf-replearn evaluate --model out/bert --model bert-base-uncased --dataset path/to/glue/sst2 --suite full \\
        --output_dir out/sst2
    hf-replearn evaluate --runs out/* --features theirs.npz --dataset photos/ --output_dir out/all
    hf-replearn evaluate --model out/bert --pooling cls --dataset path/to/glue/stsb --output_dir out/stsb
    hf-replearn evaluate --model out/clip --dataset photos/ --zero_shot "a photo of a {}" --output_dir out/zero
    hf-replearn evaluate --model out/clip --dataset pairs/ --task retrieval --output_dir out/found
    hf-replearn evaluate --model out/tones --dataset sounds/ --output_dir out/heard
    hf-replearn evaluate --model out/words --dataset wordsim353.csv --output_dir out/similar
    hf-replearn evaluate --model out/proto --dataset omniglot/ --task episodes --shots 1,5 --output_dir out/episodes
    hf-replearn evaluate --model out/nodes --dataset cora.npz --task nodes --output_dir out/classes

From a notebook: `hf_replearn.evaluate`, below.

Frozen features, computed once and kept (`hf_replearn/features-*.npy` under HF_DATASETS_CACHE), are judged by k-shot and
linear classifiers, nearest neighbours, retrieval and clustering (pairs of sentences with scores by Spearman's
correlation, images with several labels by the protocols of VOC07), and described without labels; all beside the same
network from random weights and raw pixels or TF-IDF, with intervals and paired tests. The result is one page,
`report.html`. The quick suite takes minutes on a CPU core: 5,000 labels, 2,000 test examples.

Beside pairs of sentences stand the share of their common words, each encoder whitened, and, with `--words out/words`,
the mean of their words' vectors; rare words count more.

Encoders of sounds, a folder of `cpc-audio` or one of transformers with its feature extractor, are judged on sounds of
their own rate, .wav or .npy in folders by class, beside mean and deviation of mel spectra.

Vectors of words, a folder of `word2vec` or a file in its text format, are judged by tables of pairs of words with
people's scores (word1, word2, score), by analogies (a, b, c, d, or Google's questions-words.txt), or by a folder of
such files, beside vectors at random and vectors that count neighbours in the same text (PPMI and SVD). On labelled
texts and pairs of sentences they are an encoder like any other, by the mean of the vectors of a text's words.

`--task episodes` judges any encoder of images where each class has a few examples: 2,000 episodes of --way classes held
out, whose queries the nearest mean tells, with t intervals; or episodes as they are published, such as Omniglot's
one-shot runs (folders with class_labels.txt, or a table with `run`, `part` and `label`).

Vectors of nodes, a folder of `graph`, are judged on a graph: `--task nodes` by a logistic regression of their classes,
on the graph's own split and on random ones; `--task links` by edges that were held out (`graph --link_split 0`). Beside
them stand the features of the nodes, alone and spread over edges, a random GCN, eigenvectors, degrees, Adamic-Adar.

Encoders of images and texts, such as CLIP or a folder of `clip`, are judged by classes that are told by their names
(`--zero_shot "a photo of a {}" "a drawing of a {}"`), beside each template alone, the names alone, random weights and
names that are shuffled; or by captions and images that find one another (`--task retrieval`), beside random weights, a
linear map of pixels to words, and chance; there, too, by captions whose two objects are swapped.

`--finetune 0.01,0.1,1` also fine-tunes every network, once for each share of the labels; `hf-replearn finetune` does so
with several seeds and GLUE's metrics. `--add_to_card` writes the scores into the card of the first model. Under
`accelerate launch` or `torchrun`, each process computes its part of the features.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hf_replearn.settings import MOST_WORKERS, ExampleSettings, SoundFileSettings, run, setting

if TYPE_CHECKING:
    from hf_replearn.sharing.report import Evaluation


@dataclass(kw_only=True)
class EvaluateSettings(SoundFileSettings, ExampleSettings):
    model: tuple[str, ...] = setting(
        (),
        "folder or Hub id of an encoder, transformers, timm or sentence-transformers; may be given several times",
        section="model",
    )
    runs: tuple[str, ...] = setting(
        (), "folders of runs, such as out/*, or one folder of such: every encoder found there", section="model"
    )
    features: tuple[str, ...] = setting(
        (),
        "your own features: an .npz file with train (N, D) and test (M, D), a row for each example of the dataset in "
        "its order, and maybe train_labels, test_labels, which must be the dataset's; may be several",
        section="model",
    )
    pooling: Literal["mean", "cls", "last"] | None = setting(
        None,
        "one vector of a text: mean of all tokens, the first, or the last; none: as a folder of sentence-transformers "
        "says, else the mean",
        section="model",
    )
    task: Literal["episodes", "links", "nodes", "retrieval"] | None = setting(
        None,
        "of encoders of images: episodes, a few images of each of a few classes, and others to be told; "
        "of vectors of nodes: links, which nodes are linked; nodes, which class a node is of; of encoders of images "
        "and texts: retrieval, which captions and images find one another; none: what the data and the encoders are of",
        section="evaluation",
    )
    zero_shot: tuple[str, ...] = setting(
        (),
        "of encoders of images and texts: templates of prompts, such as 'a photo of a {}', with the name of a class "
        "for {}, by which classes of images are told; several are averaged",
        section="evaluation",
    )
    layers: str = setting(
        "last",
        "layer that is judged: last, or its number (0: before the first block); all: the last, and k-shot, kNN, "
        "linear probe and fine-tuning of every layer",
        section="model",
    )
    baselines: bool = setting(True, "random weights, raw pixels or TF-IDF, and their PCA beside them", section="model")
    words: str | None = setting(
        None,
        "of pairs of sentences: vectors of words, a folder of word2vec or a file, whose mean stands beside them",
        section="model",
    )
    train_examples: int | None = setting(
        None,
        "at random, each class by its share and at least once; none: 5,000 (quick) or all (full)",
        section="data",
        at_least=2,
    )
    test_examples: int | None = setting(
        None, "at random, each class by its share; none: 2,000 (quick) or all (full)", section="data", at_least=2
    )
    suite: Literal["quick", "full"] = setting("quick", "how much is measured", section="evaluation")
    shots: tuple[int, ...] | None = setting(
        None, "labels a class; none: 1, 2, 4, ... 64 as the smallest class allows", section="evaluation", at_least=1
    )
    way: int = setting(5, "of --task episodes: classes of one", section="evaluation", at_least=2, at_most=10_000)
    queries: int = setting(
        15, "of --task episodes: images of each class that are asked for", section="evaluation", at_least=1,
        at_most=10_000,
    )  # fmt: skip
    episodes: int = setting(2000, "of --task episodes: how many", section="evaluation", at_least=3, at_most=1_000_000)
    held_out: tuple[str, ...] = setting(
        (),
        "of --task episodes: the classes, as of `hf-replearn episodes`: a share, names of classes or groups, or all; "
        "none: the split test, else the fifth that such a run holds out",
        section="evaluation",
    )
    group_by: str | None = setting(
        None,
        "of --task episodes: column whose values classes belong to, or `folder`, of group/class/image",
        section="evaluation",
    )
    within_group: bool = setting(False, "of --task episodes: the classes of one are of one group", section="evaluation")
    finetune: tuple[float, ...] = setting(
        (),
        "fine-tune every network too (each layer, with --layers all), on these shares of the labels",
        section="evaluation",
        above=0,
        at_most=1,
    )
    learning_rate: float = setting(
        5e-5, "of --finetune (small networks need up to 3e-4)", section="evaluation", at_least=0, at_most=1000
    )
    add_to_card: bool = setting(
        False, "add the scores to the report and card of the first --model, a folder", section="run"
    )
    output_dir: str = setting(..., "folder for report.json and report.html", section="run")
    seed: int = setting(
        42, "of draws, k-means, random weights and pictures", section="run", at_least=0, at_most=2**31 - 1
    )
    use_cpu: bool = setting(False, "stay on the CPU even where there is a GPU", section="run")
    dataloader_num_workers: int = setting(
        0, "processes that load examples", section="run", at_least=0, at_most=MOST_WORKERS
    )


def main(settings: EvaluateSettings) -> None:
    """What representations are worth, side by side: any encoders of images, texts or sounds, on labelled data."""
    if os.environ.get("LOCAL_RANK", "0") == "0":  # the libraries alone may take ten seconds to load
        print(f"evaluating on {settings.dataset} …", flush=True)
    from hf_replearn.judging.episodes import judge_in_episodes, of_episodes
    from hf_replearn.judging.graphs import judge_nodes_and_links, of_graphs
    from hf_replearn.judging.pairs import judge_images_and_texts, of_pairs
    from hf_replearn.judging.words import judge_vectors, of_words

    if of_episodes(settings):
        judge_in_episodes(settings)
        return
    if of_pairs(settings):
        judge_images_and_texts(settings)
        return
    if of_graphs(settings):
        judge_nodes_and_links(settings)
        return
    if of_words(settings):
        judge_vectors(settings)
        return
    from hf_replearn.judging.evaluate import evaluate_encoders

    evaluate_encoders(settings)


def evaluate(encoders: Any, *, dataset: Any, **settings: Any) -> Evaluation:
    """The same from Python: what encoders are worth, as a report that a notebook shows as a table.

        report = hf_replearn.evaluate({"mine": "out", "my net": (module, transform)}, dataset=my_labelled)
        report.rows["mine"]["knn@20"]; report.to_pandas(); report.save("page")

    encoders: {name: encoder}; or a list of encoders, or one. An encoder is a folder, a run or a Hub id; a pair (module,
              preprocessing) or a function, as `encoders.encoder.find_encoder` takes them; or features of your own: an
              .npz file, (train, test) of arrays (N, D) and (M, D) or `Features`, or {"train", "test", "train_labels",
              "test_labels"}, a row for each example of the dataset in its order.
    dataset:  a path or Hub id; a datasets.Dataset; an object with a length and items (image or text, label) or dicts;
              or {"train": …, "test": …} of these. Without "test", a fifth of the examples is held out.
    settings: as on the command line: shots=(1, 8), suite="full", baselines=False … Without output_dir, nothing is left
              on disk.

    Raises InputError, in one line, for whatever is wrong with encoders, data or settings.
    """
    from hf_replearn.judging.notebook import evaluate_given

    return evaluate_given(EvaluateSettings, encoders, dataset=dataset, **settings)


if __name__ == "__main__":
    run(main, EvaluateSettings, prog="evaluate")
