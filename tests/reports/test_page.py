"""The page: nothing from outside, all numbers inside, and usable without a mouse or eyes."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from keras_nas_plugin.reports import page as page_module
from keras_nas_plugin.reports import report_data, write_report
from keras_nas_plugin.reports.page import page
from keras_nas_plugin.reports.sections import ROWS
from keras_nas_plugin.space import Architecture, Vertex
from keras_nas_plugin.tracking.records import Refused
from keras_nas_plugin.tracking.retraining import RetrainedModel, Retraining
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
            one
            for one in self.elements
            if one["tag"] == tag and attributes.items() <= one["attributes"].items()
        ]

    def values(self, name):
        return [one["attributes"][name] for one in self.elements if name in one["attributes"]]

    @property
    def headings(self):
        return [one["text"] for one in self.all("h2")]


def written(search, records):
    """The page of some records."""
    folder = save(search, records)
    return Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shown(evolved):
    folder = Path(evolved)
    return Page(write_report(folder, folder / "report.html").read_text(encoding="utf-8"))


def assert_whole(shown):
    """What holds for every page."""
    for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
        assert all(value.startswith("#") for value in shown.values(name)), name
    for text in ("url(", "@import", "<link", "<iframe", "<img", "<object", "<embed"):
        assert text not in shown.html
    scripts = [one["attributes"] for one in shown.all("script")]
    # The numbers, and the one that moves within the page.
    assert scripts == [{"type": "application/json", "id": "report-data"}, {}]
    assert not [name for one in shown.elements for name in one["attributes"] if name[:2] == "on"]
    ids = shown.values("id")
    assert len(set(ids)) == len(ids)
    pointed = [value.removeprefix("#") for value in shown.values("href")]
    pointed += [one for value in shown.values("aria-labelledby") for one in value.split()]
    assert set(pointed) <= set(ids)


def test_a_page_shows_all_that_was_asked_for(shown):
    assert shown.headings == [
        "Best score so far",
        "Pareto front",
        "Importance of each decision",
        "Decisions of the trials",
        "Lineage of the winner",
        "The winner",
        "Costs",
        "Calibration of the proxies",
        "Failures",
        "The search",
    ]
    assert_whole(shown)


def test_pictures_can_be_heard_and_their_numbers_read(shown):
    pictures = shown.all("svg")
    assert len(pictures) == 6
    for one in pictures:
        assert one["attributes"]["role"] == "img"
        title, description = one["attributes"]["aria-labelledby"].split()
        (named,) = [e for e in shown.elements if e["attributes"].get("id") == title]
        (said,) = [e for e in shown.elements if e["attributes"].get("id") == description]
        assert (named["tag"], said["tag"]) == ("title", "desc")
        assert named["text"] and len(said["text"]) > 40
        # Text is text, which scales with the page and can be found in it.
        assert [e for e in shown.all("text") if one in e["inside"]]
        (section,) = [e for e in one["inside"] if e["tag"] == "section"]
        (folded,) = [e for e in shown.all("details") if section in e["inside"]]
        assert [e for e in shown.all("table") if folded in e["inside"]]
    assert all(one["attributes"].get("scope") in ("col", "row") for one in shown.all("th"))


def test_it_can_be_used_from_a_keyboard_and_on_a_phone(shown):
    assert shown.all("meta", name="viewport", content="width=device-width, initial-scale=1")
    assert shown.all("html", lang="en")
    first = next(one for one in shown.elements if one["tag"] == "a")
    assert first["attributes"] == {"class": "skip", "href": "#content"}
    # What is wider than a phone scrolls within itself, which a keyboard must be able to do.
    for one in shown.all("table"):
        scroll = one["inside"][-1]["attributes"]
        assert scroll["tabindex"] == "0" and scroll["role"] == "region" and scroll["aria-label"]
    assert ":focus-visible" in shown.html and "outline: none" not in shown.html


def luminance(colour):
    """Relative luminance by WCAG 2.2."""
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colours_have_contrast_in_light_and_dark(shown):
    schemes = re.findall(r"--ground:[^}]*", shown.html)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", scheme))
        for name in ("text", "muted", "first", "second", "third"):
            for ground in ("ground", "card"):
                light, dark = sorted((luminance(colours[name]), luminance(colours[ground])))[::-1]
                # WCAG 2.2, 1.4.3: text; the others are parts of pictures (1.4.11).
                least = 3.0 if name in ("second", "third") else 4.5
                assert (light + 0.05) / (dark + 0.05) >= least, (name, ground)
    # Pictures take their colours from the page.
    assert not re.findall(r"(?:fill|stroke): #", shown.html)


def test_the_numbers_are_in_the_page(shown, evolved):
    script = shown.all("script")[0]
    assert json.loads(script["text"]) == report_data(evolved)


def test_the_same_records_give_the_same_page(shown, evolved):
    assert page(report_data(evolved)) == shown.html


def test_the_users_own_settings_of_matplotlib_count_neither_way(shown, evolved):
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": True, "font.size": 40}):
        before = dict(matplotlib.rcParams)
        assert page(report_data(evolved)) == shown.html
        assert dict(matplotlib.rcParams) == before


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>$x_1$ & \"'"


def test_names_and_errors_are_text_whatever_they_hold(tmp_path):
    space = [{"name": EVIL, "type": "Choice", "values": [EVIL, "b", "c"]}]
    search = search_info(
        tmp_path / "p", name=EVIL, objective=EVIL, space=tuple(space), settings={EVIL: EVIL}
    )
    trials = [
        record_of(n, {EVIL: (EVIL, "b", "c")[n % 3]}, n / 20, parents=(f"{n - 1:04d}",) * (n > 0))
        for n in range(14)
    ]
    shown = written(search, [*trials, failed(14, {EVIL: "b"}, EVIL)])
    assert_whole(shown)
    assert shown.all("h1")[0]["text"] == EVIL
    script = shown.all("script")[0]
    assert json.loads(script["text"])["search"]["name"] == EVIL
    assert [one for one in shown.all("th") if one["text"] == EVIL]


@pytest.mark.parametrize("direction", ["max", "min"])
@pytest.mark.parametrize("trials", [1, 2, 12])
def test_searches_that_have_only_begun(tmp_path, trials, direction):
    search = search_info(tmp_path / "p", direction=direction)
    shown = written(search, evolve(search, trials, failing=0.0, proxies=False))
    assert_whole(shown)
    assert "Calibration of the proxies" not in shown.headings
    (section,) = [one for one in shown.all("section") if one["attributes"]["id"] == "importance"]
    assert ("needs at least 10 finished trials" in section["text"]) == (trials < 10)


def test_a_forest_that_has_learned_nothing_is_not_believed(tmp_path, shown):
    search = search_info(tmp_path / "p")
    trials = evolve(search, 40, failing=0.0)
    rng = np.random.default_rng(0)
    noise = [record_of(n, one.values, rng.random()) for n, one in enumerate(trials)]
    data = report_data(save(search, noise))
    assert data["importance"]["explained"] < 0.1
    assert "These shares mean little" in page(data)
    assert "These shares mean little" not in shown.html
    assert "alone accounts for" in shown.html


def test_equal_scores_and_no_decisions(tmp_path):
    search = search_info(tmp_path / "p", space=())
    shown = written(search, [record_of(n, {}, 0.5, costs={}) for n in range(12)])
    assert_whole(shown)
    assert "The space has no decision with two values." in shown.html


def test_a_space_that_the_search_did_not_know_when_it_began(tmp_path):
    search = search_info(tmp_path / "p")
    trials = evolve(search, 12, failing=0.0)
    shown = written(search_info(tmp_path / "p", space=()), trials)
    assert_whole(shown)
    assert "Lineage of the winner" in shown.headings


def test_constraints_and_what_broke_them(tmp_path):
    limits = [{"name": "parameters", "max": 5e4, "min": None}]
    limits += [{"name": "parameters", "max": None, "min": 10.0}]
    folder = save(search_info(tmp_path / "p", constraints=tuple(limits)), [])
    Refused(count=3, by_constraint={"parameters": 3}).save(folder)
    shown = Page(write_report(folder, tmp_path / "a.html").read_text(encoding="utf-8"))
    assert_whole(shown)
    cells = [one["text"] for one in shown.all("td")]
    assert cells[0] == "3"
    at = cells.index("at most 50,000")
    assert cells[at + 1] == "at least 10"
    assert "it would break a constraint: 3 candidates." in shown.html


def test_a_search_without_a_finished_trial_says_so(tmp_path):
    search = search_info(tmp_path / "p")
    shown = written(search, [failed(1, WIDTH, "ValueError: no way")])
    assert_whole(shown)
    assert "No trial has finished." in shown.html and "ValueError: no way" in shown.html
    assert shown.headings == ["Failures", "The search"]


def test_several_objectives(tmp_path):
    objectives = "val_accuracy (max), flops (min), val_loss (min)"
    search = search_info(
        tmp_path / "p",
        objective="multi_objective",
        strategy="NSGA2Oracle",
        settings={"objectives": objectives},
    )
    shown = written(search, evolve(search, 20))
    assert_whole(shown)
    (section,) = [one for one in shown.all("section") if one["attributes"]["id"] == "front"]
    assert "val_accuracy, flops and val_loss together" in section["text"]
    assert "The picture shows val_accuracy and flops" in section["text"]


def test_the_architecture_of_the_winner_is_drawn(tmp_path):
    search = search_info(tmp_path / "p")
    folder = save(search, [record_of(1, WIDTH, 0.5)])
    layers = [Vertex("input"), Vertex("Dense", {"units": 8}, (0,)), Vertex("output", {}, (1,))]
    graph = Architecture(tuple(layers), WIDTH)
    (folder / "trial_0001" / "architecture.json").write_text(graph.to_json(), encoding="utf-8")
    shown = Page(write_report(folder, tmp_path / "a.html").read_text(encoding="utf-8"))
    assert_whole(shown)
    (drawing,) = [
        one for one in shown.all("svg") if one["attributes"]["aria-labelledby"][:6] == "winner"
    ]
    words = [one["text"] for one in shown.all("text") if drawing in one["inside"]]
    assert {"input", "Dense", "units=8", "output"} <= set(words)
    scroll = drawing["inside"][-1]["attributes"]
    assert scroll["tabindex"] == "0" and scroll["aria-label"]


def test_a_page_of_3000_trials_is_small_and_has_all_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)  # 3,000 times, for records of a test
    search = search_info(tmp_path / "p", max_trials=3000)
    shown = written(search, evolve(search, 3000))
    assert_whole(shown)
    assert len(shown.html.encode()) < 3_000_000
    script = shown.all("script")[0]
    assert len(json.loads(script["text"])["trials"]["score"]) == 3000
    # Drawings are thinned out, and so are tables.
    assert len(shown.html) - len(script["text"]) < 700_000
    rows = [
        sum(row["inside"][-2] is table for row in shown.all("tr")) for table in shown.all("table")
    ]
    assert max(rows) == ROWS + 1  # and the heading


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(tmp_path):
    folder = save(search_info(tmp_path / "p"), [])
    path = write_report(folder, tmp_path / "a.html")
    before = path.read_bytes()
    with pytest.raises(OSError):
        write_report(folder, tmp_path / "nowhere" / "a.html")
    with pytest.raises(OSError):
        write_report(folder, folder)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".tmp")] == []


def test_the_template_is_beside_the_module():
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
def test_what_was_retrained_stands_beside_the_searched_model(tmp_path, seeds):
    models = (
        RetrainedModel(seed=seed, curve=(), weights="", scores={"accuracy": 0.625 + seed / 8})
        for seed in range(seeds)
    )
    measured = {"measured_on": "test", "searched_scores": {"accuracy": 0.4375}}
    shown = _retrained_table(page(report_data(retrained(tmp_path / "p", models, **measured))))
    assert shown[0] == ["model", "accuracy on test rows"]
    assert shown[1:3] == [["searched", "0.4375"], ["retrained, seed 0", "0.625"]]
    several = [
        ["retrained, seed 1", "0.75"],
        ["mean of the retrained", "0.6875"],
        ["standard deviation", "0.08839"],
    ]
    assert shown[3:] == (several if seeds == 2 else [])


def test_what_was_retrained_and_not_measured_says_so(tmp_path):
    models = [RetrainedModel(seed=7, curve=(), weights="")]
    shown = _retrained_table(page(report_data(retrained(tmp_path / "p", models))))
    assert shown[0] == ["model", "accuracy (not measured)"]
    assert [row[0] for row in shown[1:]] == ["searched", "retrained, seed 7"]
    assert "0.5" not in shown[1]


def _retrained_table(html):
    """The rows of the table of what was retrained, as texts."""
    found = Page(html)
    (caption,) = [one for one in found.all("caption") if "retrained on" in one["text"]]
    (inside,) = [one for one in caption["inside"] if one["tag"] == "table"]
    rows = [one for one in found.all("tr") if inside in one["inside"]]
    cells = [one for one in found.elements if one["tag"] in ("td", "th")]
    return [
        [cell["text"].strip() for cell in cells if any(row is one for one in cell["inside"])]
        for row in rows
    ]
