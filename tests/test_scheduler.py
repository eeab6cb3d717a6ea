"One scheduler: on time by plan, in few threads, and gone when told."
import subprocess, sys, threading, time
from contextvars import ContextVar

import pytest

from llmcam.utils.scheduler import Pause, Scheduler, SimulatedClock, SystemClock, default_scheduler


def simulated(): return Scheduler(workers=0, clock=SimulatedClock())


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end: time.sleep(0.002)
    assert condition()


def test_a_day_is_exact():
    scheduler, seen = simulated(), []
    for every in (10, 60, 3600): scheduler.every(every, lambda every=every: seen.append((every, scheduler.clock.monotonic())))
    scheduler.run(24 * 3600)
    for every in (10, 60, 3600): assert [at for e, at in seen if e == every] == [i * every for i in range(24 * 3600 // every + 1)]
    assert [at for _, at in seen] == sorted(at for _, at in seen)


def test_a_simulation_is_the_same_every_time():
    def day():
        scheduler, seen = simulated(), []
        for i in range(20): scheduler.every(1 + i / 7, lambda i=i: seen.append((i, scheduler.clock.monotonic())), delay=i / 3)
        scheduler.run(500)
        return seen
    assert day() == day()


@pytest.mark.parametrize("lasts, starts", [(7, [0, 9, 18, 27]), (3, list(range(0, 31, 3))), (3.5, [0, 6, 12, 18, 24, 30])])
def test_missed_turns_are_skipped_and_due_times_stay_on_the_plan(lasts, starts):
    scheduler, seen = simulated(), []
    def work(): seen.append(scheduler.clock.monotonic()); scheduler.clock.advance(lasts)
    job = scheduler.every(3, work)
    scheduler.run(30)
    assert seen == starts and job.ticks + job.missed >= 10


def test_a_job_may_ask_for_a_longer_pause():
    scheduler, seen = simulated(), []
    scheduler.every(10, lambda: seen.append(scheduler.clock.monotonic()) or (Pause(25) if len(seen) == 2 else 25))
    scheduler.run(60)
    assert seen == [0, 10, 35, 45, 55]


def test_a_sooner_look_comes_sooner_though_the_last_one_took_long():
    scheduler, seen = simulated(), []
    def slow():
        seen.append(scheduler.clock.monotonic())
        if len(seen) == 2: scheduler.clock.advance(2.5)
        return Pause(2) if len(seen) == 2 else None
    scheduler.every(300, slow)
    scheduler.run(1000)
    assert seen[:3] == [0, 300, 304.5] and seen[3] < 610


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="above 0"): simulated().every(0, print)
    with pytest.raises(ValueError): simulated().every(float("nan"), print)
    with pytest.raises(RuntimeError, match="simulations"): Scheduler().run(1)


def test_a_thousand_jobs_and_four_that_hang():
    def ours(): return {thread for thread in threading.enumerate() if thread.name.startswith("llmcam-")}
    go, before = threading.Event(), ours()
    with Scheduler() as scheduler:
        stuck = [scheduler.every(1, go.wait) for _ in range(4)]
        quick = [scheduler.every(0.25, lambda: None) for _ in range(1000)]
        until(lambda: min(job.ticks for job in quick) >= 4)
        assert scheduler.threads <= 9 and len(ours() - before) <= 9
        assert all(job.begun is not None and job.ticks == 0 for job in stuck)
        assert scheduler.jobs == 1004
    go.set()


def test_a_job_never_runs_beside_itself():
    inside, most, lock = [0], [0], threading.Lock()
    def work():
        with lock: inside[0] += 1; most[0] = max(most[0], inside[0])
        time.sleep(0.005)
        with lock: inside[0] -= 1
    with Scheduler() as scheduler:
        job = scheduler.every(0.001, work)
        until(lambda: job.ticks >= 20)
    assert most[0] == 1 and job.missed >= 20


@pytest.mark.parametrize("limit", [1, 3])
def test_a_group_shares_a_limit(limit):
    go = threading.Event()
    with Scheduler() as scheduler:
        jobs = [scheduler.every(0.01, go.wait, group="camera", limit=limit) for _ in range(20)]
        other = scheduler.every(0.001, lambda: None)
        until(lambda: other.ticks >= 20)
        assert sum(job.begun is not None for job in jobs) == limit
        for job in jobs: job.cancel()
        go.set()
        assert all(job.join(10) for job in jobs) and not scheduler._groups


def test_the_weak_variant_without_a_group_takes_every_worker():
    go = threading.Event()
    with Scheduler(workers=2) as scheduler:
        jobs = [scheduler.every(0.01, go.wait) for _ in range(5)]
        until(lambda: sum(job.begun is not None for job in jobs) == 2)
        other = scheduler.every(0.001, lambda: None)
        time.sleep(0.05)
        assert other.ticks == 0
        go.set()
        until(lambda: other.ticks)


def test_cancel_does_not_wait_and_nothing_runs_after_it():
    with Scheduler() as scheduler:
        for round in range(100):
            late, cancelled = [], threading.Event()
            jobs = [scheduler.every(0.0005, lambda: late.append(1) if cancelled.is_set() else None) for _ in range(5)]
            time.sleep(0.0007 * (round % 4))
            for job in jobs: job.cancel()
            for job in jobs: assert job.join(10)
            cancelled.set()
            time.sleep(0.001)
            assert not late
        assert scheduler.jobs == 0


def test_a_hanging_job_is_cancelled_at_once_and_joined_when_it_ends():
    go = threading.Event()
    with Scheduler() as scheduler:
        job = scheduler.every(1, go.wait)
        until(lambda: job.begun is not None)
        job.cancel(); job.cancel()
        assert not job.join(0.01)
        go.set()
        assert job.join(10) and scheduler.jobs == 0 and job.func is None


def test_a_job_may_cancel_itself():
    scheduler, seen = simulated(), []
    job = scheduler.every(1, lambda: (seen.append(1), len(seen) == 3 and job.cancel())[0])
    scheduler.run(10)
    assert len(seen) == 3 and job.join(0) and scheduler.jobs == 0


def test_threads_come_with_work_and_go_without():
    scheduler = Scheduler(idle=0.05)
    assert scheduler.threads == 0
    job = scheduler.every(0.01, lambda: None)
    until(lambda: job.ticks >= 3)
    assert 1 <= scheduler.threads <= 9
    job.cancel()
    until(lambda: scheduler.threads == 0)
    again = scheduler.every(0.01, lambda: None)
    until(lambda: again.ticks >= 2)
    scheduler.close()
    until(lambda: scheduler.threads == 0)


def test_one_slow_rhythm_keeps_one_worker():
    with Scheduler() as scheduler:
        job = scheduler.every(0.01, lambda: None)
        until(lambda: job.ticks >= 10)
        assert scheduler.threads <= 3


def test_the_context_is_that_of_the_start():
    who, seen = ContextVar("who", default="nobody"), []
    scheduler = simulated()
    who.set("ann"); scheduler.every(1, lambda: seen.append(who.get()))
    who.set("bob"); scheduler.every(1, lambda: seen.append(who.get()))
    who.set("eve"); scheduler.run(0)
    assert seen == ["ann", "bob"]


def test_a_job_that_raises_goes_on(caplog):
    scheduler, seen = simulated(), []
    scheduler.every(1, lambda: seen.append(1) or 1 / 0)
    scheduler.run(3)
    assert len(seen) == 4 and "ZeroDivisionError" in caplog.text


def test_cancelled_jobs_do_not_pile_up():
    scheduler = simulated()
    keep = scheduler.every(86400, lambda: None, delay=9e9)
    for _ in range(3000): scheduler.every(86400, lambda: None, delay=8e9).cancel()
    assert len(scheduler._heap) < 50 and keep in scheduler._heap


def test_closing():
    scheduler = Scheduler()
    job = scheduler.every(0.01, lambda: None)
    scheduler.close(); scheduler.close()
    assert job.cancelled and job.join(10)
    with pytest.raises(RuntimeError, match="closed"): scheduler.every(1, print)


def test_the_default_scheduler_is_one_and_comes_back():
    first = default_scheduler()
    assert default_scheduler() is first and first.workers == 8 and isinstance(first.clock, SystemClock)
    first.close()
    assert default_scheduler() is not first


EXIT = """
import threading, time
from llmcam.utils.scheduler import default_scheduler
scheduler = default_scheduler()
for _ in range(4): scheduler.every(1, threading.Event().wait)
job = scheduler.every(0.001, lambda: sum(range(2000)))
while job.ticks < 20: time.sleep(0.01)
print("bye", flush=True)
"""

def test_a_program_ends_while_jobs_run_and_hang():
    ended = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "bye\n", "")
