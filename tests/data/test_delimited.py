"""What .csv and .tsv files say, and that datasets reads them so."""

import bz2
import gzip
import lzma

import pandas
import pytest

from hf_replearn.data.delimited import look_through
from hf_replearn.data.sources import load_source
from hf_replearn.errors import InputError


@pytest.fixture
def read(tmp_path):
    """read(text or bytes, name) writes a file and gives the columns of the rows that are read from it."""

    def read(content, name="a.csv", **kwargs):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        rows = load_source(str(path), purpose="labels", **kwargs).splits["train"]
        return {name: list(rows[name]) for name in rows.column_names}

    return read


@pytest.fixture
def said(read):
    def said(content, name="a.csv"):
        with pytest.raises(InputError) as error:
            read(content, name)
        assert "\n" not in str(error.value) and name in str(error.value)
        return str(error.value)

    return said


# ---- what is read


@pytest.mark.parametrize(
    "separator, name", [(",", "a.csv"), (";", "a.csv"), ("\t", "a.csv"), ("\t", "a.tsv"), ("|", "a.csv")]
)
def test_the_separator_is_found(read, separator, name):
    rows = [("text", "label"), *((f"word {n}", str(n % 2)) for n in range(9))]
    assert read("".join(separator.join(row) + "\n" for row in rows), name) == {
        "text": [f"word {n}" for n in range(9)],
        "label": [n % 2 for n in range(9)],
    }


def test_texts_that_hold_another_separator(read):
    assert read("text;label\nHallo, Welt;1\nja, nein, vielleicht;0\n") == {
        "text": ["Hallo, Welt", "ja, nein, vielleicht"],
        "label": [1, 0],
    }
    assert read('text,label\n"a; b, c",x\n"d",y\n') == {"text": ["a; b, c", "d"], "label": ["x", "y"]}
    assert read("text\none\ntwo; three\n") == {"text": ["one", "two; three"]}


def test_words_for_nothing_are_words_and_only_an_empty_cell_is_nothing(read):
    words = ["None", "NA", "nan", "null", "N/A", "-", "NULL", "NaN", "<NA>", "True"]
    found = read("text,label\n" + "".join(f"{word},{word}\n" for word in words) + "x,\n")
    assert found == {"text": [*words, "x"], "label": [*words, None]}


def test_numbers_that_would_lose_something_stay_as_they_are_written(read):
    assert read("a,b,c,d,e,f\n01,1234567890123456789,1,1.5,,-3\n02,1,,2,,4\n") == {
        "a": ["01", "02"], "b": ["1234567890123456789", "1"], "c": [1, None], "d": [1.5, 2.0], "e": [None, None],
        "f": [-3, 4],
    }  # fmt: skip


def test_types_are_those_of_the_whole_file_and_of_all_splits(tmp_path):
    """pandas would decide after ten thousand rows, and fail at a word behind them."""
    (tmp_path / "train.csv").write_text("text,label\n" + "x,1\n" * 12_000 + "x,NA\n")
    (tmp_path / "test.csv").write_text("text,label\ny,2\n")
    splits = load_source(str(tmp_path), purpose="labels").splits
    assert set(splits["train"]["label"][:]) == {"1", "NA"} and splits["test"]["label"][:] == ["2"]


def test_quotes_between_tabs_as_pandas_writes_them(read):
    table = pandas.DataFrame({"text": ['he said "yes"', "two\nlines", "a\ttab", "plain"], "label": [0, 1, 1, 0]})
    assert read(table.to_csv(sep="\t", index=False), "a.tsv") == table.to_dict("list")


@pytest.mark.parametrize(
    "texts", [['"yes', "no", 'he said "yes"'], ['"Yes" is "no"', "no", "x"], ['a "b', 'c" d', "e"]]
)
def test_quotes_between_tabs_that_are_letters_as_in_glue(read, texts):
    rows = "".join(f"{text}\t{n}\n" for n, text in enumerate(texts))
    assert read(f"sentence\tlabel\n{rows}", "a.tsv") == {"sentence": texts, "label": [0, 1, 2]}


@pytest.mark.parametrize("pack, suffix", [(gzip.compress, "gz"), (bz2.compress, "bz2"), (lzma.compress, "xz")])
def test_packed_files(read, pack, suffix):
    assert read(pack(b"text,label\ncaf\xc3\xa9,1\n"), f"a.csv.{suffix}") == {"text": ["café"], "label": [1]}
    assert read(pack(b"text\tlabel\nx, y\t1\n"), f"a.tsv.{suffix}") == {"text": ["x, y"], "label": [1]}


def test_zst_is_read_or_names_the_package(read, said):
    try:
        import zstandard
    except ImportError:
        assert "pip install zstandard" in said(b"(\xb5/\xfd", "a.csv.zst")
    else:
        assert read(zstandard.compress(b"text,label\nx,1\n"), "a.csv.zst") == {"text": ["x"], "label": [1]}


def test_marks_and_ends_of_lines_and_spaces(read):
    wanted = {"text": ["a", "b"], "label": [0, 1]}
    for content in (
        "\ufefftext,label\na,0\nb,1\n",
        "text,label\r\na,0\r\nb,1",
        "text, label\na, 0\nb, 1\n",
        "text,label\n\na,0\n\nb,1\n",
    ):
        assert read(content) == wanted
    assert read(",text\n0,a\n1,b\n") == {"Unnamed: 0": [0, 1], "text": ["a", "b"]}  # an index, as pandas writes it


def test_a_header_alone_has_no_rows(said):
    assert "no rows" in said("text,label\n")


# ---- what is refused


@pytest.mark.parametrize(
    "content",
    [
        "gj04\t1\t\tThe sailors rode the breeze clear.\ngj05\t0\t*\tThe car honked.\n",  # CoLA
        "ham\tGo until\nspam\tFree\nham\tOk\n",  # the SMS collection
    ],
)
def test_a_first_row_that_is_data_is_not_eaten(said, content):
    assert "looks like data" in said(content, "train.tsv")


@pytest.mark.parametrize(
    "content", ["3,Wall Street,rises\n4,x,y\n", "It was a fine day.,good\nno,bad\n", "w" * 200 + ",x\na,b\n"]
)
def test_a_first_row_of_numbers_or_sentences_is_not_eaten(said, content):
    assert "looks like data" in said(content)


def test_the_line_of_excel_is_no_header(said):
    assert "'sep=;'" in said("sep=;\ntext;label\none;a\ntwo;b\n")


def test_two_separators(said):
    message = said("a,b;c\nx,y;z\nu,v;w\n")
    assert "a comma" in message and "a semicolon" in message
    assert "a comma" in said("text,label\na,1\nb,2\n", "a.tsv")


def test_a_damaged_row_is_named(said):
    assert "line 3" in said("text,label\na,0\nb, c,1\n")
    assert "line 2" in said('text,label\n"a" b,0\nc,1\n') and "quote" in said('text,label\n"a\nc,1\n')
    assert "'text'" in said("text,text\na,b\n")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_other_encodings_are_named_with_the_byte(said, name):
    pack = gzip.compress if name.endswith(".gz") else bytes
    separator = "\t" if "tsv" in name else ","
    content = (
        f"text{separator}label\nx{separator}1\ncaf\xe9{separator}0\n" if "json" not in name else '{"text": "\xe9"}\n'
    )
    place = content.index("\xe9")
    message = said(pack(content.encode("latin-1")), name)
    assert f"byte 0xe9 at {place:,}" in message and "iconv -f latin1" in message
    assert "utf-16" in said(pack(content.encode("utf-16")), name)
    assert "utf-16le" in said(pack(content.encode("utf-16le")), name)


def test_the_byte_is_found_behind_the_first_megabytes(said):
    content = b"text,label\n" + b"caf\xc3\xa9,1\n" * 400_000
    assert f"byte 0xff at {len(content):,}" in said(content + b"\xff,1\n")


def test_damaged_packed_and_json_files(said):
    assert "cannot be read" in said(gzip.compress(b"text,label\n" + bytes(range(97, 120)) * 1000)[:-20], "a.csv.gz")
    assert "cannot be read" in said(b"text,label\nx,1\n", "a.csv.gz")
    message = said(b'{"text": "a"}\n{"text": \n', "a.jsonl")
    assert "line 2" in message and "byte 14" in message
    assert "is empty" in said(b"")


def test_files_of_one_split_with_other_columns_or_separators(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,1\n")
    (tmp_path / "b.csv").write_text("label,title\n1,y\n")
    with pytest.raises(InputError, match="title.*--files"):
        load_source(str(tmp_path), purpose="labels")
    (tmp_path / "b.csv").write_text("label,text\n1,y\n")
    rows = load_source(str(tmp_path), purpose="labels").splits["train"]
    assert rows.to_dict() == {"text": ["x", "y"], "label": [1, 1]}
    (tmp_path / "b.csv").write_text("label;text\n1;y\n")
    with pytest.raises(InputError, match="divide"):
        load_source(str(tmp_path), purpose="labels")


def test_only_the_head_of_a_stream_is_looked_at(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n" + "some words,1\n" * 100_000)
    assert look_through(str(path)).types == ("string", "int64")
    assert look_through(str(path), most=1 << 16).types == ("string", "string")
