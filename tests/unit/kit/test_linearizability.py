"""The checker itself: it accepts what is linearizable, and nothing else."""

from __future__ import annotations

import itertools
import math
import pickle

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from podnet.testing import UNKNOWN, NotLinearizableError, Operation, check_history, is_linearizable


class Register:
    """A number that is read, written, and compared and set."""

    initial = 0

    def following(self, state, call, answer):
        what, *values = call
        if what == "read":
            return [state] if answer in (UNKNOWN, state) else []
        if what == "write":
            return [values[0]]
        expected, new = values
        if answer is UNKNOWN:
            return [new] if state == expected else []
        return [new if answer else state] if answer == (state == expected) else []


def op(call, answer, start, end=math.inf, who="a"):
    return Operation(who=who, call=call, answer=answer, start=start, end=end)


def precedes(one, two):
    return one.answer is not UNKNOWN and one.end < two.start


def brute_force(history, model):
    """Every order of every choice of the calls of unknown outcome."""
    known = [x for x in history if x.answer is not UNKNOWN]
    lost = [x for x in history if x.answer is UNKNOWN]
    for count in range(len(lost) + 1):
        for some in itertools.combinations(lost, count):
            for order in itertools.permutations(known + list(some)):
                if any(precedes(late, early) for early, late in itertools.combinations(order, 2)):
                    continue
                states = {model.initial}
                for each in order:
                    steps = (model.following(state, each.call, each.answer) for state in states)
                    states = set(itertools.chain(*steps))
                if states:
                    return True
    return False


calls = st.one_of(
    st.just(("read",)),
    st.tuples(st.just("write"), st.integers(0, 3)),
    st.tuples(st.just("cas"), st.integers(0, 3), st.integers(0, 3)),
)
answers = st.one_of(st.integers(0, 3), st.booleans(), st.just(UNKNOWN))


def sequential(some):
    """What a register answers to the calls, one after the other."""
    state = 0
    for call in some:
        if call[0] == "read":
            yield state
        elif call[0] == "write":
            yield None
            state = call[1]
        else:
            yield state == call[1]
            state = call[2] if state == call[1] else state


@st.composite
def true_histories(draw, most=40):
    """Calls with moments at 10, 20, 30 …, that began earlier and ended later; some unanswered."""
    some = draw(st.lists(calls, max_size=most))
    history = []
    for n, (call, answer) in enumerate(zip(some, sequential(some), strict=True)):
        before, after = draw(st.integers(0, 60)), draw(st.integers(0, 60))
        lost = draw(st.integers(0, 7)) == 0
        history.append(op(call, UNKNOWN if lost else answer, 10 * n - before, 10 * n + after))
    for n in range(draw(st.integers(0, 2))):
        # And calls that never had an effect.
        history.append(op(draw(calls), UNKNOWN, draw(st.integers(0, 400)), who=f"lost-{n}"))
    return draw(st.permutations(history))


@given(true_histories())
def test_every_linearizable_history_is_accepted(history):
    order = check_history(history, Register())
    assert {id(x) for x in order} >= {id(x) for x in history if x.answer is not UNKNOWN}


@given(true_histories(most=5), st.data())
def test_mutated_histories_are_judged_as_by_brute_force(history, data):
    if history:
        n = data.draw(st.integers(0, len(history) - 1))
        change = data.draw(
            st.fixed_dictionaries(
                {}, optional={"answer": answers, "call": calls, "start": st.integers(-50, 50)}
            )
        )
        changed = evolve(history[n], **change)
        if changed.start <= changed.end:
            history[n] = changed
    assert is_linearizable(history, Register()) == brute_force(history, Register())


times = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(sorted)


@given(st.lists(st.builds(lambda c, a, t: op(c, a, *t), calls, answers, times), max_size=5))
def test_any_history_is_judged_as_by_brute_force(history):
    assert is_linearizable(history, Register()) == brute_force(history, Register())


@pytest.mark.parametrize(
    "history",
    [
        # lost update: both replaced the same 0
        [op(("cas", 0, 1), True, 0, 5), op(("cas", 0, 2), True, 1, 6)],
        # stale read, after the write was done
        [op(("write", 1), None, 0, 1), op(("read",), 0, 2, 3)],
        # dirty failure: told that nothing changed, and it had
        [op(("cas", 0, 1), False, 0, 1), op(("read",), 1, 2, 3)],
        # a value seen, and then again the one before it
        [
            op(("write", 1), None, 0, 9),
            op(("read",), 1, 1, 2),
            op(("read",), 0, 3, 4),
        ],
        # an effect before its cause
        [op(("read",), 1, 0, 1), op(("write", 1), None, 2, 3)],
        [op(("read",), 1, 0, 1), op(("write", 1), UNKNOWN, 2)],
        # a refusal nobody is the reason of
        [op(("cas", 0, 1), False, 0, 1)],
    ],
)
def test_what_is_not_linearizable_is_refused(history):
    with pytest.raises(NotLinearizableError, match="no order explains"):
        check_history(history, Register())


def test_calls_that_meet_may_have_any_order():
    history = [
        op(("write", 1), None, 0, 5),
        op(("read",), 0, 1, 2),
        op(("read",), 1, 5, 6),
        op(("cas", 0, 3), UNKNOWN, 3),
        op(("cas", 1, 2), UNKNOWN, 3),
        op(("read",), 1, 50, 60),
        op(("read",), 2, 70, 80),
    ]
    assert [x.call for x in check_history(history, Register())] == [
        ("read",),
        ("write", 1),
        ("read",),
        ("read",),
        ("cas", 1, 2),
        ("read",),
    ]


def test_long_histories_take_no_time():
    """Memory of what led nowhere: 8 at a time, 1000 calls, and a wrong end."""
    history = []
    state = 0
    for n in range(1000):
        history.append(op(("cas", state, n + 1), True, 10 * n - 35, 10 * n + 35))
        state = n + 1
    check_history(history, Register())
    history.append(op(("read",), 5, 20000, 20001))
    with pytest.raises(NotLinearizableError):
        check_history(history, Register())


def test_one_set_of_calls_may_lead_to_several_states():
    history = [op(("write", 1), None, 0, 9), op(("write", 2), None, 1, 9), op(("read",), 1, 10, 11)]
    assert [x.call for x in check_history(history, Register())][:2] == [("write", 2), ("write", 1)]


def test_what_led_nowhere_is_not_tried_again():
    """Ten calls at once have 3 628 800 orders, and 1024 sets."""
    tried = []

    class Counting(Register):
        def following(self, state, call, answer):
            tried.append(call)
            return super().following(state, call, answer)

    history = [op(("write", 1), None, n, 20) for n in range(10)] + [op(("read",), 2, 30, 31)]
    assert not is_linearizable(history, Counting())
    assert len(tried) < 20_000


def test_the_message_shows_where_it_ends():
    history = [op(("write", 1), None, 0, 1, who="ann"), op(("read",), 0, 2, 3, who="bob")]
    with pytest.raises(NotLinearizableError) as raised:
        check_history(history, Register())
    assert "ann: ('write', 1) → None  [0, 1]\nand leads to the state 1" in str(raised.value)
    assert "bob: ('read',) → 0  [2, 3]" in str(raised.value)


def test_unknown_is_one_in_all_processes():
    assert pickle.loads(pickle.dumps(op("x", UNKNOWN, 0))).answer is UNKNOWN
