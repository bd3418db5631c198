"""All contracts of an oracle, as functions and as a class that pytest collects."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from keras_nas_plugin.testing import failures, parallel, proposals, screening, searches, state
from keras_nas_plugin.testing.driving import MakeOracle

#: Properties of an oracle: name, and a check that raises AssertionError where it is violated.
PROPERTIES: Mapping[str, Callable[[MakeOracle, Path], None]] = {
    check.__name__: check
    for check in (
        proposals.proposals_are_valid_and_new,
        proposals.seeds_decide,
        proposals.reloads_change_nothing,
        proposals.exhausted_space_stops,
        proposals.space_grows,
        proposals.new_entries_can_be_refused,
        proposals.new_entries_can_keep_their_default,
        proposals.wire_changes_nothing,
        screening.infeasible_proposals_cost_no_trial,
        failures.ask_may_raise,
        failures.tell_may_raise,
        failures.useless_scores_fail,
        failures.failed_trials_run_again,
        failures.too_many_failures_end_the_search,
        state.running_trials_run_again,
        state.late_reports_count,
        state.reloading_twice_changes_nothing,
        state.telling_twice_changes_nothing,
        state.state_stays_small,
        parallel.tuners_keep_their_trial,
        parallel.threads_share_an_oracle,
        searches.stock_tuner_searches,
        searches.nas_tuner_searches,
    )
}


def check_oracle(make_oracle: MakeOracle, property_name: str) -> None:
    """Check one property of an oracle in a temporary folder.

    Args:
        make_oracle: Called with keyword arguments of `NASOracle`; an oracle class is one.
        property_name: A key of `PROPERTIES`.

    Raises:
        AssertionError: The property is violated; the message says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        PROPERTIES[property_name](make_oracle, Path(folder) / "search")


class OracleContract:
    """Base class of a pytest class with one test per property.

    ```python
    class TestMyOracle(OracleContract):
        oracle_class = MyOracle
    ```

    Attributes:
        oracle_class: The class under test, or a function that makes an oracle.
    """

    oracle_class: MakeOracle


def _test_of(name: str) -> Callable[[OracleContract], None]:
    def test(self: OracleContract) -> None:
        check_oracle(type(self).oracle_class, name)

    test.__name__, test.__doc__ = f"test_{name}", PROPERTIES[name].__doc__
    return test


for _name in PROPERTIES:
    setattr(OracleContract, f"test_{_name}", _test_of(_name))
