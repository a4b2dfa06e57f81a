"""The parts of the loop that need no training: when things are due, what is counted, how a stop is heard."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.contract.labels import BUILTIN_TABLES
from trainer.training.plan import Extension, Plan
from trainer.training.state import BY_CALLBACK, BY_PATIENCE, State
from trainer.training.steps import Updates
from trainer.training.stop import StopSignal

LABELS = BUILTIN_TABLES["camvid11"]()
CLASSES = LABELS.num_classes

INTERVALS = st.integers(1, 40)
PLANS = st.builds(
    Plan,
    total_steps=st.integers(1, 200),
    steps_per_epoch=INTERVALS,
    evaluate_epochs=st.integers(1, 5),
    checkpoint_steps=INTERVALS,
    log_steps=INTERVALS,
    steps_per_call=st.none(),
    global_batch=st.just(4),
    extended=st.lists(st.integers(1, 199), max_size=2, unique=True).map(
        lambda ends: tuple(Extension(total=at, at=at, iterations=at) for at in sorted(ends))
    ),
)


def make_plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "total_steps": 25,
        "steps_per_epoch": 10,
        "evaluate_epochs": 1,
        "checkpoint_steps": 4,
        "log_steps": 3,
    }
    return Plan(**(values | changes), steps_per_call=None, global_batch=4)


def steps_where(plan: Plan, due: Callable[[int], bool]) -> list[int]:
    return [step for step in range(1, plan.total_steps + 1) if due(step)]


def multiples(interval: int, plan: Plan) -> set[int]:
    return set(range(interval, plan.total_steps + 1, interval))


def ends_of(plan: Plan) -> set[int]:
    return {each.at for each in plan.extended if each.at < plan.total_steps} | {plan.total_steps}


@given(PLANS)
def test_everything_is_due_at_its_interval_and_at_the_end(plan: Plan):
    end = ends_of(plan)
    epochs = multiples(plan.steps_per_epoch, plan) | end
    evaluations = multiples(plan.steps_per_epoch * plan.evaluate_epochs, plan) | end
    assert set(steps_where(plan, plan.ends_epoch)) == epochs
    assert set(steps_where(plan, plan.evaluates)) == evaluations
    assert set(steps_where(plan, plan.saves)) == multiples(plan.checkpoint_steps, plan) | evaluations
    assert set(steps_where(plan, plan.logs)) == multiples(plan.log_steps, plan) | epochs


@given(PLANS)
def test_no_epoch_has_ended_before_the_first_update(plan: Plan):
    assert not plan.ends_epoch(0)
    assert not plan.evaluates(0)


@given(plan=PLANS, pace=st.integers(1, 60), data=st.data())
def test_calls_meet_every_event_whatever_their_size_and_start(plan: Plan, pace: int, data: st.DataObject):
    step = start = data.draw(st.integers(0, plan.total_steps - 1))
    stops = []
    while step < plan.total_steps:
        count = min(pace, plan.updates_to_next_event(step))
        assert count >= 1
        step += count
        stops.append(step)
    assert step == plan.total_steps
    kinds = (plan.ends_epoch, plan.evaluates, plan.saves, plan.logs)
    due = {step for kind in kinds for step in steps_where(plan, kind) if step > start}
    assert due <= set(stops)


@given(plan=PLANS, data=st.data())
def test_calls_do_not_end_before_there_is_something_to_do(plan: Plan, data: st.DataObject):
    step = data.draw(st.integers(0, plan.total_steps - 1))
    end = step + plan.updates_to_next_event(step)
    assert plan.ends_epoch(end) or plan.saves(end) or plan.logs(end)


def test_a_last_short_epoch_is_an_epoch():
    plan = make_plan()
    assert steps_where(plan, plan.ends_epoch) == [10, 20, 25]
    assert steps_where(plan, plan.evaluates) == [10, 20, 25]
    assert steps_where(plan, plan.saves) == [4, 8, 10, 12, 16, 20, 24, 25]
    assert steps_where(plan, plan.logs) == [3, 6, 9, 10, 12, 15, 18, 20, 21, 24, 25]
    assert steps_where(make_plan(evaluate_epochs=2), make_plan(evaluate_epochs=2).evaluates) == [20, 25]
    assert [plan.updates_to_next_event(step) for step in (0, 3, 8, 20, 24)] == [3, 1, 1, 1, 1]


# --- the state


def make_updates(losses: list[float], seed: int = 0) -> Updates:
    confusion = np.random.default_rng(seed).integers(0, 50, (CLASSES, CLASSES))
    values = np.array(losses, np.float32)
    return Updates(losses=values, finite=np.isfinite(values), confusion=confusion, stop=False, seconds=0.1)


def mean_iou_of_numpy(confusion: np.ndarray) -> float:
    true = np.diag(confusion)
    return float(np.mean(true / (confusion.sum(0) + confusion.sum(1) - true)))


def test_a_log_is_of_the_updates_since_the_one_before():
    state = State(CLASSES)
    first, second, third = make_updates([1.0, 2.0], 1), make_updates([6.0], 2), make_updates([4.0, 8.0], 3)
    state.add(first)
    state.add(second)
    loss, mean_iou = state.take_log(LABELS)
    assert loss == pytest.approx((1 + 2 + 6) / 3)
    assert mean_iou == pytest.approx(mean_iou_of_numpy(first.confusion + second.confusion))
    state.add(third)
    loss, mean_iou = state.take_log(LABELS)
    assert loss == pytest.approx(6)
    assert mean_iou == pytest.approx(mean_iou_of_numpy(third.confusion))
    assert int(state.step) == 5


def test_a_log_of_nothing_has_no_loss_and_no_mean_iou():
    loss, mean_iou = State(CLASSES).take_log(LABELS)
    assert loss == 0
    assert np.isnan(mean_iou)


def test_many_losses_are_added_up_exactly_enough():
    """In float32 the sum of 200,000 small losses would lose their digits."""
    state = State(CLASSES)
    for _ in range(20):
        state.add(make_updates([0.1] * 10_000))
    assert state.take_log(LABELS)[0] == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_the_state_starts_before_everything_and_is_kept_whole():
    state = State(CLASSES)
    assert (int(state.step), int(state.epoch_end), float(state.best), int(state.stopped)) == (0, 0, -1.0, 0)
    attributes = [value for name, value in vars(state).items() if not name.startswith("_")]
    kept = [each for group in state.variables.values() for each in group]
    assert [id(each) for each in kept] == [id(each) for each in attributes]


def test_the_mean_of_an_epoch_is_of_all_its_updates():
    """Whatever was logged in between."""
    state = State(CLASSES)
    first, second = make_updates([1.0, 2.0], 1), make_updates([6.0], 2)
    state.add(first)
    state.take_log(LABELS)
    state.add(second)
    loss, mean_iou = state.epoch_means(LABELS)
    assert loss == pytest.approx((1 + 2 + 6) / 3)
    assert mean_iou == pytest.approx(mean_iou_of_numpy(first.confusion + second.confusion))
    state.end_epoch(3, 0)
    state.add(second)
    assert state.epoch_means(LABELS)[0] == pytest.approx(6)
    assert (int(state.epoch_end), int(state.stopped)) == (3, 0)


def test_evaluations_since_the_best_are_counted():
    state = State(CLASSES)
    scores = [np.nan, 0.0, 0.25, 0.25, np.nan, 0.5, 0.375]
    kept = [state.take_score(score, step) for step, score in enumerate(scores, 1)]
    assert kept == [True, False, True, False, False, True, False]
    assert (float(state.best), int(state.best_step), int(state.since_best)) == (0.5, 6, 1)


@pytest.mark.parametrize(
    ("stopped", "since_best", "best_step", "told"),
    [
        (0, 3, 900, None),
        (BY_CALLBACK, 3, 900, "a callback asked for it"),
        (BY_PATIENCE, 3, 900, "no better validation mean IoU for 3 evaluations (best 0.6420 at step 900)"),
        (BY_PATIENCE, 1, 1900, "no better validation mean IoU for 1 evaluation (best 0.6420 at step 1,900)"),
        (BY_PATIENCE, 2, 0, "no better validation mean IoU for 2 evaluations (best 0.6420)"),
        (BY_PATIENCE, 0, 900, "no better validation mean IoU (best 0.6420 at step 900)"),
    ],
)
def test_what_ended_a_run_early_is_told(stopped: int, since_best: int, best_step: int, told: str | None):
    state = State(CLASSES)
    state.best.assign(0.642)
    state.stopped.assign(stopped)
    state.since_best.assign(since_best)
    state.best_step.assign(best_step)
    assert state.why_stopped == told
    state.go_on()
    assert (state.why_stopped, int(state.since_best), float(state.best)) == (None, 0, 0.642)


# --- the signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Leaves the handlers of signals as they were, whatever a test does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    """To this process; Python deals with it a moment later."""
    os.kill(os.getpid(), number)
    time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number: int):
    with StopSignal() as stop:
        assert stop.number is None
        send(number)
        assert stop.number == number


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_ctrl_c_ends_what_was_asked_to_stop_already(first: int):
    with StopSignal() as stop:
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert stop.number == first


def test_a_machine_that_asks_twice_to_stop_is_heard_once():
    with StopSignal() as stop:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_signals_are_as_before_when_it_is_over():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), StopSignal():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    with StopSignal():
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_is_not_stopped_by_the_signal_of_the_one_before():
    with StopSignal() as stop:
        send(signal.SIGTERM)
    with StopSignal() as other:
        assert other.number is None
    assert stop.number == signal.SIGTERM
