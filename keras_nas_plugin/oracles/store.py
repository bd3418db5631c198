"""The files of a search: what is written when, and what a killed process leaves.

A trial's file says how it ended; ``oracle.json`` says how many trials were started, how many
candidates were refused before (see `screening`), and where the generator stands. Each is
replaced atomically, the trial's first. A kill between the two leaves a started trial that
``oracle.json`` does not count (it is proposed again, with the same values), or an ended one
that it does not know (the file counts).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras_tuner
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import read_json, remove_leftovers, write_json
from keras_nas_plugin.oracles.scoring import enter_ranking, observation_of
from keras_nas_plugin.oracles.screening import limits_of, restored
from keras_nas_plugin.strategies.base import Observation

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

FORMAT = 1
_ORACLE_FILE = "oracle.json"
_TRIAL_FILE = "trial.json"


def project_path(oracle: NASOracle) -> Path | None:
    """Folder of the search; None for an oracle that no tuner has given one.

    KerasTuner 1.4.8 tells an oracle its folder through a private method only.
    """
    if getattr(oracle, "_project_name", None) is None:
        return None
    return Path(str(oracle._directory)) / oracle._project_name


def save_trial(oracle: NASOracle, trial: Trial) -> None:
    """Write one trial with its place in the order of ends and its number of runs.

    What a full disk kept from being written is written with the next trial.
    """
    project = project_path(oracle)
    if project is None:
        return
    oracle._unsaved[trial.trial_id] = trial
    ledger = oracle.ledger
    for trial_id, unsaved in list(oracle._unsaved.items()):
        folder = project / f"trial_{trial_id}"
        folder.mkdir(parents=True, exist_ok=True)
        extra = {"ended": ledger.ended(trial_id), "runs": ledger.runs[trial_id]}
        if found := oracle.screened_metrics(trial_id):
            extra["screened"] = dict(found)
        if parents := ledger.parents.get(trial_id):
            extra["parents"] = list(parents)
        write_json(folder / _TRIAL_FILE, {**unsaved.get_state(), "nas": extra})
        del oracle._unsaved[trial_id]


def load_parents(folder: Path) -> tuple[str, ...]:
    """The trials that a trial was bred from, out of its folder; none where nothing says so."""
    try:
        return tuple(read_json(folder / _TRIAL_FILE).get("nas", {}).get("parents", ()))
    except FileNotFoundError:
        return ()


def save_oracle(oracle: NASOracle) -> None:
    """Write the oracle's own state."""
    project = project_path(oracle)
    if project is None:
        return
    project.mkdir(parents=True, exist_ok=True)
    write_json(project / _ORACLE_FILE, oracle.get_state())


def oracle_state(oracle: NASOracle) -> dict[str, Any]:
    """Everything that the trials' files do not say."""
    return {
        "format": FORMAT,
        "search": _identity(oracle),
        "seed": oracle.seed,
        "generator": oracle.rng.bit_generator.state,
        "started": oracle._started,
        "id_width": oracle._id_width,
        "hyperparameters": oracle.hyperparameters.get_config(),
        "strategy": oracle.strategy.get_state(),
        "refused": {**oracle.refusals.state(), "limits": limits_of(oracle.constraints)},
    }


def _identity(oracle: NASOracle) -> dict[str, Any]:
    """What must be equal for a search to go on."""
    objectives = [[o.name, o.direction] for o in oracle.objectives]
    return {"strategy": oracle.strategy_name, "objectives": objectives}


def _in_words(identity: Mapping[str, Any]) -> str:
    objectives = " and ".join(f"{name} ({way})" for name, way in identity["objectives"])
    return f"{identity['strategy']} for {objectives}"


def restore_oracle(oracle: NASOracle, state: Mapping[str, Any]) -> None:
    """Put an oracle into a saved state; its trials are loaded already.

    Raises:
        StateError: The state is of another format, strategy or objective.
    """
    if state.get("format") != FORMAT:
        raise StateError(
            f"`{_ORACLE_FILE}` needs format {FORMAT}; received {state.get('format')!r}. Another "
            "version or another oracle wrote it: choose another `project_name`, or pass "
            "`overwrite=True` to start over."
        )
    if state["search"] != _identity(oracle):
        raise StateError(
            f"the saved search is {_in_words(state['search'])}, and `oracle` is "
            f"{_in_words(_identity(oracle))}. Choose another `project_name` (`--project-name`), "
            "or start over with `overwrite=True` (`--overwrite`)."
        )
    oracle.seed = state["seed"]
    oracle.rng.bit_generator.state = state["generator"]
    oracle._started, oracle._id_width = state["started"], state["id_width"]
    oracle.hyperparameters = keras_tuner.HyperParameters.from_config(state["hyperparameters"])
    oracle._spec_cache = None
    oracle.start_order = [oracle.trial_id(number) for number in range(oracle._started)]
    oracle.ongoing_trials = {}
    _restore_trials(oracle)
    refused = _restore_refused(oracle, state.get("refused", {}))
    history = [*oracle._warm_start.observations, *refused.pop(0, ())]
    for number, trial_id in enumerate(oracle.end_order, start=1):
        history += [observation_of(oracle, oracle.trials[trial_id]), *refused.pop(number, ())]
    oracle.strategy.set_state(state["strategy"], history)


def _restore_refused(oracle: NASOracle, state: Mapping[str, Any]) -> dict[int, list[Observation]]:
    """Candidates refused before training, by the number of trials that had ended."""
    refusals = oracle.refusals
    refusals.restore(state)
    limits = state.get("limits", [])
    if limits != limits_of(oracle.constraints):
        # Under other limits the search begins to look anew.
        refusals.trial_began()
    oracle.stop_reason = None
    return restored(oracle, refusals.read(project_path(oracle)), limits)


def _restore_trials(oracle: NASOracle) -> None:
    """Rebuild orders, ranking and tried configurations from the trials."""
    # A trial beyond the count was written by a process that died before it was counted.
    known = set(oracle.start_order)
    oracle.trials = {key: trial for key, trial in oracle.trials.items() if key in known}
    missing = sorted(known - oracle.trials.keys())
    if missing:
        raise StateError(
            f"the project folder needs a readable `{_TRIAL_FILE}` for each started trial; "
            f"received none for {missing}"
        )
    places = {key: place for key in known if (place := oracle.ledger.ended(key)) is not None}
    oracle.end_order = sorted(places, key=places.get)
    oracle._untold = []
    for trial_id in oracle.end_order if oracle.allow_new_entries else ():
        # A process that died after this file may not have written the space it grew to.
        oracle.update_space(oracle.trials[trial_id].hyperparameters)
    oracle._waiting = [key for key in oracle.start_order if key not in places]
    for trial_id in oracle.start_order:
        values = oracle.trials[trial_id].hyperparameters.values
        oracle.ledger.record_key(trial_id, oracle.spec.key(values))


def reload_oracle(oracle: NASOracle) -> None:
    """Read what `save_trial` and `save_oracle` wrote.

    Raises:
        StateError: A file cannot be read or belongs to another search.
    """
    project = project_path(oracle)
    try:
        state = read_json(project / _ORACLE_FILE)
    except FileNotFoundError:
        # Killed before the first trial was handed out: nothing to go on with.
        return
    remove_leftovers(project)
    loaded = [read_json(path) for path in project.glob(f"trial_*/{_TRIAL_FILE}")]
    oracle._warm_start.load(project, begun=state.get("started", 0) > 0)
    ended = []
    for data in loaded:
        trial = Trial.from_state(data)
        oracle.trials[trial.trial_id] = trial
        extra = data.get("nas", {})
        oracle.ledger.runs[trial.trial_id] = extra.get("runs", 0)
        oracle._screened[trial.trial_id] = extra.get("screened", {})
        oracle.ledger.parents[trial.trial_id] = tuple(extra.get("parents", ()))
        if extra.get("ended") is not None:
            ended.append((extra["ended"], trial))
    for _, trial in sorted(ended, key=lambda item: item[0]):
        enter_ranking(oracle, trial)
    oracle.set_state(state)
