"""A search that is killed at any moment resumes with the results of an uninterrupted one."""

from __future__ import annotations

import json
import signal
import time

import numpy as np
import pytest

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.files import read_json
from keras_nas_plugin.records.trial import FINISHED, load_records
from tests.integration import harvest

KILLS = 18
TRIALS = 7
SEED = 20_240_601
TARGET = "tests.integration.killable:search"


@pytest.fixture(scope="module")
def uninterrupted(server, new_store, tmp_path_factory):
    """The result of the search without kills, and the number of its lasting effects."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    store = new_store(folder)
    before = time.monotonic()
    child = server.run(TARGET, cwd=folder, attempt=0, max_trials=TRIALS, store=store)
    assert child.returncode == 0, child.err
    result = read_json(folder / "result.json")
    result["seconds"] = time.monotonic() - before
    result["runs"] = harvest.trial_runs(store, folder)
    assert len(result["trials"]) == len(result["runs"]) == TRIALS
    rates = {trial["values"]["rate"] for trial in result["trials"]}
    assert len(rates) > 1, "the hyperparameter that only `fit` requests is searched too"
    return result


class Searches:
    """Runs one search after another, and restarts each one after a kill until it completes."""

    def __init__(self, server, new_store, root, reference):
        self.server, self.new_store, self.root = server, new_store, root
        self.reference = reference
        self.kills = 0
        self.retrained = 0
        self.killed_in_mlflow = 0
        self._count = -1
        self._begin()

    def _begin(self):
        self._count += 1
        self.folder = self.root / f"search{self._count}"
        self.folder.mkdir()
        self.store = self.new_store(self.folder)
        self.attempt = 0
        self.finished = {}

    def start(self, **options):
        return self.server.start(
            TARGET,
            cwd=self.folder,
            attempt=self.attempt,
            max_trials=TRIALS,
            store=self.store,
            **options,
        )

    def ended(self, child):
        """Check what a process left behind; the next process resumes the same search."""
        code = child.wait()
        assert code in (0, -signal.SIGKILL), child.err
        self._check_no_second_training()
        if code == 0:
            self.check_outcome()
            self._begin()
            return
        self.kills += 1
        self.attempt += 1
        self._note_finished()

    def _note_finished(self):
        """Note the trials whose records are on disk: no later process may train them again."""
        for record in load_records(self.folder / "searches" / "digits"):
            assert record.status == FINISHED
            values = json.dumps(dict(record.values), sort_keys=True)
            self.finished.setdefault(values, self.attempt)

    def _check_no_second_training(self):
        for attempt, values in harvest.completed(self.folder):
            assert attempt < self.finished.get(values, attempt + 1), (
                f"process {attempt} trained {values} again"
            )

    def check_outcome(self):
        """Check that the search equals the uninterrupted one."""
        result = read_json(self.folder / "result.json")
        assert result["trials"] == self.reference["trials"]
        assert result["best"] == self.reference["best"]
        assert result["running"] == []
        project = self.folder / "searches" / "digits"
        on_disk = [
            read_json(path)["status"] for path in sorted(project.glob("trial_*/trial.json"))
        ]
        assert on_disk == ["COMPLETED"] * TRIALS
        assert [record.status for record in load_records(project)] == [FINISHED] * TRIALS
        assert list(project.glob("**/.tmp-*")) == []
        assert list(project.glob("outbox/*")) == []
        completed = [values for _, values in harvest.completed(self.folder)]
        assert set(completed) == {
            json.dumps(trial["values"], sort_keys=True) for trial in result["trials"]
        }
        # A kill between the end of a training and its record loses that training.
        self.retrained += len(completed) - len(set(completed))
        assert len(completed) - len(set(completed)) <= self.attempt
        runs = harvest.trial_runs(self.store, self.folder)
        assert runs == self.reference["runs"]


def test_eighteen_kills_do_not_change_the_results(server, new_store, tmp_path, uninterrupted):
    rng = np.random.default_rng(SEED)
    searches = Searches(server, new_store, tmp_path, uninterrupted)
    # Two of three kills are at a write, a flush, a rename, or a statement to the database: one in
    # each part of the first half of a search, of which the next process runs the rest.
    strata = KILLS * 2 // 3
    counts = 1 + (rng.permutation(strata) + rng.uniform(size=strata)) / strata * (
        uninterrupted["changes"] // 2 - 1
    )
    attempts = 0
    while searches.kills < KILLS:
        attempts += 1
        assert attempts < 3 * KILLS
        if attempts % 3:
            count = int(counts[(attempts - attempts // 3 - 1) % strata])
            searches.ended(searches.start(kill_at=count))
        else:
            child = searches.start()
            time.sleep(rng.uniform(0, uninterrupted["seconds"] / 2))
            child.signal(signal.SIGKILL)
            searches.ended(child)
    if searches.attempt:
        searches.ended(searches.start())
    assert searches.kills == KILLS
    # A training is repeated only after a kill in the few milliseconds between two files.
    assert searches.retrained <= KILLS // 3


def test_a_killed_search_can_be_read(server, new_store, tmp_path, uninterrupted):
    from click.testing import CliRunner

    child = server.run(
        TARGET,
        cwd=tmp_path,
        attempt=0,
        max_trials=TRIALS,
        store=new_store(tmp_path),
        kill_at=uninterrupted["changes"] * 2 // 3,
    )
    assert child.returncode == -signal.SIGKILL
    words = ["--directory", str(tmp_path / "searches"), "--json"]
    output = CliRunner().invoke(cli, ["trials", *words], catch_exceptions=False)
    finished = json.loads(output.stdout)
    assert 2 <= len(finished) < TRIALS
    expected = {t["trial_id"]: t["score"] for t in uninterrupted["trials"]}
    assert {t["trial_id"]: t["score"] for t in finished}.items() <= expected.items()
