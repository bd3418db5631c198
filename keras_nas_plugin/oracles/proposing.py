"""From what a strategy proposes to the values of a trial."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import InfeasibleError
from keras_nas_plugin.oracles.scoring import check_proposal
from keras_nas_plugin.oracles.screening import Screening
from keras_nas_plugin.oracles.store import project_path
from keras_nas_plugin.space.spec import Values

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

logger = logging.getLogger("keras_nas_plugin")


def next_values(oracle: NASOracle, trial_id: str) -> Values | None:
    """Ask the strategy until the screen lets a proposal pass.

    Args:
        oracle: Who asks.
        trial_id: Id of the trial to come.

    Returns:
        The trial's values; None when nothing is left, or too many in a row were refused.

    Raises:
        StrategyError: See `NASOracle.populate_space`.
        InfeasibleError: Nothing passed, and there has not been any trial.
    """
    refusals = oracle.refusals
    while not refusals.hopeless:
        before = oracle.rng.bit_generator.state
        try:
            values, parents = _proposal(oracle)
            if values is not None:
                values, judged = screened(oracle, values)
                if not judged.feasible:
                    ended = len(oracle.end_order)
                    refused = refusals.append(project_path(oracle), values, judged, ended)
        except BaseException:
            # The same call after a mended fault makes the same proposal.
            oracle.rng.bit_generator.state = before
            raise
        if values is None:
            # Nobody counts how often it was asked in vain.
            oracle.rng.bit_generator.state = before
            break
        if judged.feasible:
            refusals.trial_began()
            oracle._screened[trial_id] = dict(judged.metrics)
            oracle.ledger.parents[trial_id] = parents
            return values
        oracle.ledger.record_key(refused.trial_id, oracle.spec.key(values))
        oracle._untold.append(refused)
        oracle._tell()
        oracle.save()
    if refusals.in_a_row:
        _give_up(oracle)
    return None


def _proposal(oracle: NASOracle) -> tuple[Values | None, tuple[str, ...]]:
    """Values, and the trials that they were bred from."""
    spec = oracle.spec
    values = oracle._warm_start.wanted(spec, oracle.ledger.tried)
    if values is not None:
        return values, ()
    pending, tried = oracle._pending(), oracle._tried
    values = oracle.strategy.ask(spec, oracle.rng, tried=tried, pending=pending)
    while oracle.spec is not spec:
        # It looked at models, and these asked for hyperparameters that were not known.
        spec = oracle.spec
        values = oracle.strategy.ask(spec, oracle.rng, tried=tried, pending=pending)
    if values is not None:
        check_proposal(oracle.strategy, spec, values, tried)
    return values, oracle.strategy.parents


def screened(oracle: NASOracle, values: Values) -> tuple[Values, Screening]:
    """Judge a proposal; hyperparameters that building its model asks for join the space.

    Returns:
        The values, with the defaults of what is new, and what the screen says.
    """
    if oracle.screen is None:
        return values, Screening()
    hyperparameters = oracle.hyperparameters.copy()
    hyperparameters.values = dict(values)
    known = len(hyperparameters.space)
    judged = oracle.screen(hyperparameters)
    if len(hyperparameters.space) > known and oracle.allow_new_entries:
        # Where new entries are refused, the trial says so when it builds its model.
        oracle.update_space(hyperparameters)
        spec = oracle.spec
        found = {n: value for n, value in hyperparameters.values.items() if n in spec.names}
        values = spec.restrict(found)
    return values, judged


def _give_up(oracle: NASOracle) -> None:
    """End the search for want of feasible candidates: quietly where there are trials.

    Raises:
        InfeasibleError: There is no trial at all.
    """
    reason = oracle.refusals.reason()
    if oracle.refusals.hopeless:
        reason += (
            f" `max_consecutive_infeasible` allows fewer than {oracle.refusals.limit:,} in a row."
        )
    else:
        reason += " No other configuration of the search space is left."
    if not oracle.start_order:
        raise InfeasibleError(f"{reason} Relax the constraint, or search among smaller models.")
    if oracle.stop_reason != reason:
        oracle.stop_reason = reason
        logger.warning("The search ends: %s", reason)
