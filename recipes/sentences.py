"""Sentence encoders: SimCSE (Gao et al. 2021), TSDAE (Wang et al. 2021), and pairs of texts that belong together.

    accelerate launch recipes/sentences.py --config recipes/configs/sentences/toy.yaml --output_dir out/toy
    hf-replearn sentences --init out/bert --dataset PATH_OR_HUB_ID --output_dir out/sentences
    hf-replearn sentences --init out/bert --dataset corpus/ --objective tsdae --output_dir out/tsdae
    hf-replearn sentences --init out/bert --dataset nli.csv --objective pairs --text_columns premise,hypothesis \\
        --where label=entailment --negatives 512 --output_dir out/pairs
    hf-replearn sentences --init out/bert --dataset corpus/ --whiten 128 --sts path/to/stsb --output_dir out/white

simcse: a sentence goes through the encoder twice, with other dropout each time, and is told from all others of its
batch. pairs: so are two texts that belong together, or two and one that does not (supervised SimCSE). tsdae: a decoder
tells a text from the one vector of what is left of it without 60 % of its tokens. Equal texts are no negatives of one
another. The result is a folder that sentence-transformers loads:

    SentenceTransformer("out/sentences").encode(["A text."])

`hf-replearn evaluate --model out/sentences --dataset path/to/stsb` puts it beside words and their vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hf_replearn.errors import InputError
from hf_replearn.pretraining.recipe import Method, SentenceMethod, SentenceSettings, run, setting

POOLING = {"simcse": "cls", "tsdae": "cls", "pairs": "mean"}  # of the papers
OWN = {  # settings that say nothing to other objectives
    "where": ("pairs",),
    "text_columns": ("pairs",),
    "symmetric": ("pairs",),
    "text_column": ("simcse", "tsdae"),
    "unit": ("simcse", "tsdae"),
    "head": ("simcse", "pairs"),
    "temperature": ("simcse", "pairs"),
    "negatives": ("simcse", "pairs"),
    "delete": ("tsdae",),
}


@dataclass(kw_only=True)
class SentencesSettings(SentenceSettings):
    objective: Literal["simcse", "tsdae", "pairs"] = setting(
        "simcse",
        "simcse: two views of a text by dropout; tsdae: a decoder restores what was taken out of it; pairs: texts that "
        "belong together",
        section="training",
    )
    text_columns: str | None = setting(
        None,
        "pairs: their two columns with a comma between, or three with that of hard negatives; none: by their names",
        section="data",
    )
    where: str | None = setting(
        None, "pairs: the rows that belong together, such as label=1 or score>=4; all", section="data"
    )
    temperature: float = setting(
        0.05, "simcse, pairs: of the softmax over cosines", section="training", above=0, at_most=100
    )
    symmetric: bool = setting(
        False, "pairs: the second text tells the first one too, among all first ones", section="training"
    )
    head: bool | None = setting(
        None,
        "simcse, pairs: a dense layer with tanh before the loss, thrown away; none: for simcse, as the paper",
        section="model",
    )
    delete: float = setting(
        0.6, "tsdae: share of the tokens that are taken out", section="training", at_least=0, at_most=0.95
    )


def read(settings: SentencesSettings, source):
    """What is learnt from. Raises InputError for settings that the objective does not have, and for data."""
    from hf_replearn.data.sentences import load_pairs, sentences_of
    from hf_replearn.data.text import load_corpora
    from hf_replearn.settings import changed

    objective = settings.objective
    for name, objectives in OWN.items():
        if objective not in objectives and name in changed(settings):
            raise InputError(f"--{name} is of --objective {' and '.join(objectives)}, not of {objective}: leave it out")
    if objective == "pairs":
        if len(settings.dataset) > 1:
            raise InputError(f"--objective pairs reads one dataset, got {', '.join(settings.dataset)}")
        about = {"text_columns": settings.text_columns, "where": settings.where, "files": settings.files}
        return load_pairs(source or settings.dataset[0], config=settings.dataset_config, **about)
    corpus = load_corpora(
        settings.dataset if source is None else (source,),
        text_column=settings.text_column,
        config=settings.dataset_config,
        files=settings.files,
    )
    return sentences_of(corpus, settings.unit)


def collate(settings: SentencesSettings, sentences, tokenizer):
    """The collator of the objective."""
    from hf_replearn.methods.sentences import DataCollatorForDenoising, DataCollatorForSentences

    if settings.objective == "tsdae":
        return DataCollatorForDenoising(tokenizer, settings.sequence_length, delete=settings.delete)
    count = 2 if settings.objective == "simcse" else 1
    return DataCollatorForSentences(tokenizer, settings.sequence_length, columns=sentences.columns, count=count)


def configure(settings: SentencesSettings, encoder):
    """The configuration of f and g. encoder: of f."""
    from hf_replearn.methods.sentences import SentencesConfig

    objective = settings.objective
    return SentencesConfig(
        encoder=encoder,
        objective=objective,
        pooling=settings.pooling or POOLING[objective],
        head=objective == "simcse" if settings.head is None else settings.head,
        temperature=settings.temperature,
        symmetric=settings.symmetric,
    )


def objective(name: str, summary: str, paper: str, arxiv: str, bibtex: str) -> Method:
    """The facts of one of the objectives."""
    model = "hf_replearn.methods.sentences.SentencesForPreTraining"
    return Method(name=name, summary=summary, paper=paper, arxiv=arxiv, bibtex=bibtex, model_class=model)


OBJECTIVES = {
    "simcse": objective(
        "SimCSE",
        "A sentence goes through the encoder twice, with other dropout each time, and is told from all other sentences "
        "of its batch; no labels are used.",
        "SimCSE: Simple Contrastive Learning of Sentence Embeddings",
        "2104.08821",
        """\
@inproceedings{gao2021simcse,
  title     = {{SimCSE}: Simple Contrastive Learning of Sentence Embeddings},
  author    = {Gao, Tianyu and Yao, Xingcheng and Chen, Danqi},
  booktitle = {Conference on Empirical Methods in Natural Language Processing},
  year      = {2021}
}""",
    ),
    "tsdae": objective(
        "TSDAE",
        "A decoder, which is thrown away, tells a sentence from the one vector of what is left of it when most of its "
        "tokens are taken out; no labels are used.",
        "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding Learning",
        "2104.06979",
        """\
@inproceedings{wang2021tsdae,
  title     = {{TSDAE}: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding
               Learning},
  author    = {Wang, Kexin and Reimers, Nils and Gurevych, Iryna},
  booktitle = {Findings of the Association for Computational Linguistics: EMNLP},
  year      = {2021}
}""",
    ),
    "pairs": objective(
        "pairs of texts",
        "A text tells the one that belongs to it from those of all other pairs of its batch; which texts belong "
        "together was given.",
        "Efficient Natural Language Response Suggestion for Smart Reply",
        "1705.00652",
        """\
@article{henderson2017efficient,
  title   = {Efficient Natural Language Response Suggestion for Smart Reply},
  author  = {Henderson, Matthew and Al-Rfou, Rami and Strope, Brian and Sung, Yun-Hsuan and
             Luk{\\'a}cs, L{\\'a}szl{\\'o} and Guo, Ruiqi and Kumar, Sanjiv and Miklos, Balint and Kurzweil, Ray},
  journal = {arXiv preprint arXiv:1705.00652},
  year    = {2017}
}""",
    ),
}
METHOD = SentenceMethod(
    command="sentences",
    facts=OBJECTIVES["simcse"],
    objectives=OBJECTIVES,
    read=read,
    collate=collate,
    configure=configure,
)


def main(settings: SentencesSettings, **given):
    """Sentence encoders by SimCSE, TSDAE or pairs of texts (arXiv:2104.08821, arXiv:2104.06979, arXiv:1705.00652)."""
    from hf_replearn.pretraining.sentences import pretrain_sentences

    return pretrain_sentences(settings, METHOD, **given)


if __name__ == "__main__":
    run(main, SentencesSettings, prog="sentences")
