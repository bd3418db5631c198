"""Saved views are written once, and only for known versions of MLflow."""

from __future__ import annotations

import http.server
import json
import logging
import re
import threading
from pathlib import Path

import pytest

from keras_nas_plugin.tracking.mlflow import saved_views as views
from keras_nas_plugin.tracking.mlflow.payload import points_of
from keras_nas_plugin.tracking.mlflow.saved_view_state import ViewKeys, searches_view, trials_view
from keras_nas_plugin.tracking.mlflow.saved_views import view_url, write_views


@pytest.fixture
def experiment(database):
    """A client of an empty store, and the id of an experiment there."""
    from mlflow import MlflowClient

    client = MlflowClient(database)
    return client, client.create_experiment("digits")


@pytest.fixture
def server_answering():
    """Starts servers on loopback that answer every request with the same status and text."""
    servers = []

    def start(status, text):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def saved(client, experiment_id):
    tags = client.get_experiment(experiment_id).tags
    return {tag: value for tag, value in tags.items() if tag.startswith(views.TAG_PREFIX)}


def view_state(search, keys=None):
    return trials_view(search, keys).state


def write_view(client, experiment_id, search):
    (key,) = write_views(client, experiment_id, [trials_view(search)])
    return key


def choice(name, *values, **fields):
    return {"name": name, "type": "Choice", "values": list(values), "conditions": [], **fields}


# The content of a view


def test_the_table_shows_trials_only_sorted_by_the_objective(make_search):
    state = view_state(make_search())
    assert state["orderByKey"] == "metrics.`objective/val_accuracy`"
    assert state["orderByAsc"] is False
    assert state["searchFilter"] == (
        "tags.`nas.kind` = 'trial' and tags.`nas.excluded` IS NULL "
        "and tags.`nas.overwritten_by` IS NULL"
    )
    assert state["selectedColumns"] == [
        "metrics.`objective/val_accuracy`",
        "metrics.`cost/parameters`",
        "metrics.`cost/flops`",
        "metrics.`cost/peak_memory_bytes`",
        "metrics.`cost/train_seconds`",
        "tags.`nas.search_name`",
        "tags.`nas.strategy`",
        "params.`depth`",
        "params.`block`",
    ]
    assert set(state["selectedColumns"]) < set(state["columnOrder"])
    assert set(state["columnWidths"]) == set(state["columnOrder"])


def test_trials_have_every_metric_and_parameter_of_the_view(make_search, make_record):
    search = make_search()
    costs = dict.fromkeys(("parameters", "flops", "peak_memory_bytes", "train_seconds"), 1.0)
    logs = dict.fromkeys(("accuracy", "val_accuracy", "loss", "val_loss"), 0.5)
    record = make_record(0, costs=costs, curves=((logs,),))
    logged = {point.key for point in points_of(record, search)[0]}
    keys = ViewKeys.of(search)
    assert {*keys.costs, *keys.curves, *(name for name, _ in keys.objectives)} <= logged


def test_a_minimised_objective_is_sorted_in_ascending_order(make_search):
    state = view_state(make_search(objective="val_loss", direction="min"))
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`objective/val_loss`", True)


def test_charts_show_every_run_that_the_table_shows(make_search):
    assert view_state(make_search())["runsHiddenMode"] == "SHOW_ALL"


def test_the_charts_are_parallel_coordinates_scatters_and_curves(make_search):
    charts = view_state(make_search())["compareRunCharts"]
    (parallel,) = [chart for chart in charts if chart["type"] == "PARALLEL"]
    assert parallel["selectedParams"] == ["depth", "block"]
    assert parallel["selectedMetrics"] == ["cost/parameters", "objective/val_accuracy"]
    scatters = [chart for chart in charts if chart["type"] == "SCATTER"]
    assert {chart["yaxis"]["key"] for chart in scatters} == {"objective/val_accuracy"}
    assert [chart["xaxis"]["key"] for chart in scatters] == [
        "cost/parameters",
        "cost/flops",
        "cost/peak_memory_bytes",
        "cost/train_seconds",
    ]
    curves = [chart["metricKey"] for chart in charts if chart["type"] == "LINE"]
    assert curves == [
        f"by_epoch/{name}" for name in ("val_accuracy", "accuracy", "val_loss", "loss")
    ]
    assert len(charts) == 1 + len(scatters) + len(curves)


def test_every_chart_is_in_an_open_section_and_has_its_own_id(make_search):
    state = view_state(make_search(), ViewKeys(objectives=(("objective/loss", "min"),)))
    charted = {section["uuid"] for section in state["compareRunSections"] if section["display"]}
    # Without costs and curves there are only parallel coordinates.
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == charted
    state = view_state(make_search())
    everything = state["compareRunSections"] + state["compareRunCharts"]
    assert len({item["uuid"] for item in everything}) == len(everything)


def test_several_objectives_are_plotted_against_each_other(make_search):
    objectives = (("val_accuracy", "max"), ("params", "min"))
    search = make_search(objective="multi_objective", direction="min", objectives=objectives)
    keys = ViewKeys.of(search)
    state = view_state(search)
    assert state["orderByKey"] == "metrics.`objective/val_accuracy`"
    pairs = [
        (chart["xaxis"]["key"], chart["yaxis"]["key"])
        for chart in state["compareRunCharts"]
        if chart["type"] == "SCATTER"
    ]
    assert pairs == [
        ("objective/params", "objective/val_accuracy"),
        ("cost/flops", "objective/val_accuracy"),
        ("cost/peak_memory_bytes", "objective/val_accuracy"),
        ("cost/train_seconds", "objective/val_accuracy"),
    ]
    # A cost that is an objective is not drawn against itself, and has no epochs.
    assert "cost/parameters" not in keys.costs
    assert [curve.removeprefix("by_epoch/") for curve in keys.curves] == [
        "val_accuracy",
        "accuracy",
        "val_loss",
        "loss",
    ]


def test_an_objective_that_is_a_cost_is_plotted_against_the_others(make_search):
    state = view_state(make_search(objective="flops", direction="min"))
    scatters = [chart for chart in state["compareRunCharts"] if chart["type"] == "SCATTER"]
    assert [(chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in scatters] == [
        ("cost/parameters", "objective/flops"),
        ("cost/peak_memory_bytes", "objective/flops"),
        ("cost/train_seconds", "objective/flops"),
    ]


def test_axes_are_hyperparameters_that_every_trial_has(make_search):
    conditions = [{"parent": "block", "values": ["a"]}]
    space = (
        choice("block", "a", "b"),
        choice("only with a", 1, 2, conditions=conditions),
        choice("twice", 1, 2, conditions=conditions),
        choice("twice", 1, 2),
        choice("many texts", *(f"t{n}" for n in range(31))),
        choice("many numbers", *range(31)),
        choice("one value", "a"),
        {"name": "fixed", "type": "Fixed", "value": 3},
        {"name": "flag", "type": "Boolean"},
        {"name": "rate (%)", "type": "Float", "min_value": 0.0, "max_value": 1.0},
        {"name": "tuner/epochs", "type": "Int"},
    )
    keys = ViewKeys.of(make_search(space=space))
    assert keys.axes == ("block", "twice", "many numbers", "flag", "rate ___")
    assert set(keys.params) - set(keys.axes) == {"only with a", "many texts"}


def test_the_view_of_a_large_space_is_limited(make_search):
    keys = ViewKeys.of(make_search(space=tuple(choice(f"u{n}", 1, 2) for n in range(200))))
    assert keys.params == tuple(f"u{n}" for n in range(12))
    assert keys.axes == tuple(f"u{n}" for n in range(6))


# Writing a view


def test_a_view_is_written_once(experiment, make_search):
    client, experiment_id = experiment
    search = make_search()
    key = write_view(client, experiment_id, search)
    before = saved(client, experiment_id)
    assert list(before) == [f"mlflow.sharedViewState.{key}"]
    # The same search, and another one with the same objective and space.
    for second in (search, make_search(search_id="search-2", name="other", directory="elsewhere")):
        assert write_view(client, experiment_id, second) == key
    assert saved(client, experiment_id) == before


def test_axes_are_the_most_important_decisions_once_they_are_known(experiment, make_search):
    client, experiment_id = experiment
    search = make_search(space=tuple(choice(f"u{n}", 1, 2) for n in range(9)))
    (before,) = write_views(client, experiment_id, [trials_view(search)])
    ranked = trials_view(search, important=["u8", "u3"])
    (after,) = write_views(client, experiment_id, [ranked], update=True)
    assert after == before  # the address stays
    (value,) = saved(client, experiment_id).values()
    (parallel,) = [
        chart for chart in views.read_tag(value)["compareRunCharts"] if chart["type"] == "PARALLEL"
    ]
    assert parallel["selectedParams"][:3] == ["u8", "u3", "u0"]
    # A search that starts later does not know the importance, and leaves the order as it is.
    assert write_view(client, experiment_id, search) == before
    assert list(saved(client, experiment_id).values()) == [value]


def test_axes_have_room_for_their_titles_and_ticks(make_search):
    long = tuple(choice(f"stage_1/cell/node_{n}/operation", 1, 2) for n in range(6))
    short = tuple(choice(f"u{n}", 1, 2) for n in range(3))
    texts = (choice("op", "separable_convolution_5x5", "max_pooling"),)
    assert len(ViewKeys.of(make_search(space=long)).axes) == 3
    # The two most important decisions are axes however long their names are.
    important = [long[4]["name"], long[2]["name"]]
    keys = ViewKeys.of(make_search(space=(*long, *texts, *short)), important=important)
    assert keys.axes[:2] == tuple(important)
    axes = ViewKeys.of(make_search(space=(*short, *texts, *long))).axes
    assert axes == ("u0", "u1", "u2", "op")


def test_searches_with_one_objective_share_a_view_that_compares_them(experiment, make_search):
    client, experiment_id = experiment
    other = make_search(search_id="s2", name="wide", space=(choice("units", 8, 16),))
    searches = [make_search(), other]
    keys = [write_views(client, experiment_id, [searches_view(s)])[0] for s in searches]
    assert len(set(keys)) == 1
    (value,) = saved(client, experiment_id).values()
    assert json.loads(value)["name"] == "Searches by val_accuracy"
    state = views.read_tag(value)
    assert state["searchFilter"] == (
        "tags.`nas.kind` = 'search' and tags.`nas.objective` = 'val_accuracy' "
        "and tags.`nas.overwritten_by` IS NULL"
    )
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best_objective`", False)
    lines = [chart for chart in state["compareRunCharts"] if chart["type"] == "LINE"]
    assert [(line["metricKey"], line["xAxisKey"]) for line in lines] == [
        ("best_objective", "step"),
        ("best_objective", "metric"),
    ]
    assert lines[1]["selectedXAxisMetricKey"] == "trial_seconds"
    quoted = searches_view(make_search(objective="it's", direction="min")).state
    assert "= 'it''s'" in quoted["searchFilter"] and quoted["orderByAsc"]


def test_the_tag_is_in_the_format_of_the_ui(experiment, make_search):
    client, experiment_id = experiment
    write_view(client, experiment_id, make_search())
    (value,) = saved(client, experiment_id).values()
    envelope = json.loads(value)
    assert envelope["name"] == "Trials by val_accuracy"
    assert envelope["createdAt"] == envelope["updatedAt"] > 1_700_000_000_000
    assert envelope["state"].startswith("deflate;")
    assert views.read_tag(value) == view_state(make_search())
    with pytest.raises(ValueError, match="begins with 'deflate;'; got 'gzip;abc'"):
        views.read_tag(json.dumps({**envelope, "state": "gzip;abc"}))


def test_a_ui_that_lists_no_views_reads_the_bare_state(experiment, make_search, monkeypatch):
    client, experiment_id = experiment
    monkeypatch.setattr(views, "ui_version", lambda client: "3.15.2")
    write_view(client, experiment_id, make_search())
    (value,) = saved(client, experiment_id).values()
    assert value.startswith("deflate;")
    assert views.read_tag(value) == view_state(make_search())


def test_each_objective_has_a_view(experiment, make_search):
    client, experiment_id = experiment
    searches = [make_search(), make_search(objective="val_loss", direction="min")]
    keys = [write_view(client, experiment_id, search) for search in searches]
    names = {json.loads(value)["name"] for value in saved(client, experiment_id).values()}
    assert len(set(keys)) == 2
    assert names == {"Trials by val_accuracy", "Trials by val_loss"}


def test_views_of_one_objective_over_two_spaces_have_two_names(experiment, make_search):
    client, experiment_id = experiment
    space = (choice("units", 8, 16),)
    client.set_experiment_tag(experiment_id, f"{views.TAG_PREFIX}cut", '{"name": "cut o')
    for search in (make_search(), make_search(name="digits-wide", space=space)):
        write_view(client, experiment_id, search)
    client.delete_experiment_tag(experiment_id, f"{views.TAG_PREFIX}cut")
    names = {json.loads(value)["name"] for value in saved(client, experiment_id).values()}
    assert names == {"Trials by val_accuracy", "Trials by val_accuracy, digits-wide"}


def test_a_view_that_a_user_changed_is_not_overwritten(experiment, make_search):
    client, experiment_id = experiment
    key = write_view(client, experiment_id, make_search())
    client.set_experiment_tag(experiment_id, f"mlflow.sharedViewState.{key}", "theirs")
    assert write_view(client, experiment_id, make_search()) == key
    view = trials_view(make_search(), important=["block"])
    assert write_views(client, experiment_id, [view], update=True) == [key]
    assert list(saved(client, experiment_id).values()) == ["theirs"]


def test_a_view_that_is_too_large_is_not_written_and_logs_a_warning(
    experiment, make_search, caplog
):
    client, experiment_id = experiment
    # Names that compress badly, of the maximum length in MLflow.
    names = ["".join(chr(97 + (n * k * k) % 26) for k in range(240)) for n in range(1, 13)]
    search = make_search(
        objectives=tuple((f"{name}{n}", "max") for n, name in enumerate(4 * names))
    )
    with caplog.at_level(logging.WARNING, "keras_nas_plugin"):
        assert write_view(client, experiment_id, search) is None
    (line,) = caplog.messages
    assert "at most 5,000 characters" in line
    assert saved(client, experiment_id) == {}


# Versions


def test_no_view_is_written_for_an_unknown_version(experiment, make_search, caplog, monkeypatch):
    client, experiment_id = experiment
    monkeypatch.setattr(views, "KNOWN_VERSIONS", {"2.0": True})
    with caplog.at_level(logging.WARNING, "keras_nas_plugin"):
        assert write_view(client, experiment_id, make_search()) is None
    (line,) = caplog.messages
    assert line.startswith("No saved view was written: the UI of MLflow 3.")
    assert "known: 2.0" in line
    assert saved(client, experiment_id) == {}


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (200, "99.1.0", "MLflow 99.1.0 is not known"),
        (200, "<html>a gateway's page</html>", "MLflow of unknown version"),
        (401, "who are you?", "MLflow of unknown version"),
    ],
)
def test_no_view_is_written_for_an_unknown_version_of_a_server(
    server_answering, make_search, caplog, status, text, reason
):
    from mlflow import MlflowClient

    client = MlflowClient(server_answering(status, text))
    with caplog.at_level(logging.WARNING, "keras_nas_plugin"):
        assert write_view(client, "1", make_search()) is None
    (line,) = caplog.messages
    assert reason in line


def test_no_view_is_written_for_hosted_services(monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("DATABRICKS_HOST", "https://127.0.0.1")
    monkeypatch.setenv("DATABRICKS_TOKEN", "none")
    assert views.ui_version(MlflowClient("databricks")) is None


def test_the_version_of_a_server_is_read(server_answering):
    from mlflow import MlflowClient

    assert views.ui_version(MlflowClient(server_answering(200, "3.17.2\n"))) == "3.17.2"


def test_the_installed_ui_contains_every_name_of_the_state(make_search):
    """The script of the UI contains the names; `tests/ui` opens the view in a browser."""
    import mlflow.server

    scripts = Path(mlflow.server.__file__).parent / "js" / "build" / "static" / "js"
    program = "\n".join(path.read_text("utf-8") for path in scripts.glob("*.js"))
    assert f'"{views.TAG_PREFIX}"' in program
    lists = re.findall(r'\[(?:"\w+",){3,}"\w+"\]', program)
    (of_page,) = [json.loads(text) for text in lists if '"compareRunCharts"' in text]
    (of_search,) = [json.loads(text) for text in lists if '"orderByAsc"' in text]
    for view in (trials_view, searches_view):
        assert view(make_search()).state.keys() <= {*of_page, *of_search}


# The address of a view


def test_the_address_opens_charts_or_the_table():
    url = view_url("http://host:5000/#/experiments/7/runs?workflowType=machine_learning", "abc")
    start, _, query = url.partition("?")
    assert start == "http://host:5000/#/experiments/7/runs"
    assert set(query.split("&")) == {
        "workflowType=machine_learning",
        "viewStateShareKey=abc",
        "compareRunsMode=CHART",
    }
    table = view_url(
        "http://host:5000/#/experiments/7/runs?workflowType=machine_learning", "abc", mode="TABLE"
    )
    assert "compareRunsMode=TABLE" in table
