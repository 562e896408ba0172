"""Captions and images that find one another, with several right answers; swapped objects; classes by their names."""

import io

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from hf_replearn.errors import InputError
from hf_replearn.evaluation.judged_pairs import named
from hf_replearn.evaluation.pairs import (
    PairTask,
    chance,
    judge_retrieval,
    judge_swapped,
    linear_map,
    ranks,
    swapped,
)
from hf_replearn.evaluation.zero_shot import (
    check_templates,
    class_vectors,
    mean_similarity,
    names_in_words,
    told,
)


def rows(images, texts, image_ids=None, text_ids=None):
    """Pairs as PairData has them. images: grey levels."""
    cells = []
    for level in images:
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(file, "PNG")
        cells.append({"bytes": file.getvalue(), "path": None})
    columns = {"image": cells, "text": texts}
    columns["image_id"] = image_ids or list(range(len(texts)))
    columns["text_id"] = text_ids or list(range(len(texts)))
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image(decode=False))


def test_a_task_has_each_image_and_each_caption_once():
    """Two images share a caption, one image has two."""
    task = PairTask.of(rows([1, 2, 3, 3], ["a", "a", "b", "c"], image_ids=[7, 5, 9, 9], text_ids=[4, 4, 0, 2]))
    assert len(task.rows) == 3 and task.texts == ["b", "c", "a"]
    assert sorted(map(tuple, task.right.tolist())) == [(0, 2), (1, 2), (2, 0), (2, 1)]
    chosen = [int(np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))[0, 0, 0]) for row in task.rows]
    assert chosen == [2, 1, 3]  # of the ids 5, 7, 9


def test_the_rank_is_that_of_the_best_right_answer():
    keys = normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.2]]), dim=1)
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    right = torch.tensor([[0, 2], [0, 1], [1, 3]])  # two right answers to the first
    assert ranks(queries, keys, right).tolist() == [2, 2]
    found = judge_retrieval(queries, keys, right)
    assert found.scores["text_of_image@1"] == 0.0
    assert judge_retrieval(keys, queries, right.flip(1)).scores["image_of_text@1"] == 0.0


def test_index_matching_would_under_report_equal_captions():
    """The captions of both images are one: whichever image a caption meets first is right."""
    task = PairTask.of(rows([1, 2], ["a", "a"], text_ids=[0, 0]))
    vectors = normalize(torch.randn(2, 4), dim=1)
    assert ranks(vectors, vectors[:1], task.right).tolist() == [1, 1]
    assert ranks(vectors[:1], vectors, task.right.flip(1)).tolist() == [1]


def test_vectors_that_are_all_equal_are_at_chance():
    """Ties are broken at random, not by the order, which is that of the right answers."""
    same, right = torch.ones(400, 1), torch.arange(400)[:, None].repeat(1, 2)
    found = ranks(same, same, right).double()
    assert abs(found.mean().item() - 200.5) < 25
    assert judge_retrieval(same, same, right).scores["text_of_image@10"] < 0.06


def test_chance_is_what_random_orders_find():
    task = PairTask.of(rows(range(6), list("abcabd"), text_ids=[0, 1, 2, 0, 1, 3]))
    generator = torch.Generator().manual_seed(0)
    hits = []
    for _ in range(2000):
        images, texts = (torch.randn(n, 3, generator=generator) for n in (6, 4))
        hits.append((ranks(normalize(texts, dim=1), normalize(images, dim=1), task.right.flip(1)) <= 1).double().mean())
    assert chance(task)["image_of_text@1"] == pytest.approx((2 / 6 + 2 / 6 + 1 / 6 + 1 / 6) / 4)
    assert float(torch.stack(hits).mean()) == pytest.approx(chance(task)["image_of_text@1"], abs=0.02)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("a red cross left of a blue circle", "a blue circle left of a red cross"),
        ("A cat in front of a dog.", "A dog in front of a cat."),
        ("the cup on top of the table", "the table on top of the cup"),
        ("a cat next to a dog", None),  # which says the same the other way round
        ("a cat above a cat", None),
        ("a photo of a cat", None),
    ],
)
def test_objects_are_swapped_where_that_says_something_else(text, other):
    assert swapped(text) == other


def test_a_bag_of_words_does_not_know_which_object_is_where_and_an_order_of_words_does():
    texts = [
        f"a {first} above a {second}" for first in ("cat", "dog", "hen", "cow") for second in ("box", "cup", "hat")
    ]
    task = PairTask.of(rows(range(len(texts)), texts))
    words = sorted({word for text in texts for word in text.split()})

    def bag(texts):
        return normalize(torch.tensor([[float(text.split().count(word)) for word in words] for text in texts]), dim=1)

    def ordered(texts):
        places = torch.tensor([[float(text.split()[:2].count(word)) for word in words] for text in texts])
        return normalize(torch.cat([bag(texts), places], 1), dim=1)

    for embed, score in ((bag, 0.5), (ordered, 1.0)):
        assert judge_swapped(embed(task.texts), task, embed).scores["swapped_objects"] == score
    few = PairTask.of(rows(range(3), texts[:3]))
    assert judge_swapped(bag(few.texts), few, bag) is None


def test_a_linear_map_finds_what_pixels_tell():
    levels = [0, 255] * 30
    pairs = rows(levels, ["a black square" if level == 0 else "a white square" for level in levels])

    def level(part):
        pictures = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in part]
        return torch.tensor([[float(np.asarray(picture)[0, 0, 0])] for picture in pictures])

    of_images, of_texts = linear_map(pairs, level)
    near = of_images(pairs.select([0, 1])) @ of_texts(["a black square", "a white square"]).T
    assert near.argmax(1).tolist() == [0, 1]
    with pytest.raises(ValueError, match="empty vocabulary"):
        linear_map(rows([1, 2], ["...", "!"]), lambda part: torch.zeros(2, 1))


def test_scores_of_further_parts_have_names_of_their_own():
    assert named("text_of_image@5", "_unseen") == "text_of_image_unseen@5"
    assert named("text_of_image@5_ci95", "_unseen") == "text_of_image_unseen@5_ci95"
    assert named("swapped_objects_ci95", "_unseen") == "swapped_objects_unseen_ci95"


# ---- classes by their names

VECTORS = {
    "a photo of a cat": [1.0, 0.0],
    "a drawing of a cat": [0.0, 1.0],
    "a photo of a sea lion": [-1.0, 0.0],
    "a drawing of a sea lion": [-1.0, 0.0],
}


def embed(texts):
    return torch.tensor([VECTORS[text] for text in texts])


def test_a_class_is_the_mean_of_its_prompts_at_length_1():
    names = names_in_words(["cat", "sea_lion"])
    assert names == ["cat", "sea lion"]
    classes = class_vectors(embed, names, ("a photo of a {}", "a drawing of a {}"))
    assert torch.allclose(classes, torch.tensor([[0.5**0.5, 0.5**0.5], [-1.0, 0.0]]))
    images = normalize(torch.tensor([[1.0, 0.2], [-1.0, 0.5], [0.1, 1.0]]), dim=1)
    assert told(images, classes).tolist() == [0, 1, 0]
    matrix = mean_similarity(images, classes, torch.tensor([0, 1, 0]))
    assert matrix[1].tolist() == pytest.approx((images[1] @ classes.T).tolist())
    assert matrix[0, 1].item() == pytest.approx(((images[0] + images[2]) / 2 @ classes[1]).item())


@pytest.mark.parametrize("template", ["a photo", "a {} of {}", "a {name}", "{} {"])
def test_a_template_says_once_where_the_name_stands(template):
    with pytest.raises(InputError, match="must have one {}, where the name of a class stands"):
        check_templates([template])
    check_templates(["a photo of a {}", "{}"])
