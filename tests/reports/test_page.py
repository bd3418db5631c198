"""The HTML report is self-contained, contains all data, and is accessible."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from keras_nas_plugin.files import write_json
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.retraining import RetrainedModel, Retraining
from keras_nas_plugin.records.search import InfeasibleSummary
from keras_nas_plugin.records.trial import save_run_id
from keras_nas_plugin.reports import figures, report_data, write_report
from keras_nas_plugin.reports import page as page_module
from keras_nas_plugin.reports.elements import ROWS
from keras_nas_plugin.reports.model_diagram import diagram_svg
from keras_nas_plugin.reports.page import page
from keras_nas_plugin.space import Architecture, Vertex
from keras_nas_plugin.tracking.mlflow.links import RunPages, ui_address
from tests.reports.conftest import evolve, failed, record_of, save, search_info

WIDTH = {"width": 8, "depth": 1}
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, with their attributes and the text inside them."""

    def __init__(self, html):
        super().__init__()
        self.html, self.elements, self._open = html, [], []
        self.feed(html)
        self.close()
        assert self._open == [], "elements that are not closed"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "attributes": dict(attributes), "text": ""}
        element["inside"] = list(self._open)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [
            element
            for element in self.elements
            if element["tag"] == tag and attributes.items() <= element["attributes"].items()
        ]

    def values(self, name):
        return [
            element["attributes"][name]
            for element in self.elements
            if name in element["attributes"]
        ]

    @property
    def headings(self):
        return [element["text"] for element in self.all("h2")]


def write_page(search, records):
    """The parsed report of a search with the given records."""
    folder = save(search, records)
    return Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def report_page(evolved):
    folder = Path(evolved)
    return Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))


def assert_self_contained(report_page):
    """Check that the page loads no resource and that its internal links have targets."""
    for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
        assert all(value.startswith("#") for value in report_page.values(name)), name
    for text in ("url(", "@import", "<link", "<iframe", "<img", "<object", "<embed"):
        assert text not in report_page.html
    scripts = [element["attributes"] for element in report_page.all("script")]
    # The data, and the script that scrolls to sections.
    assert scripts == [{"type": "application/json", "id": "report-data"}, {}]
    assert not [
        name
        for element in report_page.elements
        for name in element["attributes"]
        if name[:2] == "on"
    ]
    ids = report_page.values("id")
    assert len(set(ids)) == len(ids)
    targets = [value.removeprefix("#") for value in report_page.values("href")]
    targets += [
        element for value in report_page.values("aria-labelledby") for element in value.split()
    ]
    assert set(targets) <= set(ids)


def test_the_page_has_all_sections(report_page):
    assert report_page.headings == [
        "Best trial",
        "Best score so far",
        "Learning curves",
        "Trials",
        "Pareto front",
        "Importance of the decisions",
        "Parallel coordinates",
        "Lineage of the best trial",
        "Timeline",
        "Costs",
        "Calibration of the proxies",
        "Failures",
        "Search configuration",
    ]
    assert_self_contained(report_page)


def test_figures_have_descriptions_and_tables(report_page):
    drawings = report_page.all("svg")
    assert len(drawings) == 7
    for element in drawings:
        assert element["attributes"]["role"] == "img"
        title, description = element["attributes"]["aria-labelledby"].split()
        (titled,) = [e for e in report_page.elements if e["attributes"].get("id") == title]
        (described,) = [
            e for e in report_page.elements if e["attributes"].get("id") == description
        ]
        assert (titled["tag"], described["tag"]) == ("title", "desc")
        assert titled["text"] and len(described["text"]) > 40
        # Labels are text, which scales with the page and can be searched.
        assert [e for e in report_page.all("text") if element in e["inside"]]
        (section,) = [e for e in element["inside"] if e["tag"] == "section"]
        if section["attributes"]["id"] == "timeline":
            continue  # the table of trials has its times
        (details,) = [e for e in report_page.all("details") if section in e["inside"]]
        assert [e for e in report_page.all("table") if details in e["inside"]]
    assert all(
        element["attributes"].get("scope") in ("col", "row") for element in report_page.all("th")
    )


def test_the_page_can_be_used_with_a_keyboard_and_on_a_phone(report_page):
    assert report_page.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert report_page.all("html", lang="en")
    first = next(element for element in report_page.elements if element["tag"] == "a")
    assert first["attributes"] == {"class": "skip", "href": "#content"}
    # Tables wider than a phone scroll, which must work with a keyboard.
    for element in report_page.all("table"):
        scroll = element["inside"][-1]["attributes"]
        assert scroll["tabindex"] == "0" and scroll["role"] == "region" and scroll["aria-label"]
    assert ":focus-visible" in report_page.html and "outline: none" not in report_page.html


def luminance(colour):
    """Relative luminance by WCAG 2.2."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colours_have_contrast_in_light_and_dark(report_page):
    schemes = re.findall(r"--ground:[^}]*", report_page.html)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for name in ("text", "muted", "first", "second", "third"):
            for ground in ("ground", "card"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])))[::-1]
                # WCAG 2.2, 1.4.3: text; the others are parts of figures (1.4.11).
                minimum = 3.0 if name in ("second", "third") else 4.5
                assert (light + 0.05) / (dark + 0.05) >= minimum, (name, ground)
    # Figures take their colours from the page.
    assert not re.findall(r"(?:fill|stroke): #", report_page.html)


def test_the_page_contains_the_data_as_json(report_page, evolved):
    script = report_page.all("script")[0]
    assert json.loads(script["text"]) == report_data(evolved)


def test_the_same_records_give_the_same_page(report_page, evolved):
    assert page(report_data(evolved)) == report_page.html


def test_the_page_and_the_users_matplotlib_settings_do_not_affect_each_other(report_page, evolved):
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": True, "font.size": 40}):
        before = dict(matplotlib.rcParams)
        assert page(report_data(evolved)) == report_page.html
        assert dict(matplotlib.rcParams) == before


MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(2)>$x_1$ & \"'"


def test_names_and_errors_are_escaped(tmp_path):
    space = [{"name": MARKUP, "type": "Choice", "values": [MARKUP, "b", "c"]}]
    search = search_info(
        tmp_path / "p",
        name=MARKUP,
        objective=MARKUP,
        space=tuple(space),
        settings={MARKUP: MARKUP},
    )
    trials = [
        record_of(
            n, {MARKUP: (MARKUP, "b", "c")[n % 3]}, n / 20, parents=(f"{n - 1:04d}",) * (n > 0)
        )
        for n in range(14)
    ]
    report_page = write_page(search, [*trials, failed(14, {MARKUP: "b"}, MARKUP)])
    assert_self_contained(report_page)
    assert report_page.all("h1")[0]["text"] == MARKUP
    script = report_page.all("script")[0]
    assert json.loads(script["text"])["search"]["name"] == MARKUP
    assert [element for element in report_page.all("th") if element["text"] == MARKUP]


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("trials", [1, 2, 12])
def test_the_page_of_a_search_with_few_trials(tmp_path, trials, direction):
    search = search_info(tmp_path / "p", direction=direction)
    report_page = write_page(search, evolve(search, trials, failing=0.0, proxies=False))
    assert_self_contained(report_page)
    assert "Calibration of the proxies" not in report_page.headings
    (section,) = [
        element
        for element in report_page.all("section")
        if element["attributes"]["id"] == "importance"
    ]
    assert ("requires at least 10 finished trials" in section["text"]) == (trials < 10)


def test_importance_is_marked_as_unreliable_when_the_forest_explains_nothing(
    tmp_path, report_page
):
    search = search_info(tmp_path / "p")
    trials = evolve(search, 40, failing=0.0)
    rng = np.random.default_rng(0)
    noise = [record_of(n, element.values, rng.random()) for n, element in enumerate(trials)]
    data = report_data(save(search, noise))
    assert data["importance"]["explained"] < 0.1
    assert "These shares are not reliable" in page(data)
    assert "These shares are not reliable" not in report_page.html
    assert "alone explains" in report_page.html


def test_the_page_of_equal_scores_in_a_space_without_decisions(tmp_path):
    search = search_info(tmp_path / "p", space=())
    report_page = write_page(search, [record_of(n, {}, 0.5, costs={}) for n in range(12)])
    assert_self_contained(report_page)
    assert "The space has no decision with more than one value." in report_page.html


def test_the_page_of_a_space_that_only_the_trials_declared(tmp_path):
    search = search_info(tmp_path / "p")
    trials = evolve(search, 12, failing=0.0)
    report_page = write_page(search_info(tmp_path / "p", space=()), trials)
    assert_self_contained(report_page)
    assert "Lineage of the best trial" in report_page.headings


def test_constraints_and_infeasible_candidates_are_shown(tmp_path):
    limits = [{"name": "parameters", "max": 5e4, "min": None}]
    limits += [{"name": "parameters", "max": None, "min": 10.0}]
    folder = save(search_info(tmp_path / "p", constraints=tuple(limits)), [])
    InfeasibleSummary(count=3, by_constraint={"parameters": 3}).save(folder)
    report_page = Page(write_report(folder, tmp_path / "a.html").read_text(encoding="utf-8"))
    assert_self_contained(report_page)
    cells = [element["text"] for element in report_page.all("td")]
    assert cells[0] == "3"
    at = cells.index("at most 50,000")
    assert cells[at + 1] == "at least 10"
    assert "Infeasible, and therefore not trained: 3 candidates." in report_page.html


def test_the_page_of_a_search_without_finished_trials(tmp_path):
    search = search_info(tmp_path / "p")
    report_page = write_page(search, [failed(1, WIDTH, "ValueError: no way")])
    assert_self_contained(report_page)
    assert (
        "No trial has finished." in report_page.html and "ValueError: no way" in report_page.html
    )
    assert report_page.headings == ["Failures", "Timeline", "Search configuration"]


def test_the_front_of_several_objectives_is_shown(tmp_path):
    objectives = "val_accuracy (max), flops (min), val_loss (min)"
    search = search_info(
        tmp_path / "p",
        objective="multi_objective",
        strategy="NSGA2Oracle",
        settings={"objectives": objectives},
    )
    report_page = write_page(search, evolve(search, 20))
    assert_self_contained(report_page)
    (section,) = [
        element for element in report_page.all("section") if element["attributes"]["id"] == "front"
    ]
    assert "not dominated in val_accuracy, flops and val_loss." in section["text"]
    assert "The figure shows val_accuracy and flops" in section["text"]


def test_the_architecture_of_the_best_trial_is_drawn(tmp_path):
    search = search_info(tmp_path / "p")
    folder = save(search, [record_of(1, WIDTH, 0.5)])
    layers = [Vertex("input"), Vertex("Dense", {"units": 8}, (0,)), Vertex("output", {}, (1,))]
    graph = Architecture(tuple(layers), WIDTH)
    (folder / "trial_0001" / "architecture.json").write_text(graph.to_json(), encoding="utf-8")
    report_page = Page(write_report(folder, tmp_path / "a.html").read_text(encoding="utf-8"))
    assert_self_contained(report_page)
    (drawing,) = [
        element
        for element in report_page.all("svg")
        if element["attributes"]["aria-labelledby"][:4] == "best"
    ]
    words = [
        element["text"] for element in report_page.all("text") if drawing in element["inside"]
    ]
    assert {"input", "Dense", "units=8", "output"} <= set(words)
    scroll = drawing["inside"][-1]["attributes"]
    assert scroll["tabindex"] == "0" and scroll["aria-label"]


def test_the_page_of_3000_trials_is_small_and_contains_all_data(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # 3,000 times, for records of a test
    search = search_info(tmp_path / "p", max_trials=3000)
    report_page = write_page(search, evolve(search, 3000))
    assert_self_contained(report_page)
    assert len(report_page.html.encode()) < 3_000_000
    script = report_page.all("script")[0]
    assert len(json.loads(script["text"])["trials"]["score"]) == 3000
    # Figures show a subset of the trials, and tables are truncated.
    assert len(report_page.html) - len(script["text"]) < 700_000
    rows = [
        sum(row["inside"][-2] is table for row in report_page.all("tr"))
        for table in report_page.all("table")
    ]
    assert max(rows) == ROWS + 1  # and the heading


def test_an_existing_page_is_unchanged_when_writing_fails(tmp_path):
    folder = save(search_info(tmp_path / "p"), [])
    path = write_report(folder, tmp_path / "a.html")
    before = path.read_bytes()
    with pytest.raises(OSError):
        write_report(folder, tmp_path / "nowhere" / "a.html")
    with pytest.raises(OSError):
        write_report(folder, folder)
    assert path.read_bytes() == before
    assert [
        element.name for element in tmp_path.iterdir() if element.name.startswith(".tmp")
    ] == []


def test_the_template_is_in_the_folder_of_the_module():
    assert Path(page_module.__file__).with_name("report.html.j2").is_file()


def retrained(directory, models, **measured):
    """A project folder whose only trial was retrained."""
    folder = save(search_info(directory), [record_of(0, WIDTH, 0.5)])
    Retraining(
        search_id="search-1",
        trial_id="0000",
        key="k",
        objective="val_accuracy",
        direction="max",
        epochs=3,
        rows=100,
        searched={"val_accuracy": 0.5},
        models=tuple(models),
        directory=str(folder),
        **measured,
    ).save()
    return folder


@pytest.mark.parametrize("seeds", [1, 2])
def test_retrained_scores_are_shown_beside_the_searched_model(tmp_path, seeds):
    models = (
        RetrainedModel(seed=seed, curve=(), weights="", scores={"accuracy": 0.625 + seed / 8})
        for seed in range(seeds)
    )
    measured = {"measured_on": "test", "searched_scores": {"accuracy": 0.4375}}
    table = _retrained_table(page(report_data(retrained(tmp_path / "p", models, **measured))))
    assert table[0] == ["model", "accuracy on test data"]
    assert table[1:3] == [["searched model", "0.4375"], ["retrained, seed 0", "0.625"]]
    several = [
        ["retrained, seed 1", "0.75"],
        ["mean of the retrained models", "0.6875"],
        ["standard deviation", "0.08839"],
    ]
    assert table[3:] == (several if seeds == 2 else [])


def test_retrained_models_without_an_evaluation_are_marked(tmp_path):
    models = [RetrainedModel(seed=7, curve=(), weights="")]
    table = _retrained_table(page(report_data(retrained(tmp_path / "p", models))))
    assert table[0] == ["model", "accuracy (not evaluated)"]
    assert [row[0] for row in table[1:]] == ["searched model", "retrained, seed 7"]
    assert "0.5" not in table[1]


def _retrained_table(html):
    """The texts of the table of retrained models, by row."""
    parsed = Page(html)
    (caption,) = [
        element for element in parsed.all("caption") if "retrained on" in element["text"]
    ]
    (inside,) = [element for element in caption["inside"] if element["tag"] == "table"]
    rows = [element for element in parsed.all("tr") if inside in element["inside"]]
    cells = [element for element in parsed.elements if element["tag"] in ("td", "th")]
    return [
        [
            cell["text"].strip()
            for cell in cells
            if any(row is element for element in cell["inside"])
        ]
        for row in rows
    ]


def table_of(report_page, section):
    """Rows of the first table of a section, as text."""
    (element,) = report_page.all("section", id=section)
    table = next(t for t in report_page.all("table") if element in t["inside"])
    rows = [row for row in report_page.all("tr") if table in row["inside"]]
    cells = [c for c in report_page.elements if c["tag"] in ("td", "th")]
    return [[c["text"] for c in cells if row in c["inside"]] for row in rows]


def test_the_table_of_trials_has_every_trial_with_its_start_and_run(tmp_path):
    search = search_info(tmp_path / "p")
    records = [
        record_of(0, WIDTH, 0.5),
        failed(1, WIDTH, "ValueError: no way"),
        record_of(2, {"width": 16, "depth": 1}, 0.7),
    ]
    folder = save(search, records)
    save_run_id(folder / "trial_0002", "abc123")
    page = Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))
    heading, *rows = table_of(page, "trials")
    assert heading[:3] == ["trial", "rank", "status"]
    assert [row[:4] for row in rows] == [
        ["0002", "1", "finished", "0.7"],
        ["0000", "2", "finished", "0.5"],
        ["0001", "–", "failed", "–"],
    ]
    assert rows[0][4] == "2023-11-14 22:13:40" and rows[0][6] == "abc123"
    assert not [link for link in page.all("a") if "runs/" in link["attributes"]["href"]]
    assert "width=16" in rows[0][-1]
    assert "2023-11-14 22:13:20" in "".join(e["text"] for e in page.all("dd"))


def test_the_best_trial_and_each_trial_in_the_table_link_to_their_runs(tmp_path):
    search = search_info(tmp_path / "p")
    folder = save(search, [record_of(0, WIDTH, 0.5), record_of(1, WIDTH, 0.7)])
    for number in range(2):
        save_run_id(folder / f"trial_000{number}", f"{number}" * 32)
    store = "http://user:password@host:5000"
    pages = RunPages(ui_address(store), "7").to_dict()
    write_json(ProjectLayout.of(folder).tracking, {"settings": {}, "run_pages": pages})
    page = Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))
    links = [(link["text"], link["attributes"]["href"]) for link in page.all("a")]
    address = "http://host:5000/#/experiments/7/runs/{}?workflowType=machine_learning"
    best, other = ("1" * 8, address.format("1" * 32)), ("0" * 8, address.format("0" * 32))
    assert [link for link in links if "/runs/" in link[1]] == [best, best, other]


def test_the_layers_of_an_ordinary_model_are_drawn_first(tmp_path):
    search = search_info(tmp_path / "p")
    folder = save(search, [record_of(0, WIDTH, 0.5), record_of(1, WIDTH, 0.7)])
    drawing = diagram_svg([Vertex("Input"), Vertex("Dense", {"": "(None, 2)"}, (0,))])
    ProjectLayout.of(folder).trial("0001").picture.write_text(drawing, "utf-8")
    page = Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))
    (image,) = [
        svg
        for svg in page.all("svg")
        if any(outer["attributes"].get("id") == "best" for outer in svg["inside"])
    ]
    assert "Dense" in image["text"] and image["attributes"]["role"] == "img"
    assert "trial 0001" in image["attributes"]["aria-label"]


def test_learning_curves_are_means_over_executions_from_the_first_epoch_of_a_trial(tmp_path):
    search = search_info(tmp_path / "p")
    curves = (
        ({"val_accuracy": 0.2}, {"val_accuracy": 0.4}),
        ({"val_accuracy": 0.4}, {"val_accuracy": 0.8}),
    )
    records = [record_of(0, WIDTH, 0.6, curves=curves, first_epoch=2), record_of(1, WIDTH, 0.5)]
    folder = save(search, records)
    page = Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))
    rows = table_of(page, "curves")
    assert rows == [
        ["trial", "epoch", "val_accuracy"],
        ["0000", "3", "0.3"],
        ["0000", "4", "0.6"],
    ]


def timeline(times, workers):
    """The rows of the trials' bars, and the names beside the rows."""
    data = {
        "trials": {
            "started_ms": [start for start, _ in times],
            "ended_ms": [end for _, end in times],
            "status": ["FINISHED"] * len(times),
            "worker": workers,
        }
    }
    (axes,) = figures.draw_timeline(data).axes
    rows = [round(bar.get_paths()[0].vertices[0][1] + 0.38) for bar in axes.collections]
    return rows, dict(
        zip(axes.get_yticks(), (text.get_text() for text in axes.get_yticklabels()), strict=True)
    )


def test_the_timeline_has_a_named_row_for_each_worker():
    times = [(0, 3000), (1000, 2000), (2500, 4000), (3000, 5000)]
    workers = ["worker-10", "worker-2", "worker-2", "worker-10"]
    assert timeline(times, workers) == ([1, 0, 0, 1], {0: "worker-2", 1: "worker-10"})


def test_trials_without_workers_that_overlap_are_in_different_rows_of_the_timeline():
    assert timeline([(0, 1000), (1000, 2000), (2000, 3000)], [None] * 3) == ([0, 0, 0], {})
    times = [(0, 3000), (1000, 2000), (2500, 4000), (3000, 5000)]
    assert timeline(times, [None] * 4) == ([0, 1, 1, 0], {})
    assert timeline(times, [None, "tuner0", None, None]) == ([1, 0, 2, 1], {0: "tuner0"})


def test_decisions_without_importance_are_named_with_the_reason(report_page):
    (section,) = report_page.all("section", id="importance")
    assert "Not analysed, because they have a single value: padding." in section["text"]
