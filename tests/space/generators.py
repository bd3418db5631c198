"""Random search spaces for property tests."""

from hypothesis import assume
from hypothesis import strategies as st

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec

_LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)
_NUMBERS = st.lists(st.sampled_from([1, 2, 4, 8]), min_size=1, max_size=3, unique=True)


@st.composite
def _finite_domains(draw):
    kind = draw(st.sampled_from(["labels", "numbers", "linear", "ratio", "grid", "boolean"]))
    if kind == "labels":
        return Categorical(tuple(draw(_LABELS)))
    if kind == "numbers":
        return Categorical(tuple(draw(_NUMBERS)), ordered=True)
    if kind == "boolean":
        return Categorical((False, True))
    low = draw(st.integers(1, 4))
    if kind == "linear":
        return Integer(low, low + draw(st.integers(0, 4)), draw(st.sampled_from([None, 2])))
    if kind == "ratio":
        sampling = draw(st.sampled_from(["log", "reverse_log"]))
        return Integer(low, low * draw(st.sampled_from([1, 2, 4])), 2, sampling)
    return Real(0.0, draw(st.sampled_from([0.3, 0.5, 1.0])), 0.25)


@st.composite
def _endless_domains(draw):
    low = draw(st.floats(0.001, 1.0))
    sampling = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    return Real(low, low * draw(st.floats(1.01, 100.0)), None, sampling)


@st.composite
def specs(draw, endless=False):
    """Conditional spaces in which names may be repeated, in any order."""
    domains = _finite_domains() | _endless_domains() if endless else _finite_domains()
    decisions = []
    for number in range(draw(st.integers(1, 5))):
        used = sorted({decision.name for decision in decisions})
        name = draw(st.sampled_from([f"d{number}", f"d{number}", *used]))
        conditions = []
        for parent in draw(st.lists(st.sampled_from(used), max_size=2)) if used else ():
            values = [
                value
                for decision in decisions
                if decision.name == parent and decision.domain.size is not None
                for value in decision.domain.values()
            ]
            if parent != name and values:
                chosen = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
                conditions.append(Condition(parent, tuple(chosen)))
        decisions.append(Decision(name, draw(domains), tuple(conditions)))
    try:
        return SearchSpec(tuple(draw(st.permutations(decisions))))
    except SearchSpaceError:
        assume(False)
