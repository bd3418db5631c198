"""The leaderboard of a search, and the note that describes the search."""

from __future__ import annotations

import dataclasses

import pytest

from keras_nas_plugin.records.ranking import violates_constraints
from keras_nas_plugin.records.search import InfeasibleSummary
from keras_nas_plugin.space.language.architecture import Architecture, Vertex
from keras_nas_plugin.tracking.summary.description import domain_size, render_note, space_size
from keras_nas_plugin.tracking.summary.leaderboard import TOP, Leaderboard


@pytest.fixture
def build_summary(make_search, make_record):
    def build(records, **changes):
        search = make_search(**changes)
        board = Leaderboard(search)
        for record in records:
            board.add(record)
        return search, board

    return build


@pytest.mark.parametrize(("direction", "order"), [("max", [29, 28, 27]), ("min", [0, 1, 2])])
def test_the_best_ten_trials_are_ranked(build_summary, make_record, direction, order):
    numbers = [(7 * i) % 30 for i in range(30)]
    _, board = build_summary([make_record(i) for i in numbers], direction=direction)
    assert [int(record.trial_id) for record in board.top[:3]] == order
    assert len(board.top) == TOP
    assert board.best is board.top[0]


def test_equal_scores_rank_in_the_order_in_which_the_trials_ended(build_summary, make_record):
    _, board = build_summary([make_record(i, score=0.5) for i in (4, 2, 3)])
    assert [record.trial_id for record in board.top] == ["02", "03", "04"]


def test_the_leaderboard_counts_trials_by_status_and_returns_progress(make_search, make_record):
    board = Leaderboard(make_search())
    assert board.add(make_record(0, status="FAILED")) is None
    assert board.add(make_record(1)) == (2, 0.51, make_record(1).ended_ms)
    assert board.add(make_record(2, status="KILLED")) is None
    assert board.add(make_record(3, status="FAILED")) is None
    assert board.counts == {"FINISHED": 1, "FAILED": 2, "KILLED": 1}
    # The step is the number of ended trials; a trial that is trained again keeps its step.
    assert board.add(make_record(4)).step == 4
    assert board.add(make_record(3)).step == 4


def test_a_later_attempt_replaces_the_record_of_an_earlier_one(make_search, make_record):
    board = Leaderboard(make_search())
    board.add(make_record(0))
    board.add(make_record(1, status="FAILED"))
    board.add(dataclasses.replace(make_record(1), score=0.9))
    assert board.counts == {"FINISHED": 2, "FAILED": 0, "KILLED": 0}
    assert board.failures == []
    assert board.best.score == 0.9


def test_a_leaderboard_does_not_grow_with_the_search(make_search, make_record):
    board = Leaderboard(make_search())
    for i in range(300):
        board.add(make_record(i, status="FAILED" if i % 2 else "FINISHED"))
    assert len(board.top) == TOP and len(board.failures) == 5


def test_the_note_describes_the_search_and_its_results(build_summary, make_record):
    records = [make_record(0), make_record(1), make_record(2, status="FAILED")]
    note = render_note(*build_summary(records, directory="/my searches/digits"))
    assert note.startswith("## digits-evolution\n")
    assert "**RegularizedEvolutionOracle** looks for the highest `val_accuracy`" in note
    assert "3 of 12 trials ended: 2 finished, 1 failed, 0 killed" in note
    assert "up to 8 architectures in 2 decisions: `depth`, `block`" in note
    assert "- digits (training): x float32 (1437, 8, 8, 1), y int64 (1437)" in note
    assert "- digits (validation): rows 180" in note
    assert "| 1 | 01 | 0.51 | 1,001 | 1.5 | depth=2, block=normal |" in note
    assert "**Failures by cause:** ValueError 1. The last:" in note
    assert "- 02: ValueError: bad layer" in note
    assert "They took 18 s." in note
    assert "```sh\nkeras-nas search recipe.py --resume\n```" in note
    register = "keras-nas register NAME --directory '/my searches' --project-name digits"
    assert f"```sh\n{register}\n```" in note
    assert "Best architecture" not in note


def test_the_note_of_one_trial_is_in_the_singular(build_summary, make_record):
    note = render_note(*build_summary([make_record(0)], max_trials=None))
    assert "1 trial ended: 1 finished, 0 failed, 0 killed. It took 6 s." in note


def test_the_note_shows_the_best_architecture_and_the_frontier(
    build_summary, make_record, tmp_path
):
    """Two of six models are worse than a smaller one; the best trial has its graph on disk."""
    sizes = {0: 900.0, 1: 700.0, 2: 800.0, 3: 1_500.0, 4: 1_400.0, 5: 2_000.0}
    records = [make_record(i, costs={"parameters": size}) for i, size in sizes.items()]
    search, board = build_summary(records, directory=str(tmp_path))
    assert [record.trial_id for record in board.frontier] == ["01", "02", "04", "05"]
    board.add(make_record(2, status="FAILED"))
    assert [record.trial_id for record in board.frontier] == ["01", "04", "05"]
    graph = Architecture((Vertex("input"), Vertex("Dense", {"units": 4}, (0,))), {"depth": 2})
    (tmp_path / "trial_05").mkdir()
    (tmp_path / "trial_05" / "architecture.json").write_text(graph.to_json(), "utf-8")
    note = render_note(search, board)
    assert f"**Best architecture (trial 05):**\n\n```\n{graph}\n```" in note
    rows = [line for line in note.splitlines() if line.startswith(("| 700 |", "| 1,400 |"))]
    assert rows == ["| 700 | 0.51 | 01 |", "| 1,400 | 0.54 | 04 |"]
    (tmp_path / "trial_05" / "architecture.json").write_text("{}", "utf-8")
    assert "Best architecture" not in render_note(search, board)


def test_the_note_counts_infeasible_candidates(build_summary, make_record, tmp_path):
    search, board = build_summary([make_record(0)], directory=str(tmp_path))
    assert "Constraints" not in render_note(search, board)
    counts = {"params": 30, "flops": 1_012}
    InfeasibleSummary(count=1_040, by_constraint=counts, reason="nothing\nfits").save(tmp_path)
    text = "1,040 candidates were infeasible and not trained (params 30, flops 1,012)."
    assert f"\n\n**Constraints:** {text} nothing fits\n\n" in render_note(search, board)
    assert str(InfeasibleSummary(count=1, by_constraint={"params": 1})).startswith(
        "1 candidate was"
    )


def test_constraints_accept_short_names_of_costs(make_search, make_record):
    search = make_search(constraints=({"name": "params", "max": 1_000.0, "min": None},))
    feasible, infeasible = make_record(0), make_record(1)
    assert (feasible.costs["parameters"], infeasible.costs["parameters"]) == (1_000, 1_001)
    assert not violates_constraints(search, feasible) and violates_constraints(search, infeasible)
    assert violates_constraints(search, make_record(2, costs={}))


def test_values_with_pipes_do_not_break_the_table(build_summary, make_record):
    note = render_note(*build_summary([make_record(0, values={"act": "a|b\nc"})]))
    assert "| act=a\\|b c |" in note


def test_a_note_never_exceeds_the_limit_of_mlflow(build_summary, make_record):
    records = [make_record(i, values={f"h{k}": "v" * 90 for k in range(99)}) for i in range(40)]
    records += [make_record(50 + i, status="FAILED", error="E" * 9_999) for i in range(9)]
    search, board = build_summary(records, resume_command="x" * 9_000)
    note = render_note(search, board)
    assert len(note) == 8_000
    assert "[cut:" in note[-40:]
    assert "| 10 | 30 |" in note


def test_a_search_without_trials_has_a_note(build_summary):
    note = render_note(
        *build_summary([], space=(), datasets=(), resume_command=None, environment={})
    )
    assert "0 of 12 trials ended" in note
    assert "|" not in note and "```" not in note


@pytest.mark.parametrize(
    ("hyperparameter", "size"),
    [
        ({"type": "Boolean"}, 2),
        ({"type": "Fixed", "value": 3}, 1),
        ({"type": "Choice", "values": ["a", "b", "c"]}, 3),
        ({"type": "Int", "min_value": 16, "max_value": 64, "step": 16}, 4),
        ({"type": "Int", "min_value": 1, "max_value": 8, "step": None}, 8),
        ({"type": "Int", "min_value": 1, "max_value": 8, "step": 2, "sampling": "log"}, 4),
        ({"type": "Float", "min_value": 0.0, "max_value": 1.0, "step": 0.2}, 6),
        ({"type": "Float", "min_value": 0.0, "max_value": 1.0, "step": None}, None),
    ],
)
def test_the_size_of_a_domain_and_of_a_space(hyperparameter, size):
    assert domain_size(hyperparameter) == size
    assert space_size([hyperparameter, {"type": "Boolean"}]) == (size and size * 2)
