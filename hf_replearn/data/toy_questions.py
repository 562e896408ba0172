"""Questions about small made-up contexts, which need no network."""

from __future__ import annotations

from functools import partial

import numpy as np

NAMES = (
    "Ada", "Boris", "Clara", "David", "Emma", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Karla", "Louis", "Maria",
    "Niels", "Olga", "Peter",
)  # fmt: skip
THINGS = ("lamps", "books", "chairs", "boats", "coats", "bells", "keys", "drums", "hats", "maps", "cups", "flags")
COLOURS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey")
PLACES = ("the cellar", "the garden", "the kitchen", "the harbour", "the attic", "the school", "the old mill")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
QUESTIONS = {
    "name": "Who keeps {thing}?",
    "number": "How many {thing} does {name} keep?",
    "colour": "What colour are the {thing} of {name}?",
    "place": "Where are the {thing} of {name}?",
}


def questions(*, share_without: float) -> dict[str, list[dict]]:
    """900 questions about 300 contexts to train on, 300 about 100 others to test on, as `data.questions` has them.

    Each context tells of three people what they keep: "Ada keeps three red lamps in the cellar." Which words answer a
    kind of question is soon learnt; which of the three, only by whom or what it asks of.
    share_without: of questions that ask of a thing that nobody in the context keeps, and have no answer.
    """
    rng, found = np.random.default_rng(0), {}
    for split, contexts in {"train": 300, "test": 100}.items():
        found[split] = [
            row | {"id": f"{split}-{number}-{nth}"}
            for number in range(contexts)
            for nth, row in enumerate(_about(rng, f"{split}-{number}", share_without))
        ]
    return found


def _about(rng: np.random.Generator, article: str, share_without: float) -> list[dict]:
    """Three questions about one context."""
    people, things = rng.choice(NAMES, 3, replace=False), rng.choice(THINGS, 4, replace=False)
    context, facts = "", []
    for name, thing in zip(people, things[:3], strict=True):
        fact = {"name": str(name), "number": str(rng.choice(NUMBERS)), "colour": str(rng.choice(COLOURS))}
        fact |= {"thing": str(thing), "place": str(rng.choice(PLACES))}
        context += " " * bool(context)
        starts = {"name": len(context)}
        for part, before in (("name", ""), ("number", " keeps "), ("colour", " "), ("thing", " "), ("place", " in ")):
            context += before
            starts[part] = len(context)
            context += fact[part]
        context += "."
        facts.append((fact, starts))
    rows = []
    for fact, starts in facts:
        asked = str(rng.choice(list(QUESTIONS)))
        row = {"context": context, "article": article, "answers": [fact[asked]], "starts": [starts[asked]]}
        if rng.random() < share_without:
            row |= {"answers": [], "starts": []}
            fact = fact | {"thing": str(things[3])}
        rows.append(row | {"question": QUESTIONS[asked].format(**fact)})
    return rows


TOYS = {
    "toy": partial(questions, share_without=0.0),  # as SQuAD v1.1
    "toy-unanswerable": partial(questions, share_without=1 / 3),  # as v2
}
