"""The report: one file that holds what the records say, escapes it, and leads back to it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import sys
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import comparison_world
import numpy as np
import pytest
from command_line import rsbench
from records_factory import make_predictions, make_record, some_hits
from report_world import BREAKOUT, CLASSES, SCRIPT_NAME, make_world, save_run
from sklearn.metrics import average_precision_score, confusion_matrix
from test_beside import measure
from test_comparison import _labels_and_scores
from test_comparison_averages import SUITE, _save

from rsbench.comparison import compare
from rsbench.errors import RecordError, RsbenchError
from rsbench.metrics import MEAN_AVERAGE_PRECISION
from rsbench.records import store
from rsbench.registry import find_backbone
from rsbench.report import Bounds, Report, draw_report, write_report
from rsbench.report.anchors import anchor_of
from rsbench.report.grid import Heading, Place, grid
from rsbench.report.markup import Markup, inline_code, json_script, tag, text, wrappable_words
from rsbench.report.page import static
from rsbench.report.precisions import mean_precisions, precisions_of
from rsbench.report.provenance import provenance, shown
from rsbench.report.verdicts import (
    FAILED,
    Verdicts,
    class_names,
    class_scores,
    confusion_of,
    most_frequent_confusions,
    verdicts_of,
)
from rsbench.tables import build
from rsbench.tables.layout import clean, lay_out, percent

_VOID = {"br", "img", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """What a browser would make of a page: elements, texts, ids and links."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.codes: list[tuple[str, dict[str, str | None], str]] = []
        self.wrongly_closed: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, name: str, pairs: list[tuple[str, str | None]]) -> None:
        values = dict(pairs)
        assert len(values) == len(pairs), f"an attribute twice in <{name}>"
        self.tags.append(name)
        self.attributes |= values.keys()
        if "id" in values:
            self.ids.append(values["id"] or "")
        if "href" in values:
            self.links.append(values["href"] or "")
        if "src" in values:
            self.sources.append(values["src"] or "")
        if name not in _VOID:
            self._open.append((name, values))

    def handle_endtag(self, name: str) -> None:
        if not self._open or self._open[-1][0] != name:
            self.wrongly_closed.append(name)
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style"):
            self.codes.append((*self._open[-1], data))
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def code(self, name: str) -> list[str]:
        """Everything that a browser would run or apply."""
        return [
            data
            for tag_name, values, data in self.codes
            if tag_name == name and values.get("type") != "application/json"
        ]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def report(world: Path) -> Report:
    return draw_report(world)


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    return Page(report.html)


# ---------------------------------------------------------------------------- escaping


def test_text_is_escaped_and_markup_is_not_escaped_twice() -> None:
    made = tag("p", "<b>", tag("i", 'a"b'), title="'<&>\"")

    assert made == ('<p title="&#x27;&lt;&amp;&gt;&quot;">&lt;b&gt;<i>a&quot;b</i></p>')
    assert tag("p", text("<")) == "<p>&lt;</p>"
    assert tag("p", "a" + tag("br")) == "<p>a&lt;br&gt;</p>"  # plain text swallowed the markup
    assert tag("p", tag("br") + "<") == "<p><br>&lt;</p>"


def test_plain_text_among_pieces_of_markup_is_escaped() -> None:
    mixed: list[Any] = [tag("i"), "<b>"]

    assert tag("p", mixed) == "<p><i></i>&lt;b&gt;</p>"


def test_long_names_in_a_sentence_may_break_and_numbers_may_not() -> None:
    name = "resnet_rs_50+blocks=1-1-1-1+width=0.25"
    made = wrappable_words(f"{name} has <47.2> points")

    assert isinstance(made, Markup)
    assert made.endswith(" has &lt;47.2&gt; points")
    assert made.count("<wbr>") > 5
    assert re.sub(r"<[^>]*>", "", made).startswith(name)


def test_data_for_the_script_can_neither_end_it_nor_open_a_comment() -> None:
    content = {"<!--": BREAKOUT, "\u2029": ["</SCRIPT>", 1.5, None]}
    element = json_script(content, id_="data")
    _, inside, _ = re.split(r"<script[^>]*>|</script>", element)

    assert "<" not in inside
    assert inside.isascii()
    assert json.loads(inside) == content


def test_a_library_s_own_words_do_not_end_its_element() -> None:
    code = 'const end = "</script>", begin = "<!--<script>";'
    element = inline_code("script", code)

    assert Page(element).code("script") == [
        r'const end = "\x3c/script>", begin = "\x3c!--\x3cscript>";'
    ]


def test_hostile_names_are_text_wherever_they_stand(page: Page) -> None:
    assert page.wrongly_closed == []
    assert SCRIPT_NAME in page.text
    assert clean(BREAKOUT) in page.text
    # The page's own library and script; the figures' data run nowhere.
    assert page.tags.count("script") == 3
    assert page.tags.count("style") == 1
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "style" not in page.attributes  # the policy would refuse it


def test_the_specs_of_the_figures_hold_names_as_they_are(report: Report, page: Page) -> None:
    (data,) = (each for _, values, each in page.codes if values.get("id") == "figures")
    specs = json.loads(data)["specs"]

    assert specs == json.loads(json.dumps({each.name: each.spec for each in report.figures}))
    assert SCRIPT_NAME in json.dumps(specs)


# ---------------------------------------------------------------------------- the file as a whole


def test_the_page_asks_for_nothing_and_its_policy_allows_nothing(
    report: Report, page: Page
) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', report.html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#x27;", "'").split(";"))

    def hashes(name: str) -> set[str]:
        digests = (hashlib.sha256(code.encode()).digest() for code in page.code(name))
        return {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}

    assert rules["default-src"] == "'none'"
    assert set(rules["script-src"].split()) == hashes("script")
    assert set(rules["style-src"].split()) == hashes("style")
    assert [source for source in page.sources if not source.startswith("data:image/")] == []
    assert [link for link in page.links if not link.startswith("#")] == []
    assert "url(" not in page.code("style")[0]
    assert "@import" not in page.code("style")[0]
    assert not {"iframe", "object", "embed", "base", "form", "link"} & set(page.tags)


def test_every_link_leads_somewhere_and_no_place_is_named_twice(page: Page) -> None:
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)


def test_headings_go_down_one_step_at_a_time(page: Page) -> None:
    levels = [int(name[1]) for name in page.tags if re.fullmatch(r"h[1-6]", name)]

    assert levels[0] == 1
    assert levels.count(1) == 1
    # Records open on demand, and their parts are two steps below the table's name.
    steps = [after - before for before, after in itertools.pairwise(levels)]
    assert max(step for step, level in zip(steps, levels[1:], strict=True) if level < 5) == 1


def test_the_same_records_give_the_same_page(world: Path, report: Report) -> None:
    assert draw_report(world).html == report.html


def test_a_report_is_written_whole_into_a_new_folder(world: Path, tmp_path: Path) -> None:
    target = write_report(world, tmp_path / "deep" / "page.html", title="A & B")

    assert target.read_text(encoding="utf-8").count("A &amp; B") == 2
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path: Path) -> None:
    drawn = draw_report(tmp_path)

    assert "No results yet." in Page(drawn.html).text
    assert (drawn.num_records, drawn.figures) == (0, ())


# ---------------------------------------------------------------------------- numbers


def test_every_number_of_every_table_stands_on_the_page(world: Path, page: Page) -> None:
    tables = build(store.read_all(world)).tables
    words = " ".join(page.text.split())

    assert len(tables) == 2
    for table in tables:
        layout = lay_out(table)
        assert " ".join(layout.title.split()) in words
        for remark in layout.remarks:
            assert " ".join(remark.split()) in words
        for row in layout.rows:
            for cell in row:
                assert " ".join(cell.main.split(", ")[0].split()) in words
                assert cell.detail in words


def test_a_number_leads_to_the_record_it_comes_from(world: Path, report: Report) -> None:
    contents = store.read_all(world)
    by_name = {each.name: each.record for each in contents.records}
    for table in build(contents).tables:
        for row in table.rows:
            shown_number = lay_out(table).rows[table.rows.index(row)]
            first = lay_out(table).numeric.index(True)
            main = re.escape(str(text(shown_number[first].main)))
            (anchor,) = set(
                re.findall(rf'<a href="#([\w-]+)" class="value">{main}</a>', report.html)
            )
            at = report.html.index(f'id="{anchor}"')
            after = report.html[at : at + 60_000]
            assert all(
                f'id="{anchor_of(name)}"' in after or len(row.records) == 1 for name in row.records
            )
            assert by_name[row.records[0]].key in after


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, list | tuple):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value]


def test_the_provenance_of_a_number_holds_every_field_of_its_record(
    world: Path, report: Report
) -> None:
    stored = next(
        each for each in store.read_all(world).records if each.record.backbone.name == SCRIPT_NAME
    )
    start = report.html.index(f'<details id="{anchor_of(stored.name)}"')
    end = report.html.index('<details id="r', start + 10)
    words = Page(_one_element(report.html[start:end])).text
    record = asdict(stored.record)
    traced = [row for name in ("selection", "curve") for row in record.pop(name)]

    for leaf in _leaves(record):
        assert clean(shown(leaf)) in words
    for row in traced:
        for leaf in row.values():
            assert (f"{leaf:.6g}" if isinstance(leaf, float) else shown(leaf)) in words


def _one_element(html: str) -> str:
    """Cut a piece of a page off where its elements are closed again."""
    depth = 0
    for match in re.finditer(r"<(/?)details\b[^>]*>", html):
        depth += -1 if match[1] else 1
        if depth == 0:
            return html[: match.end()]
    raise AssertionError("the element does not end")


def test_the_command_of_a_record_can_be_pasted_whatever_its_file_is_called(tmp_path: Path) -> None:
    path = save_run(tmp_path, some_hits(90))
    stored = store.Stored(path.with_name("a; touch b.json"), store.read(path))
    words = Page(provenance(stored, bounds=Bounds(), table_digest="0" * 64)).text

    assert f"rsbench reproduce '{stored.name}'" in words
    assert stored.name.endswith("/a; touch b.json")


def test_a_failed_item_is_named_with_its_reason(page: Page) -> None:
    assert "<a>: cut" in page.text


def test_networks_stand_first_in_a_ranking_and_numbers_before_their_inputs(tmp_path: Path) -> None:
    for name in ("net a", "net b"):
        for task in SUITE.tasks:
            _save(tmp_path, task, name, some_hits(80))
    html = draw_report(tmp_path, with_figures=False).html
    ranking = html[html.index('id="ranking"') :]
    head = re.findall(r"<th [^>]*>(.*?)</th>", ranking[: ranking.index("</thead>")])

    assert head[:3] == ["backbone", "rank", "mean %"]
    assert head[-1] == "weights"
    assert '<th scope="row">net a' in ranking
    assert "so none has a rank" not in ranking


def test_a_ranking_without_ranks_is_folded(page: Page) -> None:
    assert "No network has a number in every column, so none has a rank" in page.text


def test_averages_over_a_suite_stand_with_their_difference_and_p(tmp_path: Path) -> None:
    for name, num_hits in (("net a", 140), ("net b", 60)):
        for task in SUITE.tasks:
            _save(tmp_path, task, name, some_hits(num_hits))
    (average,) = compare(store.read_all(tmp_path), suite=SUITE).averages
    words = Page(draw_report(tmp_path, suite=SUITE, with_figures=False).html).text
    pairs = words[words.index("Who is better than whom") :]

    assert f"Suite duo, on average: {average.title}" in pairs
    assert percent(average.rows[0].mean.value) in pairs
    assert percent(average.pairs[0].difference) in pairs


def test_a_published_number_stands_beside_the_measured_one(tmp_path: Path) -> None:
    # pytorchvideo's model zoo: X3D-M has 75.94 % with 10 x 3 views.
    spec = find_backbone("pytorchvideo/x3d_m").spec
    weights = spec.weights[0]
    sizes = {"frames": 16, "stride": 5, "pixels": weights.input.pixels}
    names = ("crop_ratio", "interpolation", "antialias", "resizer")
    conditions = {name: getattr(weights.input, name) for name in names}
    measure(
        tmp_path,
        some_hits(752, num_items=1000),
        backbone={"name": spec.name, **sizes, **conditions},
        weights={"name": weights.name, "verified": True},
        protocol={"sampler": weights.sampler},
    )
    words = Page(draw_report(tmp_path, with_figures=False).html).text
    published = words[words.index("Beside published numbers") :]

    assert "conditions agree" in published
    assert "75.94" in published
    assert "-0.74" in published  # 75.20 - 75.94


def test_what_no_figure_knows_is_named(tmp_path: Path) -> None:
    trace = tuple({"warmth": each, "held_out_top1": 0.5, "chosen": each == 2} for each in (1, 2))
    save_run(tmp_path, some_hits(90), selection=trace, protocol={"name": "./mine.py"})
    drawn = draw_report(tmp_path)

    assert not [figure for figure in drawn.figures if figure.section == "selection"]
    (said,) = (line for line in drawn.omissions if "mine.py" in line)
    assert "is not drawn: no figure is known for these settings" in said
    assert said in Page(drawn.html).text


def test_a_long_table_scrolls_below_its_headings() -> None:
    rows = [[Place(str(number))] for number in range(26)]

    assert 'class="scroll tall"' in grid([Heading("a")], rows, label="a")
    assert 'class="scroll"' in grid([Heading("a")], rows[:25], label="a")


# ---------------------------------------------------------------------------- what is left out


def test_what_measures_nothing_and_what_is_broken_is_named_and_shown_nowhere_else(
    tmp_path: Path,
) -> None:
    save_run(tmp_path, some_hits(90))
    save_run(
        tmp_path, some_hits(159), protocol={"selected_on_test": True}, backbone={"name": "leaked"}
    )
    edited = save_run(tmp_path, some_hits(70), backbone={"name": "edited"})
    edited.write_text(edited.read_text().replace('"seed": 0', '"seed": 7'))
    lost = save_run(tmp_path, some_hits(60), backbone={"name": "bereft"})
    lost.with_name(f"{lost.stem}.predictions.parquet").unlink()
    drawn = draw_report(tmp_path)
    words = Page(drawn.html).text

    assert drawn.num_records == 2
    assert "1 run that selected its settings on the test set" in words
    assert f"{edited.name} was edited by hand" in words
    assert f"{lost.name}: its file" in words
    assert "99.4" not in words  # 159 of 160
    left_out = words[words.index("Files in no table") :]
    assert "leaked" in left_out
    assert words.count("leaked") == left_out.count("leaked")


def test_beyond_its_bounds_a_page_says_what_it_left_out_and_no_link_breaks(world: Path) -> None:
    bounds = Bounds(full_records=2, table_rows=2, pairs=1, class_rows=1, wrong_items=3)
    drawn = draw_report(world, bounds=bounds)
    page = Page(drawn.html)

    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    for said in (
        "3 of 4 rows of tables are shown",
        "Every field is shown of 2 of 6 records",
        "1 of 3 pairs are shown",
        "Classes and wrong items are of the best 1 networks",
    ):
        assert any(said in line for line in drawn.omissions), drawn.omissions
    assert all(line in page.text for line in drawn.omissions)
    assert len(drawn.html) < len(draw_report(world).html)


def test_what_leads_to_a_record_without_room_is_no_link(world: Path) -> None:
    drawn = draw_report(world, bounds=Bounds(full_records=1, short_records=0))
    page = Page(drawn.html)
    anchors = {anchor_of(each.name) for each in store.read_all(world).records}

    assert len(anchors & set(page.ids)) == 1
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert anchors & {link.removeprefix("#") for link in page.links}


def test_predictions_too_large_to_read_are_left_unread_and_named(world: Path) -> None:
    large = draw_report(world, bounds=Bounds(predicted_scores=100))
    many = draw_report(world, bounds=Bounds(predicted_records=1))

    assert any("for more than 100 scores" in line for line in large.omissions)
    assert "Taken for" not in Page(large.html).text
    assert any("predictions of the first 1 records" in line for line in many.omissions)
    assert Page(many.html).text.count("Taken for") == 1


# ---------------------------------------------------------------------------- classes


def test_a_confusion_equals_scikit_learn_s_and_unreadable_items_stand_apart() -> None:
    random = np.random.default_rng(0)
    targets, answers = random.integers(5, size=(2, 300))
    answers[:7] = FAILED
    keys = tuple(("", str(place)) for place in range(300))
    run = Verdicts(keys=keys, targets_N=targets, answers_N=answers)
    counts = confusion_of([run, run], 5)

    expected = confusion_matrix(targets[7:], answers[7:], labels=range(5))
    assert (counts[:, :5] == 2 * expected).all()
    assert (counts[:, 5] == 2 * np.bincount(targets[:7], minlength=5)).all()


def test_classes_are_scored_as_counted_by_hand() -> None:
    # Class 0: 3 right, 1 taken for 2; class 1: no items; class 2: 1 right, 1 for 0, 2 unreadable.
    counts = np.array([[3, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 2]])
    first, second = class_scores(counts, num_runs=1)

    assert (first.place, first.n, first.num_right, first.share) == (0, 4, 3, 0.75)
    assert (first.mistaken_for, first.num_mistaken) == (2, 1)
    assert (second.place, second.n, second.num_right, second.share) == (2, 4, 1, 0.25)
    # Wilson's interval of 3 of 4: R's binom package, binom.wilson(3, 4).
    assert (first.low, first.high) == pytest.approx((0.3006418, 0.9544127), abs=1e-6)
    assert most_frequent_confusions(counts, 5) == ((0, 2, 1), (2, 0, 1))


def test_two_runs_of_the_same_items_do_not_narrow_the_interval_of_a_class() -> None:
    counts = np.array([[30, 10, 0], [4, 36, 0]])

    one, two = (class_scores(counts * runs, num_runs=runs)[0] for runs in (1, 2))
    assert (one.low, one.high) == (two.low, two.high)
    assert two.n == 2 * one.n


def test_classes_have_the_names_of_the_head_unless_the_file_was_changed(tmp_path: Path) -> None:
    path = save_run(tmp_path, some_hits(90))
    stored = store.Stored(path, store.read(path))
    named = class_names(stored, len(CLASSES))
    head = path.with_name(f"{path.stem}.head.safetensors")
    head.write_bytes(head.read_bytes() + b" ")

    assert named == CLASSES
    assert class_names(stored, len(CLASSES)) == tuple("01234567")


def test_predictions_that_are_no_class_scores_are_named(tmp_path: Path) -> None:
    # The factory's predictions are of eight classes.
    record = make_record(hits=some_hits(5, num_items=10), task={"num_classes": 3})
    files = {store.PREDICTIONS_SUFFIX: make_predictions(some_hits(5, num_items=10))}
    path = store.write(tmp_path, record, files)

    with pytest.raises(RecordError, match="a prediction must be 3 finite class scores"):
        verdicts_of(store.Stored(path, store.read(path)))


def test_classes_of_several_labels_have_the_parts_of_the_headline(tmp_path: Path) -> None:
    targets, scores = _labels_and_scores(0.8)
    for seed in (0, 1):
        comparison_world.save_run(
            tmp_path,
            "net",
            targets=targets,
            predictions=scores[seed:] + scores[:seed],
            metric=MEAN_AVERAGE_PRECISION,
            kind="multilabel",
            task={"num_classes": 5, "target": "multilabel"},
            seed=seed,
        )
    runs = [
        precisions_of(each, "mean_average_precision", "pooled")
        for each in store.read_all(tmp_path).records
    ]
    page = Page(draw_report(tmp_path, with_figures=False).html)

    truth = np.array([[k in target for k in range(5)] for target in targets])
    for seed, run in enumerate(runs):
        turned = np.stack(scores[seed:] + scores[:seed])
        expected = average_precision_score(truth, turned, average=None)
        assert [each.value for each in run] == pytest.approx(expected, rel=1e-9)
        assert [each.num_having for each in run] == truth.sum(axis=0).tolist()
    mean = mean_precisions(runs)[0].value
    assert mean == pytest.approx((runs[0][0].value + runs[1][0].value) / 2)
    assert f"0{percent(mean)}{truth[:, 0].sum()}" in page.text  # class, precision, items: a line
    assert "Items of several labels are not right or wrong as a whole" in page.text
    assert "Wrong items:" not in page.text


def test_precisions_over_folds_are_averaged_as_the_headline_is(tmp_path: Path) -> None:
    targets, scores = _labels_and_scores(0.8)
    folds = ["one", "two"] * (len(targets) // 2)
    comparison_world.save_run(
        tmp_path,
        "net",
        targets=targets,
        predictions=scores,
        folds=folds,
        averaging="mean",
        metric=MEAN_AVERAGE_PRECISION,
        kind="multilabel",
        task={"num_classes": 5, "target": "multilabel"},
    )
    (stored,) = store.read_all(tmp_path).records
    found = precisions_of(stored, "mean_average_precision", "mean")

    assert np.mean([each.value for each in found]) == pytest.approx(stored.record.metrics[0].value)


def test_targets_without_classes_have_no_view_and_that_is_said(tmp_path: Path) -> None:
    save_run(tmp_path, some_hits(90), task={"name": "boxes", "target": "boxes"})
    drawn = draw_report(tmp_path, with_figures=False)

    said = "boxes: there is no view by class and item for targets of the kind boxes."
    assert said in drawn.omissions
    assert said in Page(drawn.html).text


def test_wrong_items_are_those_of_the_best_network_the_hardest_first(tmp_path: Path) -> None:
    # Item 3 is wrong in both networks, item 1 in the best alone, item 0 in the other alone.
    best = [1.0, 0.0, 1.0, 0.0] + [1.0] * 6
    other = [0.0, 1.0, 1.0, 0.0] + [0.0] * 6
    save_run(tmp_path, best, backbone={"name": "best"})
    save_run(tmp_path, other, backbone={"name": "other"})
    words = Page(draw_report(tmp_path).html).text
    listed = words[words.index("Wrong items: 2") : words.index("Where each number")]

    assert re.findall(r"digit_\d+", listed) == ["digit_0901", "digit_0899"]
    assert "wrong in 2 of 2 runs" in listed
    assert "class 3 <b>" in listed
    assert "taken for class 4 <b>" in listed


# ---------------------------------------------------------------------------- colours


def _luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_in_the_standard() -> None:
    # https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio: black on white is 21; #767676 is the
    # lightest grey that reaches 4.5 (WebAIM's contrast checker).
    assert _contrast("#000000", "#ffffff") == 21
    assert _contrast("#767676", "#ffffff") >= 4.5 > _contrast("#777777", "#ffffff")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_every_ground_in_both_themes(theme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", static("page.css"), flags=re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 1 if theme == "light" else 2]:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))

    for words in ("ink", "muted", "link", "good", "bad", "caution"):
        grounds = ["paper", "raised", "marked"]
        grounds += ["caution-ground"] if words == "caution" else []
        for ground in grounds:
            ratio = _contrast(colours[words], colours[ground])
            assert ratio >= 4.5, f"{words} on {ground}: {ratio:.2f}"


# ---------------------------------------------------------------------------- command line


def test_the_command_writes_the_page_and_says_what_is_in_it(world: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    said = rsbench("report", world, "--out", target)
    printed = json.loads(rsbench("report", world, "--out", target, "--json").out)

    assert said.code == 0
    assert said.out.startswith(f"{target}: 6 records in 2 tables, ")
    assert printed["num_records"] == 6
    assert printed["num_bytes"] == target.stat().st_size
    assert printed["problems"] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nowhere",), "No results folder nowhere; run something first, or name another."),
        ((".", "--data", "nowhere"), "--data must be a folder of data sets, but there is none at"),
        ((".", "--out", "."), "--out must be a file, but . is a folder; name"),
        ((".", "--suite", "offlin"), "offline"),
        ((".", "--no-figures", "--figures", "f"), "--figures writes what --no-figures leaves out"),
    ],
)
def test_wrong_words_are_one_line(
    words: tuple[str, ...], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = rsbench("report", *words)

    assert answer.code == 2
    assert complaint in answer.err
    assert answer.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_the_report_says_what_to_install(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rsbench.report import drawing

    drawing.javascript.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)

    with pytest.raises(RsbenchError, match=r"pip install 'rsbench\[report\]'.* --no-figures"):
        draw_report(world)


def test_tables_alone_need_no_extra_and_say_that_figures_are_left_out(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("altair", "vl_convert"):
        monkeypatch.setitem(sys.modules, name, None)
    target = tmp_path / "page.html"
    answer = rsbench("report", world, "--no-figures", "--out", target)
    page = Page(target.read_text(encoding="utf-8"))

    assert answer.code == 0, answer.err
    assert "Figures were not asked for (--no-figures)." in answer.err
    assert "Figures were not asked for (--no-figures)." in page.text
    assert "75.0" in page.text  # 120 of 160
    assert "figure" not in page.tags
    assert target.stat().st_size < 500_000  # no library
