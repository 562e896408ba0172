"""Parts of words: n-grams and hashes by hand, by published values and by gensim; vectors that are composed of them."""

import numpy as np
import pytest

from hf_replearn.encoders.subwords import FILE, NgramVectors, Subwords, cut_words, fnv1a
from hf_replearn.encoders.words import WordVectors, learn_words, read_words, write_words
from hf_replearn.errors import InputError


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"b", 0xE70C2DE5), (b"foobar", 0xBF9CF968), (b"foob", 0x3F5076EF)],
)
def test_the_hash_has_the_published_values_of_fnv_1a(data, value):
    """http://www.isthe.com/chongo/tech/comp/fnv, 32 bits."""
    assert fnv1a(data) == value


def test_bytes_above_127_are_numbers_with_a_sign_as_in_fasttext():
    """0xC3 is -61: its 32 bits are 0xFFFFFFC3."""
    assert fnv1a(b"\xc3") == (0x811C9DC5 ^ 0xFFFFFFC3) * 16_777_619 % 2**32 != (0x811C9DC5 ^ 0xC3) * 16_777_619 % 2**32


def test_the_parts_of_a_word_by_hand():
    """The example of Bojanowski et al. 2017, section 3.2, n = 3; characters, not bytes; what is twice is twice."""
    assert Subwords(3, 3).ngrams("where") == ["<wh", "whe", "her", "ere", "re>"]
    assert Subwords(3, 4).ngrams("äö") == ["<äö", "<äö>", "äö>"]
    assert Subwords(1, 2).ngrams("aa") == ["<a", "a", "aa", "a", "a>"]  # not the marks alone
    assert Subwords(5, 6).ngrams("ab") == []


@pytest.mark.parametrize("sizes", [(3, 6), (1, 3), (2, 2)])
def test_gensim_finds_the_same_buckets(sizes):
    fasttext = pytest.importorskip("gensim.models.fasttext")
    for word in ("where", "a", "naïve", "Straße", "日本語", "it's", "🙂x", "aaaa"):
        theirs = fasttext.ft_ngram_hashes(word, *sizes, 1000)
        assert sorted(Subwords(*sizes, 1000).buckets_of(word)) == sorted(int(number) for number in theirs)


@pytest.mark.parametrize("asked", ["6-3", "0-2", "3", "", "a-b", "3-", "-3-6", "3-6-9", "3-1000", "3,6", "1.5-2"])
def test_what_is_no_range_is_refused_in_one_line(asked):
    with pytest.raises(InputError, match="--subwords .* such as 3-6") as told:
        Subwords.of(asked, None)
    assert "\n" not in str(told.value)


def test_a_range_is_read():
    assert Subwords.of("3-6", None) == Subwords(3, 6, 2_000_000) and Subwords.of("2 - 2", 50) == Subwords(2, 2, 50)


def test_words_are_rows_of_their_own_and_of_their_buckets():
    subwords, words = Subwords(3, 3, 7), ["ab", "c", "abc"]  # of 7 buckets some are shared
    cut = cut_words(words, subwords)
    assert cut.buckets.tolist() == sorted({bucket for word in words for bucket in subwords.buckets_of(word)})
    for number, word in enumerate(words):
        own, *parts = cut.rows[cut.pointers[number] : cut.pointers[number + 1]].tolist()
        assert own == number
        assert [cut.buckets[row - len(words)] for row in parts] == subwords.buckets_of(word)
    with pytest.raises(InputError, match="--subwords 9-9: none of the 3 words has a part of so many characters"):
        cut_words(words, Subwords(9, 9))


# ---- vectors


def made(*, tokenizer=None) -> WordVectors:
    """cat and dog, and rows of the buckets of <ca, cat, at>."""
    subwords = Subwords(3, 3)
    buckets = np.sort(np.array(subwords.buckets_of("cat")))
    rows = dict(zip(subwords.buckets_of("cat"), np.eye(3, dtype=np.float32), strict=True))
    ngrams = NgramVectors(subwords, buckets, np.stack([rows[bucket] for bucket in buckets]))
    return WordVectors(["cat", "dog"], np.array([[1, 1, 0], [0, 0, -1]], dtype=np.float32), tokenizer, ngrams)


def test_a_word_that_was_never_met_is_the_mean_of_the_parts_that_are_known():
    words = made()
    np.testing.assert_allclose(words.compose("cattle"), [0.5, 0.5, 0])  # <ca, cat; att, ttl, tle, le> are not known
    np.testing.assert_allclose(words.direction("cattle"), [0.5**0.5, 0.5**0.5, 0], rtol=1e-6)
    np.testing.assert_allclose(words.direction("cat"), words.directions[0])  # its own, not composed
    assert [word for word, _ in words.nearest("cattle")] == ["cat", "dog"]  # and not without "cat", as of cat itself
    assert [word for word, _ in words.nearest("cat")] == ["dog"]
    assert words.compose("xyz") is None
    with pytest.raises(InputError, match="'xyz' is not among the 2 that have a vector, and none of its parts is known"):
        words.nearest("xyz")


def test_a_folder_keeps_the_parts_and_is_read_again(tmp_path):
    tokenizer = learn_words(["cat cat dog"], lowercase=True, min_count=1, most=None)
    words = made(tokenizer=tokenizer)
    write_words(words, tmp_path, recipe="word2vec")
    found = read_words(tmp_path)
    assert found.ngrams.subwords == words.ngrams.subwords
    np.testing.assert_array_equal(found.compose("CATTLE"), words.ngrams.compose("cattle"))
    texts = ["The cat, the CATTLE and the dog", "xyz", ""]
    np.testing.assert_allclose(found.encode(texts), [[0.5, 0.5, -1 / 3], [0, 0, 0], [0, 0, 0]], rtol=1e-6)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:50])
    with pytest.raises(InputError, match="subwords.safetensors cannot be read") as told:
        read_words(tmp_path)
    assert "\n" not in str(told.value)
