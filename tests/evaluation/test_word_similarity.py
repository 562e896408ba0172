"""Vectors of words judged: correlations and analogies against gensim's own evaluators and by hand, vectors that count
against loops, files of several kinds, and what is refused."""

import importlib
import json
import math

import numpy as np
import pytest

from hf_replearn.data.words import WordTask, is_of_words, word_tasks
from hf_replearn.encoders.subwords import NgramVectors, Subwords
from hf_replearn.encoders.words import WordVectors, write_text
from hf_replearn.errors import InputError
from hf_replearn.evaluation.words import (
    analogies,
    judge_words,
    neighbours,
    ppmi_svd,
    protocols,
    random_words,
    similarity,
)
from hf_replearn.recipes.evaluation import EvaluateSettings, main
from hf_replearn.settings import run


def vectors(count: int = 60, width: int = 8) -> WordVectors:
    rng = np.random.default_rng(0)
    return WordVectors([f"w{n}" for n in range(count)], rng.standard_normal((count, width)).astype(np.float32))


def pairs(count: int = 40, known: int = 60) -> WordTask:
    rng = np.random.default_rng(1)
    words = [(f"w{a}", f"W{b}") for a, b in rng.integers(0, known, (count, 2))]
    return WordTask("likeness", words, scores=rng.uniform(0, 10, count).round(1))


def questions() -> WordTask:
    """Of grids of words in which differences are the same, with noise, so that some are told."""
    rng = np.random.default_rng(2)
    found = [(f"w{a}", f"w{a + 1}", f"w{b}", f"w{b + 1}") for a, b in 2 * rng.integers(0, 32, (120, 2)) if a != b]
    return WordTask("grids", found, categories=["first" if n % 3 else "second" for n in range(len(found))])


def grids() -> WordVectors:
    rng = np.random.default_rng(3)
    base, step = rng.standard_normal((30, 10)), 0.8 * rng.standard_normal(10)
    table = np.stack([base, base + step + 0.6 * rng.standard_normal((30, 10))], axis=1).reshape(60, 10)
    return WordVectors([f"w{n}" for n in range(60)], table.astype(np.float32))


def test_similarity_by_hand():
    words = WordVectors(["a", "b", "c", "d"], np.array([[1, 0], [1, 1], [0, 1], [-1, 0]], dtype=np.float32))
    task = WordTask("few", [("a", "B"), ("a", "c"), ("a", "d"), ("a", "x")], scores=np.array([5.0, 7.0, 1.0, 9.0]))
    found = similarity(words, task)
    assert found.known.tolist() == [True, True, True, False]
    assert math.isclose(found.scores["word_spearman_few"], 0.5)  # ranks 3 2 1 of the cosines, and 2 3 1
    assert found.properties == {"words_known_few": 0.75}
    np.testing.assert_allclose(found.found["word_spearman_few"], [0.5**0.5, 0, -1, np.nan], atol=1e-6)


def test_pairs_by_the_parts_of_words_are_counted_apart():
    """ "cattle" has no vector of its own: those of <ca and cat, known from cat, stand for it."""
    subwords = Subwords(3, 3)
    parts = dict(zip(subwords.buckets_of("cat"), np.array([[1, 0], [1, 2], [0, 0]], dtype=np.float32), strict=True))
    ngrams = NgramVectors(subwords, np.sort(list(parts)), np.stack([parts[bucket] for bucket in sorted(parts)]))
    rows = np.array([[1, 0], [1, 1], [0, 1], [-1, 0]], dtype=np.float32)
    words = WordVectors(["a", "b", "c", "d"], rows, None, ngrams)
    pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("a", "cattle"), ("a", "xyz")]
    found = similarity(words, WordTask("few", pairs, scores=np.array([5.0, 7.0, 1.0, 9.0, 2.0])))
    assert found.known.tolist() == [True, True, True, False, False]
    assert found.composed.tolist() == [False, False, False, True, False]
    assert math.isclose(found.scores["word_spearman_few"], 0.5)  # as without parts
    # cosines sqrt(1/2), 0, -1, and of (1, 1) sqrt(1/2): ranks 3.5 2 1 3.5, and 2 3 1 4
    assert math.isclose(found.scores["word_parts_spearman_few"], np.corrcoef([3.5, 2, 1, 3.5], [2, 3, 1, 4])[0, 1])
    assert found.properties == {"words_known_few": 0.6, "words_composed_few": 0.2}
    names = {*found.scores, *found.properties} - {name for name in found.scores if name.endswith("_ci95")}
    assert names == set(protocols(WordTask("few", pairs, scores=np.ones(5))))


@pytest.mark.parametrize(
    ("words", "scores", "message"),
    [
        ([("a", "b"), ("a", "c"), ("x", "y")], [1, 2, 3], "2 of 3 pairs have two words with a vector"),
        ([("a", "b"), ("a", "c"), ("b", "c")], [2, 2, 2], "the same score or cosine"),
        ([("a", "a"), ("b", "b"), ("c", "c")], [1, 2, 3], "the same score or cosine"),
    ],
)
def test_no_correlation_is_said_and_not_made_up(words, scores, message):
    known = WordVectors(["a", "b", "c"], np.array([[1, 0], [1, 1], [0, 1]], dtype=np.float32))
    with pytest.raises(InputError, match=message):
        similarity(known, WordTask("few", words, scores=np.array(scores, dtype=float)))


def test_analogies_by_loops():
    """3CosAdd and 3CosMul, word by word; a question with an unknown word counts among all as not told."""
    words, task = grids(), questions()
    found = analogies(words, task)
    unit = words.vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    right = {"add": [], "mul": []}
    for item in task.words:
        if not all(word in words.places for word in item):
            continue
        a, b, c, d = (words.places[word] for word in item)
        best = {}
        for way in right:
            scored = {}
            for other in set(range(60)) - {a, b, c}:
                x, y, z = (unit[other] @ unit[place] for place in (a, b, c))
                scored[other] = y - x + z if way == "add" else (y + 1) / 2 * (z + 1) / 2 / ((x + 1) / 2 + 0.001)
            best[way] = max(scored, key=scored.get)
            right[way].append(best[way] == d)
    assert 0 < len(right["add"]) < len(task.words) and 0.1 < np.mean(right["add"]) < 0.9
    for way, told in right.items():
        assert math.isclose(found.scores[f"analogy_{way}_grids@known"], np.mean(told))
        assert math.isclose(found.scores[f"analogy_{way}_grids@all"], np.sum(told) / len(task.words))
    by_kind = [found.scores[f"analogy_add_grids@{kind}"] for kind in ("first", "second")]
    assert min(by_kind) <= np.mean(right["add"]) <= max(by_kind)
    with pytest.raises(InputError, match="of none of its 1 questions all words have a vector"):
        analogies(words, WordTask("none", [("w1", "w2", "w3", "zebra")], categories=["x"]))


def test_gensim_gives_the_same_scores(tmp_path):
    """Its own evaluators, of the same vectors and files: pairs and questions with unknown words left out."""
    models = pytest.importorskip("gensim.models")
    words = grids()
    write_text(words.words, words.vectors, tmp_path / "words.txt")
    theirs = models.KeyedVectors.load_word2vec_format(str(tmp_path / "words.txt"))
    task = pairs(known=70)
    lines = [f"{a}\t{b}\t{score}" for (a, b), score in zip(task.words, task.scores, strict=True)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines))
    found = judge_words(words, task)
    _, spearman, unknown = theirs.evaluate_word_pairs(str(tmp_path / "pairs.tsv"))
    assert math.isclose(found.scores["word_spearman_likeness"], spearman.statistic, abs_tol=1e-6)
    assert math.isclose(1 - found.properties["words_known_likeness"], unknown / 100)
    asked = questions()
    text = "".join(f": {kind}\n{' '.join(item)}\n" for item, kind in zip(asked.words, asked.categories, strict=True))
    (tmp_path / "questions.txt").write_text(text)
    share, _ = theirs.evaluate_word_analogies(str(tmp_path / "questions.txt"))
    assert math.isclose(judge_words(words, asked).scores["analogy_add_grids@known"], share)


def test_neighbours_are_counted_as_by_loops():
    rng = np.random.default_rng(0)
    documents = [rng.integers(0, 6, length) for length in (9, 1, 0, 14, 3)]
    ids = np.concatenate([np.append(document, -1) for document in documents]).astype(np.int32)
    wanted = np.zeros((6, 6))
    for document in documents:
        for place, word in enumerate(document):
            for other in range(max(0, place - 3), min(len(document), place + 4)):
                if other != place:
                    wanted[word, document[other]] += 1 - (abs(other - place) - 1) / 3
    for size in (4, 7, 1000):  # as many numbers at a time
        np.testing.assert_allclose(neighbours(ids, 6, window=3, size=size).toarray(), wanted)


def test_vectors_that_count_tell_topics_apart():
    """Even and odd words never stand together; those at random do not know."""
    rng = np.random.default_rng(0)
    ids = np.concatenate([np.append(2 * rng.integers(0, 15, 20) + n % 2, -1) for n in range(400)]).astype(np.int32)
    words = vectors(30)
    same = np.arange(30)[:, None] % 2 == np.arange(30) % 2
    for made, least in ((ppmi_svd(ids, words, window=4), 0.5), (random_words(words), -0.2)):
        assert made.words == words.words and made.vectors.shape == (30, 8)
        similar = made.directions @ made.directions.T
        difference = similar[same].mean() - similar[~same].mean()
        assert difference > least and (least > 0) == (difference > 0.3)


# ---- files


def test_files_of_every_kind_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffWord1,word2,SCORE,note\ntiger,cat,7.35,x\nking,queen,8\n")
    (tmp_path / "b.tsv").write_text("word1\tword2\tscore\ntiger\tcat\t7.35\n")
    (tmp_path / "c.csv").write_text("category,a,b,c,d\ncities,Athens,Greece,Oslo,Norway\n")
    (tmp_path / "d.txt").write_text(": cities\nAthens Greece Oslo Norway\n: family\nboy girl son daughter\n")
    a, b, c, d = word_tasks(str(tmp_path))
    assert a.words == [("tiger", "cat"), ("king", "queen")] and a.scores.tolist() == [7.35, 8.0] and a.name == "a"
    assert b.words == [("tiger", "cat")]
    assert c.words == [("Athens", "Greece", "Oslo", "Norway")] and c.categories == ["cities"]
    assert d.categories == ["cities", "family"] and d.words[1] == ("boy", "girl", "son", "daughter")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", "", "has the columns none"),
        ("x.csv", "first,second,score\na,b,1\n", "has the columns first, second, score"),
        ("x.csv", "word1,word2,score\n", "no line below its columns"),
        ("x.csv", "word1,word2,score\na,b,high\n", "line 2: the score 'high' is no number"),
        ("x.csv", "word1,word2,score\na,b,nan\n", "line 2: the score 'nan' is no number"),
        ("x.csv", "word1,word2,score\na,,1\n", "line 2: one of word1, word2, score is empty"),
        ("x.txt", ": cities\nAthens Greece Oslo\n", "line 2: 'Athens Greece Oslo' is no analogy"),
        ("x.txt", ": cities\n", "has no analogy"),
    ],
)
def test_files_of_something_else_are_refused_in_one_line(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as told:
        word_tasks(str(tmp_path / name))
    assert "\n" not in str(told.value)


# ---- the command


def evaluate(*arguments: str) -> int:
    try:
        run(main, EvaluateSettings, list(arguments))
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A run on a text of two topics, and a file of pairs that it should tell apart."""
    recipe = importlib.import_module("hf_replearn.recipes.word2vec")
    folder, rng = tmp_path_factory.mktemp("learnt"), np.random.default_rng(0)
    letters = "abcdefghij"
    text = []
    for number in range(600):
        topic = "land" if number % 2 else "sea"
        text.append(" ".join(f"{topic}{letters[place]}" for place in rng.integers(0, 10, 20)))
    (folder / "text.txt").write_text("\n\n".join(text))
    out = folder / "words"
    given = ["--dataset", str(folder / "text.txt"), "--dim", "10", "--subsample", "0", "--num_train_epochs", "20"]
    run(recipe.main, recipe.Word2VecSettings, [*given, "--output_dir", str(out)])
    lines = ["word1,word2,score"]
    for a, b in rng.integers(0, 10, (30, 2)):
        lines += [f"land{letters[a]},land{letters[b]},9", f"land{letters[a]},sea{letters[b]},1"]
    (folder / "topics.csv").write_text("\n".join([*lines, "land,water,5"]))
    (folder / "questions.txt").write_text(": all\nlanda seaa landb seab\nlandc seac landd sead\n")
    return folder


def test_words_are_judged_beside_what_counts_and_what_is_at_random(learnt, tmp_path, capsys):
    out, card = tmp_path / "out", learnt / "words"
    before = (card / "README.md").read_text()
    given = ["--model", str(card), "--output_dir", str(out), "--add_to_card"]
    assert evaluate(*given, "--dataset", str(learnt / "topics.csv")) == 0, capsys.readouterr().err
    report = json.loads((out / "report.json").read_text())
    rows = report["rows"]
    assert list(rows) == [str(card), "PPMI + SVD (10)", "random vectors"]
    metric = "word_spearman_topics"
    scores = [found[metric] for found in rows.values()]
    assert scores[0] > 0.8 and scores[1] > 0.8 and abs(scores[2]) < 0.5
    assert "topics: 60 of 61 known" in " ".join(report["task"]["notes"])
    test = next(test for test in report["comparisons"] if test["other"] == "random vectors")
    assert test["metric"] == metric and test["p"] < 0.01
    assert (out / "report.html").exists()
    after = (card / "README.md").read_text()
    assert "Spearman correlation with people" in after and "Here 60 of 61 are known" in after and after != before
    own = json.loads((card / "report.json").read_text())["rows"]
    assert own["word2vec"][metric] == scores[0] and own["PPMI + SVD (10)"][metric] == scores[1]


def test_the_log_and_the_card_say_how_many_words_are_known_by_their_parts(learnt, tmp_path, capsys):
    """Of "seaaland" and such both topics' parts are known; of "moon" none is."""
    recipe = importlib.import_module("hf_replearn.recipes.word2vec")
    given = ["--dataset", str(learnt / "text.txt"), "--dim", "10", "--subsample", "0", "--num_train_epochs", "2"]
    out = tmp_path / "parts"
    run(recipe.main, recipe.Word2VecSettings, [*given, "--subwords", "3-4", "--output_dir", str(out)])
    (tmp_path / "more.csv").write_text((learnt / "topics.csv").read_text() + "\nlanda,landish,9\nlanda,moon,5\n")
    capsys.readouterr()
    given = ["--model", str(out), "--dataset", str(tmp_path / "more.csv"), "--output_dir", str(tmp_path / "out")]
    assert evaluate(*given, "--add_to_card") == 0
    assert f"more: 60 of 63 known to {out}, 1 more by the parts of their words" in capsys.readouterr().out
    card = " ".join((out / "README.md").read_text().split())
    assert card.count("Here 60 of 63 are known, 1 more by the parts of their words.") == 2
    scores = json.loads((tmp_path / "out" / "report.json").read_text())["rows"][str(out)]
    assert {"word_spearman_more", "word_parts_spearman_more"} <= set(scores)


def test_vectors_of_others_are_judged_too(learnt, tmp_path, capsys):
    """A text file, of which the text it was learnt from is not known; analogies."""
    given = ["--model", str(learnt / "words" / "words.txt"), "--dataset", str(learnt / "questions.txt")]
    assert evaluate(*given, "--output_dir", str(tmp_path / "out")) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["rows"])[1:] == ["random vectors"]
    assert "it is not known which text it was trained on" in " ".join(report["task"]["notes"])
    assert {"analogy_add_questions@all", "analogy_mul_questions@known"} <= set(next(iter(report["rows"].values())))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--dataset", "none.csv"], "--dataset none.csv: vectors of words are judged by files, and there is none"),
        (["--dataset", "{folder}/text.txt"], "is no analogy; wanted is"),
        (["--dataset", "{folder}/far.csv"], "have no vector of any of its words"),
        (["--dataset", "{folder}/topics.csv", "--shots", "1"], "--shots is not for vectors of words"),
        (["--dataset", "{folder}/topics.csv", "--model", "timm/resnet18"], "is of vectors of words, and timm/resnet18"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is(more, message, learnt, tmp_path, capsys):
    (learnt / "far.csv").write_text("word1,word2,score\nmoon,star,3\nmoon,sun,4\nsun,star,5\n")
    given = [part.format(folder=learnt) for part in more]
    assert evaluate("--model", str(learnt / "words"), *given, "--output_dir", str(tmp_path / "out")) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out" / "report.json").exists()


# ---- words or sentences


def write_sentences(path, *, names=("sentence1", "sentence2", "label"), length: int = 6) -> None:
    """Pairs of sentences of two topics, whose score is how many of their words are of the same one."""
    rng, lines = np.random.default_rng(0), [",".join(names)]
    for _ in range(80):
        land = rng.integers(0, length + 1, 2)
        texts = [
            " ".join(("sea" if place >= count else "land") + "abcdefghij"[rng.integers(10)] for place in range(length))
            for count in land
        ]
        lines.append(f"{texts[0]},{texts[1]},{length - abs(int(land[0] - land[1])) + 0.5}")
    path.write_text("\n".join(lines))


def test_vectors_of_words_are_judged_as_an_encoder_of_sentences(learnt, tmp_path, capsys):
    """By the means of their words, beside other vectors: the cosines are those of `encode`."""
    write_sentences(learnt / "sts.csv")
    words = learnt / "words"
    given = ["--model", str(words), "--model", str(words / "words.txt"), "--dataset", str(learnt / "sts.csv")]
    assert evaluate(*given, "--output_dir", str(tmp_path / "out")) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = {name: row["sts_spearman"] for name, row in report["rows"].items()}
    assert scores["words"] > 0.6 and scores["words"] == scores["words.txt"] and "words, whitened" in scores
    assert report["encoders"]["words"]["pooling"] == "mean of words"
    assert report["encoders"]["words"]["from"] == str(words)


def test_a_table_is_of_words_or_of_sentences(tmp_path):
    files = {
        "pairs.csv": "Word1,word2,score\ntiger,cat,7\n",
        "asked.tsv": "a\tb\tc\td\nx\ty\tz\tw\n",
        "questions.txt": ": all\na b c d\n",
        "sts.csv": "sentence1,sentence2,label\ntiger,cat,7\n",
        "mostly.csv": "word1,word2,score\ntiger,cat,7\nking,queen,2\nred wine,wine,5\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert is_of_words(str(tmp_path / name)) == (name != "sts.csv")
    assert is_of_words("none.tsv") and not is_of_words("user/stsb")  # the latter may be on the Hub
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "train.parquet").write_bytes(b"")
    (tmp_path / "folder" / "LICENSE.txt").write_text("free")
    assert not is_of_words(str(tmp_path / "folder"))
    assert is_of_words(str(tmp_path))


def test_what_may_be_words_or_sentences_is_refused_with_both_readings(learnt, tmp_path, capsys):
    write_sentences(tmp_path / "texts.csv", names=("word1", "word2", "score"))
    write_sentences(tmp_path / "single.csv", length=1)
    for name, message in {
        "texts.csv": "for words, give one in each; for pairs of sentences, call the columns sentence1",
        "single.csv": "to judge words, give a .csv or .tsv with the columns word1, word2, score; to judge the means of",
    }.items():
        given = ["--model", str(learnt / "words"), "--dataset", str(tmp_path / name)]
        assert evaluate(*given, "--output_dir", str(tmp_path / "out")) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and message in error
