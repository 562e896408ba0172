"""README.md belongs to whoever writes in it: what was written by hand stays, through scores, reruns and pushes."""

import pytest
import yaml
from huggingface_hub import ModelCard, metadata_load

from hf_replearn.errors import InputError
from hf_replearn.sharing.card import extend_card, extendable, write_card
from hf_replearn.sharing.metadata import check_metadata
from hf_replearn.sharing.readme import BEGIN, END, edited_elsewhere, parts, read_readme
from hf_replearn.sharing.report import Report

BY_HAND = "\nWritten by hand: not for medical text. `a` < b & c\n"


@pytest.fixture
def folder(report, tmp_path):
    """What a run leaves, the card included."""
    report.save(tmp_path)
    write_card(report, tmp_path)
    return tmp_path


def edit(folder, old, new):
    path = folder / "README.md"
    text = path.read_bytes().decode()
    assert text.count(old) >= 1
    path.write_bytes(text.replace(old, new, 1).encode())


SCORES = {"SimCLR": {"finetune_sst2@1%": 0.75}}, {"finetune_sst2": "Accuracy on sst2."}


def add_scores(folder, value=0.75):
    extend_card(folder, {"SimCLR": {"finetune_sst2@1%": value}}, protocols=SCORES[1])
    return (folder / "README.md").read_bytes().decode()


def test_the_same_report_gives_the_same_card(folder, report):
    first = (folder / "README.md").read_text()
    write_card(report, folder)
    assert (folder / "README.md").read_text() == first
    assert first.count(BEGIN) == first.count(END) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("---\n", "---\nlicense: mit  # my choice\n"),
        (END + "\n", f"{END}\n{BY_HAND}"),  # below ours
        (BEGIN, f"# A title of mine\n{BY_HAND}\n{BEGIN}"),  # above ours
        ("## Data\n", f"## Uses\n{BY_HAND}\n## Data\n"),  # a part more between ours
        ("## Limits\n", f"## Limits\n{BY_HAND}"),  # within a part of ours
        ("resnet10t by SimCLR on digits", "The network of my thesis"),
        ("- simclr\n", "- simclr\n- thesis\n"),
        ("library_name: timm", "library_name: mine"),
    ],
)
def test_what_was_written_by_hand_stays_while_scores_come_in(folder, old, new):
    edit(folder, old, new)
    text = add_scores(folder)
    assert new in text and "### sst2" in text and "0.750" in text
    assert text.count("## Limits") == text.count(BEGIN) == 1
    assert new in add_scores(folder, 0.8) and "0.800" in (folder / "README.md").read_text()


def test_what_was_taken_out_by_hand_stays_out(folder):
    edit(folder, "tags:\n- hf_replearn\n- representation-learning\n- simclr\n", "")
    text = (folder / "README.md").read_text()
    edit(folder, text[text.index("## Citation") : text.index("<!-- hf_replearn: written")], "")
    text = add_scores(folder)
    assert "## Citation" not in text and "tags" not in metadata_load(folder / "README.md") and "0.750" in text


def test_a_part_that_was_edited_is_said_to_stay_as_it_is(folder, capsys):
    edit(folder, "## Scores\n", f"## Scores\n{BY_HAND}")
    text = add_scores(folder)
    assert BY_HAND in text and "### sst2" not in text
    assert "written by hand, and so left as it is: the part 'Scores'" in capsys.readouterr().out
    assert metadata_load(folder / "README.md")["model-index"][0]["results"][1]["dataset"]["name"] == "sst2"


def test_windows_line_ends_stay(folder):
    path = folder / "README.md"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n") + b"\r\nBy hand.\r\n")
    text = add_scores(folder)
    assert text.count("\n") == text.count("\r\n") and text.endswith("\r\nBy hand.\r\n") and "### sst2" in text


def test_a_readme_that_was_there_before_the_run_is_kept_whole(report, tmp_path, capsys):
    (tmp_path / "README.md").write_text("My notes, without front matter.\n")
    report.save(tmp_path)
    write_card(report, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "My notes, without front matter.\n\n" + BEGIN in text
    assert ModelCard(text).data.library_name == "timm" and "what was there is kept" in capsys.readouterr().out
    assert add_scores(tmp_path).count("My notes") == 1


def test_front_matter_that_was_there_before_keeps_its_comments_and_order(report, tmp_path):
    front = "# of the lab\nlicense: cc-by-4.0 # see LICENSE\nextra:\n  - a: 1\n\n# more\ntags: [mine]\n"
    (tmp_path / "README.md").write_text(f"---\n{front}---\nText.\n")
    report.save(tmp_path)
    write_card(report, tmp_path)
    assert (tmp_path / "README.md").read_text().startswith(f"---\n{front}library_name: timm\n")
    assert add_scores(tmp_path).startswith(f"---\n{front}library_name: timm\n")
    assert "cc-by-4.0.\n" in (tmp_path / "README.md").read_text()  # the part License says what stands above


def test_without_marks_nothing_is_lost(folder):
    """They were deleted by hand, or the card is of an older version."""
    edit(folder, BEGIN, "")
    edit(folder, END, "")
    before = (folder / "README.md").read_text().partition("---\n\n")[2]
    text = add_scores(folder)
    assert before.strip() in text and text.count(BEGIN) == text.count(END) == 1 and "0.750" in text


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("library_name: timm", "library_name: [timm"), "front matter is not YAML"),
        (lambda text: text.replace("\n---\n", "\n", 1), "front matter has no end"),
        (lambda text: text.replace(END, ""), f"1 lines {BEGIN} and 0 lines {END}"),
        (lambda text: text + f"\n{BEGIN}\n", f"2 lines {BEGIN}"),
        (lambda text: "---\n- a\n- b\n---\n" + text, "must hold `key: value` lines"),
        (lambda text: "---\n{license: mit}\n---\n", "without braces"),
        (lambda text: "---\nlicense: mit\nlicense: gpl\n---\n", "a key twice"),
        (lambda text: "---\na: &x [1]\nb: *x\n---\n", "references"),
        (lambda text: "---\na: 2026-99-99\n---\n", "cannot be read"),
        (lambda text: text.encode("utf-16"), "is not UTF-8"),
    ],
)
def test_what_cannot_be_written_into_is_refused_before_anything_is_computed(folder, damage, message):
    path = folder / "README.md"
    damaged = damage(path.read_text())
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode())
    before = path.read_bytes()
    with pytest.raises(InputError) as error:
        extendable(folder)
    assert message in str(error.value) and len(str(error.value).splitlines()) == 1 and str(path) in str(error.value)
    extend_card(
        folder, SCORES[0], protocols=SCORES[1]
    )  # what was damaged while scores were measured: they are saved, and a word is said
    assert path.read_bytes() == before
    assert Report.load(folder).rows["SimCLR"]["finetune_sst2@1%"] == 0.75


def test_a_license_that_was_given_once_stays(folder, report):
    """As of a push with --license, and scores added after it."""
    report.settings["license"] = "mit"
    write_card(report, folder)
    assert metadata_load(folder / "README.md")["license"] == "mit"
    del report.settings["license"]
    write_card(report, folder)
    assert metadata_load(folder / "README.md")["license"] == "mit"


def test_what_is_given_and_what_was_written_by_hand_must_not_differ(folder, report):
    edit(folder, "---\n", "---\nlicense: mit\n")
    check_metadata({"license": "mit"}, read_readme(folder))
    with pytest.raises(InputError, match="--license gpl-3.0: README.md says license: mit, written by hand"):
        check_metadata({"license": "gpl-3.0"}, read_readme(folder))
    report.settings["license"] = "gpl-3.0"
    write_card(report, folder)
    assert metadata_load(folder / "README.md")["license"] == "mit"


def test_what_was_taken_out_comes_back_when_it_is_asked_for(folder, report):
    report.settings["license"] = "mit"
    write_card(report, folder)
    edit(folder, "license: mit\n", "")
    write_card(report, folder)
    assert "license" not in metadata_load(folder / "README.md")
    write_card(report, folder, given=["license"])
    assert metadata_load(folder / "README.md")["license"] == "mit"


def test_samples_that_look_like_marks_are_none(report, tmp_path):
    report.samples = f"x\n{END}\n{BEGIN}\n## Limits"
    report.save(tmp_path)
    write_card(report, tmp_path)
    assert add_scores(tmp_path).count(f"\n{END}\n") == 1


def test_parts_begin_with_headings_outside_of_code():
    text = "a\n## b\n```\n## no\n````\n~~~\n```\n~~~\n## c\n"
    assert parts(text) == [("", "a\n"), ("## b", "## b\n```\n## no\n````\n~~~\n```\n~~~\n"), ("## c", "## c\n")]


def test_every_card_is_front_matter_that_the_hub_reads(folder):
    front = (folder / "README.md").read_text().split("---\n")[1]
    assert list(yaml.safe_load(front)) == ["library_name", "pipeline_tag", "tags", "model-index"]


# ---- the copy on the Hub


def test_what_was_edited_in_a_copy_is_known_and_an_older_copy_is_no_edit(folder, tmp_path_factory):
    edit(folder, END + "\n", f"{END}\n{BY_HAND}")
    add_scores(folder)
    copy = tmp_path_factory.mktemp("copy")
    (copy / "README.md").write_bytes((folder / "README.md").read_bytes())
    edit(folder, BY_HAND, "")
    add_scores(folder, 0.8)
    assert edited_elsewhere(copy, folder) == []  # as we pushed it; what was taken out here since may go there too
    edit(copy, "---\n", "---\nlicense: mit\n")
    edit(copy, "## Limits\n", "## Limits\n\nA limit more.\n")
    lacking = edited_elsewhere(copy, folder)
    assert lacking[0] == "license: mit" and "A limit more." in lacking
    (folder / "README.md").write_bytes((copy / "README.md").read_bytes())
    add_scores(folder, 0.9)
    assert edited_elsewhere(copy, folder) == []


def test_a_copy_that_is_not_ours_is_written_by_hand(folder, tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/README.md").write_text("---\nlicense: mit\n---\n")
    assert edited_elsewhere(tmp_path / "copy", folder) == ["license: mit"]
