"""The page: self-contained, escaped, well formed, and where a Chromium is installed, opened, sorted and looked for
complaints."""

import dataclasses
import html.parser
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from hf_replearn.cli import main as hf_replearn
from hf_replearn.errors import InputError
from hf_replearn.sharing import figures
from hf_replearn.sharing.card import card
from hf_replearn.sharing.page import write_comparison, write_page
from hf_replearn.sharing.report import Evaluation, Task, load

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 191 }}"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DIFFERENCE = {"difference": -0.2, "ci95": 0.1, "p": 0.01}
VOID = {"meta", "link", "img", "br", "circle"}  # and rect and path, unless they have a title


class Tags(html.parser.HTMLParser):
    """Fails where tags do not nest, ids come twice or links within the page lead nowhere; collects attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.targets, self.attributes, self.names = [], set(), set(), [], []
        self.feed(text)
        assert self.open == [] and self.targets <= self.ids

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        found = dict(attributes)
        if "id" in found:
            assert found["id"] not in self.ids
            self.ids.add(found["id"])
        for name in ("aria-labelledby", "href"):
            if name == "aria-labelledby" and name in found or found.get(name, "").startswith("#"):
                self.targets.add(found[name].lstrip("#"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        assert tag in ("rect", "path", "circle")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def evaluation():
    rows = ["ours", "raw pixels", HOSTILE]
    example = {"text": HOSTILE, "label": HOSTILE}
    picture = {"image": "data:image/png;base64,AAAA", "label": "b"}
    return Evaluation(
        task=Task(name="toy", unit="image", train=40, test=20, classes=["a", HOSTILE], held_out="split `test`"),
        encoders={row: {"from": HOSTILE, "features": "8"} for row in rows},
        command=f"hf-replearn evaluate --model {HOSTILE}",
        settings={"note": HOSTILE},
        rows={
            row: {"k_shot@1": value, "k_shot@1_ci95": 0.01, "k_shot@4": value + 0.2, "knn@20": value, "map": None}
            for row, value in zip(rows, (0.5, 0.3, 0.7), strict=True)
        },
        properties={row: {"rankme": 3.0} for row in rows},
        protocols={name: f"{name} {HOSTILE}" for name in ("k_shot", "knn", "map", "rankme")},
        comparisons=[
            {"metric": "knn@20", "other": row, "difference": -0.2, "ci95": 0.1, "p": 0.01} for row in rows[1:]
        ],
        maps={"labels": [0, 1], "PCA": {row: [[0, 1000], [10, 20]] for row in rows}, "t-SNE": {}},
        neighbours={"queries": [example, picture]} | {row: [[example], [picture]] for row in rows},
        top_features={row: [{"feature": 5, "selectivity": 0.5, "examples": [example, picture]}] for row in rows},
        confusion={row: [[3, 1], [0, 4]] for row in rows},
        layers={row: {"linear": [0.1, 0.2]} for row in rows},
    )


@pytest.fixture
def pages(report, evaluation, tmp_path):
    """The folder of a run, with a log, that of an evaluation, and the page that compares both."""
    run, judged = tmp_path / "run", tmp_path / "judged"
    example = {"image": "data:image/png;base64,AAAA", "label": HOSTILE}
    report.neighbours = {"queries": [example]} | {row: [[example, example]] for row in ("SimCLR", "random weights")}
    guesses = [{"token": HOSTILE, "chance": 0.75}, {"token": "cat", "chance": 0.001}]
    report.said = [
        {"before": f"A {HOSTILE} ", "mask": "[MASK]", "after": " sat.", "hidden": "cat", "guesses": guesses},
        {"before": "A ", "mask": "[MASK]", "after": "s.", "guesses": guesses},
    ]
    for folder, facts in ((run, report), (judged, evaluation)):
        folder.mkdir()
        facts.save(folder)
    log = [{"step": step, "loss": 3.0 / step, "note": HOSTILE} for step in range(1, 30)]
    scores = {"rankme": 9.0, "relative_alignment": 0.9, "uniformity": -0.5, "alignment": 0.2, "sample_spread": 0.5}
    log += [{"step": step, "knn@20": step / 40, **scores} for step in (0, 10, 20)]
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    return [write_page(run), write_page(judged), write_comparison([run, judged], tmp_path / "comparison.html")]


def test_an_evaluation_survives_its_file(evaluation, tmp_path):
    evaluation.save(tmp_path)
    assert load(tmp_path) == evaluation
    with pytest.raises(InputError, match="no report.json"):
        load(tmp_path / "nothing")


def test_pages_are_well_formed_and_ask_for_nothing(pages):
    for page in pages:
        text = page.read_text(encoding="utf-8")
        tags = Tags(text)
        for tag, name, value in tags.attributes:
            if name in ("src", "href", "xlink:href", "action", "data", "srcset"):
                assert value.startswith(("data:", "#")), (tag, name, value)
            assert not name.startswith("on")
        assert "url(" not in text and "@import" not in text
        assert tags.names.count("script") == 1  # the page's own, though data has others
        assert "1337" not in text  # and is no template


def test_a_run_shows_whether_it_learns_its_neighbours_and_what_it_says(pages):
    run, _, comparison = (page.read_text(encoding="utf-8") for page in pages)
    assert "accuracy of nearest neighbours 0 → 0.5; two views of an image 0.9 → 0.9 times as far apart" in run
    assert "(before training → step 20, a fixed sample)" in run
    assert run.count('<h2 id="neighbours">') == 1 and "The examples most similar" in run
    assert "<mark>cat</mark> sat." in run and '<mark class="open">?</mark>s.' in run
    assert '<path d="M0,4H75.0"/>' in run and "&lt; 1 %" in run and run.count('<li class="told">') == 1
    assert "RankMe, how many directions" in run and "Do they learn?" in comparison


def test_a_run_that_does_not_learn_says_so(report, tmp_path):
    report.save(tmp_path)
    scores = {"rankme": 30.0, "relative_alignment": 0.9, "uniformity": -1.0, "sample_spread": 0.5}
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps({"step": step, **scores}) for step in range(0, 6)))
    assert "No sign of learning in 5 scores" in write_page(tmp_path).read_text()


def test_what_a_text_goes_on_with_and_images_without_classes_are_shown(report, tmp_path):
    report.said, report.samples = [{"before": "Once <b>", "goes_on": "upon a time"}], "the same as text"
    example = {"image": "data:image/png;base64,AAAA", "label": ""}
    report.neighbours = {"queries": [example], "SimCLR": [[example]]}
    report.save(tmp_path)
    text = write_page(tmp_path).read_text()
    Tags(text)
    assert '<strong>Once &lt;b&gt;</strong> <span class="made">upon a time</span>' in text
    assert "the same as text" not in text and "✗" not in text and ">Query 1</h3>" in text


@pytest.mark.parametrize(("spread", "collapsed"), [(0.001, True), (0.9, False)])
def test_a_collapsed_representation_is_shown(spread, collapsed, report, tmp_path):
    training = dataclasses.replace(report.training, spread=spread, collapsed=collapsed)
    dataclasses.replace(report, training=training).save(tmp_path)
    page = write_page(tmp_path).read_text()
    assert ("collapsed: every input has nearly the same features" in page) == collapsed
    assert ("has collapsed" in card(load(tmp_path), tmp_path)) == collapsed


def test_figures_and_tables_are_named_for_those_who_do_not_see_them(pages):
    for page in pages:
        text = page.read_text(encoding="utf-8")
        pictures = re.findall(r"<svg[^>]*>", text)
        assert pictures and all('role="img" aria-label="' in p or 'aria-hidden="true"' in p for p in pictures)
        assert all(re.search(r' alt="[^"]+"', image) for image in re.findall(r"<img[^>]*>", text))
        assert text.count('<th scope="col"') == text.count('<button type="button">')


def test_the_page_shows_what_the_report_holds(pages):
    run, judged, _ = (page.read_text(encoding="utf-8") for page in pages)
    assert "<strong>0.781</strong> <small>± 0.012</small>" in run and "loss" in run and "2 CPU cores" in run
    assert "<strong>0.700</strong> <small>± 0.010</small>" in judged
    assert "<strong>−0.200</strong> <small>± 0.100</small>" in judged


def test_only_scores_of_one_protocol_share_a_column(report, tmp_path):
    """Two runs that measured alike share all columns; a run whose kNN was another has one of its own."""
    other = dataclasses.replace(report, protocols=report.protocols | {"knn": "Euclidean distance."})
    for name, facts in (("a", report), ("b", report), ("c", other)):
        (tmp_path / name).mkdir()
        facts.save(tmp_path / name)

    def heads(*names):
        page = write_comparison([tmp_path / name for name in names], tmp_path / "page.html")
        return re.findall(r"<button type=\"button\">([^<]*)</button>", page.read_text(encoding="utf-8"))

    assert heads("a", "b").count("20 neighbours") == 1 and "20 neighbours (protocol 2)" not in heads("a", "b")
    assert [heads("a", "c").count(name) for name in ("20 neighbours", "20 neighbours (protocol 2)")] == [1, 1]
    with pytest.raises(InputError, match="at least two"):
        heads("a")


def test_a_task_is_not_filed_under_the_data_of_pretraining(report, tmp_path):
    report.rows["SimCLR"]["finetune_sst2@1%"], report.protocols["finetune_sst2"] = 0.6, "Accuracy on SST-2."
    for name in "ab":
        (tmp_path / name).mkdir()
        report.save(tmp_path / name)
    text = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html").read_text(encoding="utf-8")
    assert ">Fine-tuned: sst2</h3>" in text and "Fine-tuned: digits" not in text and "Accuracy on SST-2." in text


def test_other_data_is_another_table(report, tmp_path):
    for name, test in (("a", 360), ("b", 100)):
        (tmp_path / name).mkdir()
        dataclasses.replace(report, data=dataclasses.replace(report.data, test=test)).save(tmp_path / name)
    text = write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Few labels: digits, 360 test examples" in text and "Few labels: digits, 100 test examples" in text


def test_a_score_that_could_not_be_measured_is_a_dash_with_its_reason(evaluation, tmp_path):
    evaluation.missing = {"raw pixels": {"map": "all labels <differ>"}}
    evaluation.save(tmp_path)
    assert '<abbr title="all labels &lt;differ&gt;">–</abbr>' in write_page(tmp_path).read_text()


def test_backticks_and_maps_of_maps_are_not_shown(evaluation, tmp_path):
    evaluation.maps["PCA"]["PCA of pixels"] = [[0, 1], [2, 3]]
    evaluation.maps["t-SNE"]["PCA of pixels"] = [[0, 1], [2, 3]]
    evaluation.save(tmp_path)
    text = write_page(tmp_path).read_text()
    assert "split test" in text and "`" not in text.partition("<script>")[0]
    assert "t-SNE of PCA of pixels: 2" in text and "PCA of PCA" not in text


def test_pictures_of_a_run_are_in_its_page(report, tmp_path):
    report.figures = {"augmentations.png": "Views of one image.", "gone.png": "Gone.", "curves.png": "Loss."}
    for name in ("augmentations.png", "curves.png"):
        (tmp_path / name).write_bytes(b"picture")
    report.save(tmp_path)
    text = write_page(tmp_path).read_text()
    assert 'src="data:image/png;base64,cGljdHVyZQ==" alt="Views of one image."' in text
    assert "Gone." not in text and text.count("<img") == 1  # the loss is drawn by the page itself


def test_losses_stand_in_one_table_only_where_the_tokens_are_the_same(report, tmp_path):
    for name, losses in (
        ("a", {"this model": 3.5, "token frequencies": 6.0}),
        ("b", {"this model": 3.25, "token frequencies": 6.0}),
        ("c", {"this model": 1.0, "token frequencies": 2.0}),  # of another tokenizer
    ):
        (tmp_path / name).mkdir()
        training = dataclasses.replace(report.training, held_out=losses)
        dataclasses.replace(report, training=training, rows={}, protocols={}).save(tmp_path / name)
    text = write_comparison([tmp_path / name for name in "abc"], tmp_path / "page.html").read_text()
    first, second = re.findall(r">Held-out text: digits.*?</table>", text, flags=re.DOTALL)
    assert re.findall(r'<th scope="row">([^<]*)</th>', first) == ["a: this model", "b: this model", "token frequencies"]
    assert "<strong>3.250</strong>" in first and "<strong>25.8</strong>" in first and "403.4" in first  # exp
    assert "c: this model" in second and "c: this model" not in first


SETTINGS = {"model": "/home/jane/out/mine", "dataset": "reviews.csv", "mode": "full"}
FINETUNED = {
    "runs": [
        {"row": row, "label_fraction": share, "seed": seed, "labels": 5, "scores": {"f1": value, "f1 layer 0": 0.25}}
        for row, value in (("mine", 0.75), ("TF-IDF", 0.5))
        for share in (0.5, 1.0)
        for seed in (1, 2, 3)
    ],
    "names": {"f1": "finetune_reviews"},
    "protocols": {"finetune_reviews": "F1 of the class 'good' on 16 examples."},
    "settings": SETTINGS,
    "versions": {"hf_replearn": "1"},
}
PROMPTED = {
    "settings": {"model": "gpt2"},
    "model": {"name": "/home/jane/gpt2"},
    "tasks": {
        "copa": {
            "summary": {
                "copa": {
                    "acc": {"0": {"mean": 0.5}, "4": {"mean": 0.625, "mean_ci95": 0.125}},
                    "perplexity": {"0": {"mean": 9}},
                },
                "copa, linear probe": {"acc": {"4": {"mean": None}}},
            },
            "runs": [{"documents": [{}, {}]}],
        }
    },
    "versions": {"hf_replearn": "1"},
}


@pytest.fixture
def folders(tmp_path):
    for name, content in (("finetuned/scores.json", FINETUNED), ("prompted/results.json", PROMPTED)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path / "finetuned", tmp_path / "prompted"


def test_what_finetune_and_prompt_left_has_a_page_too(folders, tmp_path):
    tuned, prompted = (write_page(folder).read_text() for folder in folders)
    Tags(tuned), Tags(prompted)
    assert "mine on reviews.csv, fine-tuned" in tuned and "F1 of the class &#39;good&#39;, 50 % of labels" in tuned
    assert "<strong>0.750</strong>" in tuned and "0.250" not in tuned  # a layer's score stands in its chart
    assert "F1 of the class &#39;good&#39;, fine-tuned, 50 % of the labels" in tuned and ">layer</text>" in tuned
    assert "gpt2, prompted" in prompted and "copa (2 documents)" in prompted and "perplexity" not in prompted
    assert "0.625" in prompted and "± 0.125" in prompted and "acc, 0 examples" in prompted
    assert ">examples in the prompt</text>" in prompted  # the curve has a place for K = 0
    joint = write_comparison(folders, tmp_path / "page.html").read_text()
    assert "finetuned: mine" in joint and "prompted: gpt2" in joint and "Prompted: copa" in joint


@pytest.mark.parametrize(
    ("place", "name", "content"),
    [
        (0, "scores.json", "{}"),
        (0, "scores.json", "[]"),
        (0, "scores.json", ""),
        (0, "scores.json", json.dumps(FINETUNED | {"runs": [{"row": "a"}]})),
        (
            0,
            "scores.json",
            json.dumps(FINETUNED | {"runs": [{"row": 1, "label_fraction": "x", "scores": {"f1": "y"}}]}),
        ),
        (1, "results.json", json.dumps(PROMPTED | {"tasks": {"copa": {"summary": {}}}})),
        (1, "results.json", json.dumps(PROMPTED | {"tasks": 3})),
    ],
)
def test_damaged_scores_are_one_line(folders, place, name, content):
    (folders[place] / name).write_text(content)
    with pytest.raises(InputError) as error:
        write_page(folders[place])
    assert name in str(error.value) and len(str(error.value).splitlines()) == 1


def test_the_command_says_what_it_wants_and_overwrites_only_pages(folders, pages, tmp_path, capsys):
    def report(*words):
        try:
            hf_replearn(["report", *map(str, words)])
        except SystemExit as end:
            assert end.code == 2
        return capsys.readouterr()

    assert "give at least one folder that pretraining" in report().err
    assert "is no folder: give what pretraining" in report(tmp_path / "nothing").err
    assert "has no report.json, scores.json or results.json" in report(tmp_path).err
    chosen = tmp_path / "x" / "chosen.html"
    assert str(chosen) in report(folders[0], "--output", chosen).out and chosen.exists()
    assert report(folders[0], folders[1], pages[0].parent, "--output", chosen).out
    (tmp_path / "notes.txt").write_text("mine")
    assert "is there and no page" in report(folders[0], "--output", tmp_path / "notes.txt").err
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "cannot be written" in report(folders[0], "--output", tmp_path).err


def test_a_log_that_a_full_disk_cut_is_read_as_far_as_it_goes(report, tmp_path, capsys):
    report.save(tmp_path)
    lines = [{"step": 1, "loss": 2.0}, {"step": "x", "loss": 1}, {"step": 2, "loss": "high"}, {"step": 3, "loss": 1.0}]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 4, "lo\n[1]\n' + "[" * 10**5
    (tmp_path / "log.jsonl").write_text(text)
    assert 'aria-label="loss over step: SimCLR from 2 to 1"' in write_page(tmp_path).read_text()
    assert "4 damaged lines left out" in capsys.readouterr().err
    (tmp_path / "log.jsonl").write_text("")
    write_page(tmp_path)


# ---- figures


def test_a_line_goes_through_its_points():
    chart = figures.line_chart({"a": [(1, 0.0, 0), (2, 0.5, 0), (4, 1.0, 0.0)]}, x="k", y="accuracy", log=True)
    points = [tuple(map(float, p)) for p in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart)]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2)
    assert y0 == figures.HEIGHT - figures.BOTTOM and y2 == figures.TOP  # 0 and 1 are the ends of the axis
    assert figures.line_chart({"a": [(1, None, 0), (2, float("nan"), 0)]}, x="k", y="accuracy") is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.31, 0.33), (-5, 1e6), (3, 3), (1e-9, 2e-9)])
def test_ticks_are_round_and_enclose(low, high):
    ticks = figures.round_ticks(low, high)
    assert ticks[0] <= low and ticks[-1] >= high - 1e-12 and 2 <= len(ticks) <= 9
    steps = np.diff(ticks)
    assert steps == pytest.approx(steps[0], rel=1e-3)


def test_points_keep_their_shape():
    points = np.array([[0.0, 0.0], [4.0, 1.0], [2.0, 0.5]])
    assert figures.whole_numbers(points) == [[0, 375], [1000, 625], [500, 500]]


# ---- in a browser


def browse(page, folder, *, append=""):
    """The DOM of a page with a script appended, and what it complained about."""
    text = page.read_text(encoding="utf-8")
    if append:
        text = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", f"<script>{append}</script></body>")
    copy = folder / "opened.html"
    copy.write_text(text, encoding="utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    command += [f"--user-data-dir={folder / 'profile'}", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_pages_open_without_complaints(pages, tmp_path):
    """A request that the policy forbids, or a script that fails, would be a complaint."""
    for page in pages:
        dom, complaints = browse(page, tmp_path)
        assert complaints == [] and "<h1>" in dom


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_policy_stops_other_scripts(pages, tmp_path):
    page = pages[0]
    page.write_text(page.read_text().replace("</body>", "<script>document.title='taken over'</script></body>"))
    dom, complaints = browse(page, tmp_path)
    assert "<title>taken over" not in dom and "Content Security Policy" in complaints[0]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_tables_sort_by_name_and_number_both_ways_and_put_missing_values_last(pages, tmp_path):
    script = """
    const second = (t) => t.tHead?.rows[0].cells[1].textContent;
    const table = [...document.querySelectorAll("table")].find((t) => second(t)?.startsWith("20 neighbours"));
    const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent).join(",");
    const states = [];
    for (const column of [1, 1, 2, 2, 0]) {
      table.tHead.rows[0].cells[column].querySelector("button").click();
      states.push(names() + "=" + table.tHead.rows[0].cells[column].ariaSort);
    }
    document.title = states.join(";");
    """
    dom, complaints = browse(pages[0], tmp_path, append=script)
    assert complaints == []
    assert re.search("<title>(.*?)</title>", dom)[1].split(";") == [
        "raw pixels,SimCLR,random weights=descending",  # knn 0.95, 0.9, 0.5
        "random weights,SimCLR,raw pixels=ascending",
        "SimCLR,raw pixels,random weights=descending",  # linear 0.9501, 0.9499, none
        "raw pixels,SimCLR,random weights=ascending",
        "random weights,raw pixels,SimCLR=ascending",  # as a reader would sort names
    ]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_but_tables_scrolls_sideways(pages, tmp_path, width):
    """At the width of a phone and of a screen: measured in a frame, since a window has a least width."""
    script = f"""
    const frame = document.createElement("iframe");
    frame.style.cssText = "width:{width}px;height:800px;border:0";
    frame.srcdoc = document.documentElement.outerHTML.replace(/<script>[^]*?<\\/script>/g, "");
    frame.onload = () => {{
      const page = frame.contentDocument.documentElement;
      document.title = page.scrollWidth + "/" + page.clientWidth;
    }};
    document.body.append(frame);
    """
    for page in pages:
        dom, _ = browse(page, tmp_path, append=script)
        inner, outer = map(int, re.search(r"<title>(\d+)/(\d+)</title>", dom).groups())
        assert inner <= outer <= width  # a scroll bar may take a part


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_no_word_is_too_small_and_no_few_labels_are_cut_off(evaluation, tmp_path):
    """On a screen of 1,280 pixels: seven numbers of labels fit, and confused classes can be read (11 px)."""
    shots = {f"k_shot@{2**power}": 0.5 for power in range(7)}
    evaluation.rows = {row: shots | {f"{name}_ci95": 0.01 for name in shots} for row in evaluation.rows}
    evaluation.task.classes = [f"class {number}" for number in range(10)]
    evaluation.confusion = {row: [[5] * 10] * 10 for row in evaluation.rows}
    evaluation.save(tmp_path)
    script = """
    const frame = document.createElement("iframe");
    frame.style.cssText = "width:1280px;height:800px;border:0";
    frame.srcdoc = document.documentElement.outerHTML.replace(/<script>[^]*?<\\/script>/g, "");
    frame.onload = () => {
      const page = frame.contentDocument;
      const cut = [...page.querySelectorAll(".wide")].filter((t) => t.scrollWidth > t.clientWidth);
      const sizes = [...page.querySelectorAll("svg.matrix")].map((svg) => 16 * svg.getBoundingClientRect().width / 584);
      document.title = cut.map((t) => t.getAttribute("aria-labelledby")) + "/" + Math.min(...sizes);
    };
    document.body.append(frame);
    """
    dom, _ = browse(write_page(tmp_path), tmp_path, append=script)
    cut, size = re.search(r"<title>([^<]*)/([\d.]+)</title>", dom).groups()
    assert cut == "" and float(size) >= 11
