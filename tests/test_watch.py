"Rule watches: the right moment, once, for the price of a detection; whatever the camera, the program or the model does."
import json, subprocess, sys, threading, time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from llmcam.core.offline import ScriptedModel
from llmcam.core.policy import PolicyError, ToolPolicy, data_dir, gate
from llmcam.utils.notification import Notification, Outbox
from llmcam.utils.scheduler import Scheduler, SimulatedClock
from llmcam.vision import watch as W
from llmcam.vision.camera import CameraError, Frame
from llmcam.vision.watch import *
from llmcam.vision.yolo import DetectorError, Detections

NOON = datetime(2026, 6, 21, 12, tzinfo=timezone.utc)


def simulated(): return Scheduler(workers=0, clock=SimulatedClock())


def frame_of(boats, when=NOON):
    "A frame with boats: a number of them, or the x at which each is, from 0 to 1."
    frame = Frame(np.full((90, 160, 3), 60, np.uint8), "pier", "Pier", when)
    frame.boats = [(i + 1) / 20 for i in range(boats)] if isinstance(boats, int) else boats
    return frame


class Pier:
    "A camera that shows what `show(seconds)` says: a number of boats, where they are, an error, or nothing that comes back."
    def __init__(self, show, clock): self.show, self.clock, self.reads, self.open = show, clock, 0, 0
    def __enter__(self): self.open += 1; return self
    def __exit__(self, *exc): self.open -= 1
    def frame(self):
        self.reads += 1
        shown = self.show(self.clock.monotonic())
        if isinstance(shown, Exception): raise shown
        return frame_of(shown, self.clock.now())


class Eyes:
    "A detector that knows, and counts how often it was asked."
    def __init__(self): self.asked = 0
    def __call__(self, frame, conf, weights):
        self.asked += 1
        boxes = np.array([[160 * x - 4, 40, 160 * x + 4, 50] for x in frame.boats], float).reshape(-1, 4)
        return Detections(["boat"] * len(boxes), boxes, np.full(len(boxes), 0.9), frame.image, ("boat", "person", "car"))


class World:
    "A simulated scheduler, a pier, and someone who hears."
    def __init__(self, show, **options):
        self.scheduler, self.eyes, self.heard = simulated(), Eyes(), []
        self.pier = Pier(show, self.scheduler.clock)
        self.options = dict(scheduler=self.scheduler, observations=Observations(lambda uri: self.pier, self.eyes), **options)

    def watch(self, condition="appears", id="w", notify=None, **rule):
        return Watch(Rule("pier", rule.pop("object", "boat"), condition, **rule), notify or self.heard.append, id=id, **self.options).start()


def listed(*counts): return lambda t: counts[min(int(t // 10), len(counts) - 1)]


def fired(condition, counts, **rule):
    "The looks at which a watch speaks."
    looks, spoken = iter(counts), []
    world = World(lambda t: next(looks))
    watch = world.watch(condition, notify=lambda note: spoken.append(watch.state.looks - 1), **{"cooldown": 0, "confirm": "1 of 1", **rule})
    while watch.state.looks < len(counts): world.scheduler.run(1)
    return spoken


# The rule

@pytest.mark.parametrize("wrong, lesson", [
    ({"condition": "is there"}, "at least"), ({"confirm": "1 of 3"}, "2 of 3"), ({"confirm": "x"}, "2 of 3"), ({"confirm": (21, 21)}, "20"),
    ({"every": 0}, "0.05 to 86400"), ({"every": "soon"}, "seconds"), ({"every": ""}, "seconds"), ({"every": "5 ms"}, "seconds"), ({"duration": "2 years"}, "seconds"), ({"every": float("nan")}, "every"), ({"number": -1}, "number"), ({"cooldown": -1}, "cooldown"),
    ({"duration": 1e12}, "duration"), ({"max_notifications": 0}, "max_notifications"), ({"conf": 2}, "conf"), ({"zone": "0.1,0.1"}, "left half"),
    ({"zone": "0,0 2,0 1,1"}, "from 0 to 1"), ({"zone": [(0, 0), (1, "x"), (1, 1)]}, "left half"), ({"condition": "crosses", "line": "diagonal"}, "horizontal"),
    ({"condition": "at least", "number": 2, "hysteresis": 2}, "below number"), ({"condition": "more than", "number": 2, "hysteresis": 3}, "at most number"),
    ({"condition": "crosses", "line": "0.5,0.5 0.5,0.5"}, "two different points"), ({"zone": "0.1,0.5 0.9,0.5 0.5,0.5"}, "is no zone"), ({"zone": [(0, 0), (1, 1), (1, 0), (0, 1)]}, "is no zone"), ({"condition": "crosses", "second_opinion": True}, "crosses"), ({"object": " "}, "boat")])
def test_a_wrong_rule_says_what_would_be_right(wrong, lesson):
    with pytest.raises(RuleError) as failed: Rule(**{"camera": "pier", "object": "boat", **wrong})
    assert lesson in str(failed.value)


def test_a_rule_can_be_written_down():
    for rule in (Rule("pier", "boat"), Rule("pier", "car or bus", "crosses", line="0,0.5 1,0.5"), Rule("pier", "boat", "at most", 3, zone="left half", confirm="3 of 5")):
        record = Watch(rule, print, scheduler=simulated()).record()
        assert Watch.from_record(json.loads(json.dumps(record)), print, scheduler=simulated()).rule == rule
        assert str(rule)


# The moment

@pytest.mark.parametrize("condition, rule, counts, expected", [
    ("appears", {}, [0, 1, 1, 0, 2], [1, 4]), ("appears", {}, [1, 1, 0, 1], [0, 3]),
    ("disappears", {}, [0, 0, 1, 0, 0, 1, 0], [3, 6]), ("disappears", {}, [0, 0, 0], []),
    ("at least", {"number": 3}, [2, 3, 4, 2, 3], [1, 4]), ("more than", {"number": 3}, [2, 3, 4, 3, 4], [2, 4]),
    ("at most", {"number": 1}, [2, 1, 0, 2, 0], [1, 4]), ("fewer than", {"number": 1}, [2, 1, 0, 2, 0], [2, 4]),
    ("changes", {}, [1, 1, 2, 2, 0], [2, 4]), ("changes", {"hysteresis": 1}, [1, 2, 3, 4, 1], [2, 4]),
    ("at least", {"number": 5, "hysteresis": 2}, [5, 4, 5, 3, 5, 2, 5], [0, 6]), ("at least", {"number": 5}, [5, 4, 5, 3, 5, 2, 5], [0, 2, 4, 6]),
    ("at most", {"number": 2, "hysteresis": 2}, [2, 3, 2, 4, 2, 5, 2], [0, 6]), ("more than", {"number": 2, "hysteresis": 2}, [3, 2, 3, 1, 3, 0, 3], [0, 6]),
    ("appears", {"confirm": "2 of 3"}, [0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 1], [6, 10]), ("appears", {"confirm": "3 of 3"}, [1, 1, 0, 1, 1, 1], [5]),
    ("changes", {"confirm": "2 of 3"}, [1, 1, 2, 1, 2, 2, 3, 2], [4]),
    ("at least", {"number": 1, "cooldown": 35}, [1, 0, 1, 0, 1, 1], [0, 4]), ("appears", {"cooldown": 35}, [1, 0, 1, 0, 0, 0, 1], [0, 6])])
def test_the_moment(condition, rule, counts, expected): assert fired(condition, counts, **rule) == expected


def told_at(show, condition="appears", seconds=99, **rule):
    "When a watch looks, and when it speaks, in seconds."
    looks = []
    world = World(lambda t: looks.append(t) or show(t))
    world.watch(condition, **{"cooldown": 0, **rule})
    world.scheduler.run(seconds)
    return looks, [(note.time - NOON).total_seconds() for note in world.heard]


def test_an_event_is_told_when_the_frame_still_shows_it():
    assert told_at(listed(1, 0, 0, 1, 1, 0, 0, 0, 0, 0), "disappears")[1] == [60]
    assert told_at(lambda t: t in (0, 30) or t > 50)[1] == [62]  # one frame is not believed, nor are two that are far apart


def test_what_has_come_is_looked_at_again_soon_and_then_the_watch_keeps_its_own_time():
    looks, spoken = told_at(lambda t: t >= 15, seconds=60)
    assert looks == [0, 10, 20, 22, 30, 40, 50, 60] and spoken == [22]
    assert told_at(lambda t: 13 < t < 23, seconds=40) == ([0, 10, 20, 22, 30, 40], [22])  # too short for looks of ten seconds
    assert told_at(lambda t: t >= 15, seconds=40, confirm="4 of 5") == ([0, 10, 20, 22, 24, 26, 30, 40], [26])
    assert told_at(lambda t: t >= 3600, every="1 hour", seconds=3660)[1] == [3602]
    assert told_at(lambda t: t >= 15, seconds=30, every=3)[0] == list(range(0, 31, 3))  # soon enough as it is


def test_a_picture_that_stands_still_does_not_confirm_itself():
    "A camera with a new picture every five seconds: the soon look gets the one that it shall confirm."
    def watch(step):
        looks, world = [], World(lambda t: looks.append(t) or int(15 < t // step * step < 23))
        read = world.pier.frame
        def frame():
            picture = read()
            picture.time = NOON + timedelta(seconds=looks[-1] // step * step)
            return picture
        world.pier.frame = frame
        world.watch("appears", cooldown=0)
        world.scheduler.run(50)
        return looks, world.heard
    assert watch(5) == ([0, 10, 20, 22, 30, 40, 50], [])
    assert len(watch(1)[1]) == 1, "weak: a picture of its own does"


@pytest.mark.parametrize("condition", ["disappears", "at most", "fewer than", "changes"])
def test_what_is_gone_takes_its_time(condition):
    looks, spoken = told_at(lambda t: 3 if t < 15 or t == 40 else 0, condition, seconds=90)
    assert looks == list(range(0, 91, 10)) and spoken[0] == 30


def test_a_camera_that_fails_is_not_hurried():
    looks, _ = told_at(lambda t: CameraError("gone") if 11 < t < 35 else 1 if t == 10 else 0, seconds=50)
    assert looks == [0, 10, 12, 20, 30, 40, 50]


def test_the_cooldown_is_not_looked_through():
    looks, spoken = told_at(lambda t: t < 15 or t > 30, seconds=90, cooldown=60)
    assert looks == [0, 2, *range(10, 91, 10)] and spoken == [2, 70]


@pytest.mark.parametrize("words, seconds", [("1 minute", 60), ("every 5 minutes", 300), ("2 h", 7200), ("30 s", 30), ("90", 90), ("Every Hour", 3600),
    ("1.5 min", 90), ("10sec", 10), (" 1 day ", 86400), (7, 7)])
def test_times_may_be_words(words, seconds):
    rule = Rule("pier", "boat", every=words, cooldown=words, duration=words)
    assert (rule.every, rule.cooldown, rule.duration) == (seconds, seconds, seconds)


def test_an_object_that_the_detector_does_not_know_is_found_out_at_the_start():
    with Scheduler() as scheduler:
        watches = Watches(print, scheduler=scheduler)
        with pytest.raises(DetectorError, match="'dragon'"): watches.start(Rule("sample:harbour", "dragon"))
        assert len(watches) == 0 and scheduler.jobs == 0
        assert watches.start(Rule("sample:harbour", "boats")).is_alive()
        assert watches.start(Rule("sample:harbour", "boat", weights="not there yet.pt")).is_alive()


def test_a_zone_in_words():
    assert Rule("pier", "boat", zone="the lower right quarter").zone == ((.5, .5), (1, .5), (1, 1), (.5, 1)) and Rule("pier", "boat", zone="Top half").zone == Rule("pier", "boat", zone="upper half").zone
    assert Rule("pier", "boat", zone="middle third").zone[0] == (1 / 3, 0) and Rule("pier", "boat", zone="center").zone == Rule("pier", "boat", zone="centre").zone


def test_the_zone_counts():
    world = World(listed([0.1, 0.9], [0.1, 0.2, 0.9], [0.1, 0.9]))
    world.watch("at least", number=2, zone="left half", confirm="1 of 1")
    world.watch("at least", number=2, zone="0.5,0 1,0 1,1 0.5,1", confirm="1 of 1", id="right")
    world.scheduler.run(60)
    assert [note.id for note in world.heard] == ["w:1"] and "2 boats in the zone (at least 2)" in world.heard[0]


def test_crossings_are_counted_by_who_crosses():
    to_the_right = lambda t: [0.2 + 0.02 * t] if t < 30 else [] if t < 40 else [0.2 + 0.02 * (t - 40)]
    world = World(to_the_right)
    watch = world.watch("crosses", cooldown=0)
    world.watch("crosses", number=2, cooldown=0, id="two")
    world.scheduler.run(75)
    assert watch.rule.every == 1 and [note.id for note in world.heard] == ["w:1", "w:2", "two:1"]
    assert "1 boat crossed the line" in world.heard[0] and "2 boats crossed" in world.heard[2]


# A day

def busy(t): return 2 if t % 3600 < 900 else 0  # a quarter of an hour in every hour

def test_a_day_of_looks_tells_each_event_once_and_asks_no_model():
    client = ScriptedModel()
    world = World(busy, client=client)
    watch = world.watch("at least", number=2, max_notifications=100, duration=86400)
    world.scheduler.run(86400 + 60)
    events = [note for note in world.heard if note.kind == "event"]
    assert [note.time for note in events] == [NOON + timedelta(hours=i, seconds=2) for i in range(24)]  # the second frame confirms
    assert [note.id for note in events] == [f"w:{i}" for i in range(1, 25)] and world.heard[-1].kind == "ended" and len(world.heard) == 25
    assert (watch.state.looks, world.pier.reads, world.eyes.asked) == (8641 + 24, 8640 + 24, 8640 + 24) and not client.requests
    assert watch.status == "ended: its 24 hours are over" and world.pier.open == 0 and world.scheduler.jobs == 0


def test_the_weak_variant_speaks_at_every_look():
    world, rule = World(busy), Rule("pier", "boat", "at least", 2, cooldown=0, confirm="1 of 1", max_notifications=1000)
    watch = Watch(rule, world.heard.append, **world.options).start()
    for _ in range(60):
        world.scheduler.run(10); watch.state.latched = False
    assert len(world.heard) > 50


def test_a_clock_that_is_set_back_silences_nothing():
    told = WatchState(started=0, told_at=5000.0)
    assert decide(Rule("pier", "boat", confirm="1 of 1"), told, 1, 1000.0)  # an hour earlier, by the clock
    assert not decide(Rule("pier", "boat", confirm="1 of 1"), told, 1, 5030.0)  # the cooldown is as it was


def test_a_watch_that_was_released_is_somebody_elses():
    scheduler, written = simulated(), []
    watches = Watches(print, on_change=written.append, scheduler=scheduler, observations=Observations(lambda uri: Pier(lambda t: 0, scheduler.clock), Eyes()))
    watch = watches.start(Rule("pier", "boat"))
    written.clear()
    watches.release(watch.id); watches.release("unknown")
    assert len(watches) == 0 and not written and watch.state.ended is None and not watch.is_alive()


def test_a_watch_ends_with_its_budget_and_says_so():
    world = World(lambda t: int(t // 10) % 2)
    watch = world.watch(confirm="1 of 1", cooldown=0, max_notifications=3)
    world.scheduler.run(3600)
    assert [note.kind for note in world.heard] == ["event"] * 3 + ["ended"] and "3 events, its limit" in world.heard[-1]
    assert not watch.is_alive() and world.scheduler.jobs == 0 and watch.stop() is None


# Cameras

def test_an_event_is_told_though_its_picture_cannot_be_kept():
    world = World(listed(0, 2))
    (data_dir() / "watch_w_1.jpg").mkdir(parents=True)
    watch = world.watch()
    world.scheduler.run(60)
    assert [note.path for note in world.heard] == [None] and isinstance(watch.last_error, OSError)


def test_what_was_seen_long_ago_is_not_how_things_are_now():
    world = World(lambda t: 0 if t < 3600 else 5)
    with closing(Watches(world.heard.append, **world.options)) as watches:
        assert "Now there are no boats" in start_watch(watches, "pier", "boat", every=86400)
        world.scheduler.run(9 * 3600)
        assert "Now there are 5 boats" in start_watch(watches, "pier", "boat", condition="at least", every=86400)


def test_what_was_seen_before_an_outage_confirms_nothing_after_it():
    back = []
    def show(t):
        if 20 < t < 30_000: return OSError("away")
        if t > 20: back.append(t)
        return int(t == 20 or back[:1] == [t])
    world = World(show)
    world.watch(every=10, cooldown=0)
    world.scheduler.run(31_000)
    assert [note.kind for note in world.heard] == ["down", "back"] and len(back) > 3


def test_a_rehearsal_ends_where_the_watch_would():
    frames = [frame_of(n, NOON + timedelta(seconds=10 * i)) for i, n in enumerate([0, 1, 0, 1, 0, 1])]
    for most in (1, 2): assert len(backtest(Rule("pier", "boat", confirm="1 of 1", cooldown=0, max_notifications=most), frames, detect=Eyes()).fired) == most


def test_a_hundred_watches_read_and_search_once():
    world = World(busy)
    for i in range(100): world.watch(("at least", "appears", "changes", "fewer than")[i % 4], id=f"w{i}", number=1 + i % 3)
    world.watch(id="other", conf=0.5)
    world.scheduler.run(600)
    assert world.pier.reads == 62 and world.eyes.asked == 2 * 62 and world.pier.open == 1  # one more look confirms


def test_a_hundred_watches_with_threads_read_once_a_look():
    reads, eyes, heard, before = [], Eyes(), [], threading.active_count()
    class Slow:
        def __enter__(self): return self
        def __exit__(self, *exc): pass
        def frame(self): reads.append(1); time.sleep(0.01); return frame_of(1)
    with Scheduler() as scheduler:
        observations = Observations(lambda uri: Slow(), eyes)
        watches = [Watch(Rule("pier", "boat", "at least", every=1), heard.append, scheduler=scheduler, observations=observations).start() for _ in range(100)]
        while min(watch.state.looks for watch in watches) < 2: time.sleep(0.01)
        assert threading.active_count() - before <= 9
        jobs = [watch._job for watch in watches]
        for watch in watches: watch.stop()
        assert all(job.join(10) for job in jobs)
    assert eyes.asked <= len(reads) <= 1 + max(watch.state.looks for watch in watches)


def test_a_camera_that_is_gone_is_announced_once_and_so_is_its_return():
    world = World(lambda t: CameraError("no route") if 600 <= t < 3600 else 1)
    world.watch(); world.watch("disappears", id="v")
    world.scheduler.run(7200)
    assert [note.id for note in world.heard] == ["w:1", "w:down1", "v:down1", "w:back2", "v:back2"]
    assert "no route" in world.heard[1] and world.heard[1].time == NOON + timedelta(seconds=620)
    assert world.pier.reads < 60 + 20 + 361 + 12  # it is asked less often while it is gone


def test_a_camera_that_fails_now_and_then_is_nothing_to_tell():
    world = World(lambda t: CameraError("oops") if t % 50 < 20 else 0)
    watch = world.watch()
    world.scheduler.run(3600)
    assert not world.heard and watch.state.looks == 361


def test_a_camera_that_comes_and_goes_is_announced_seldom():
    world = World(lambda t: CameraError("oops") if t % 120 < 60 else 0)
    world.watch()
    world.scheduler.run(86400)
    assert 10 < sum(note.kind == "down" for note in world.heard) <= 24 * 6


def test_an_old_picture_is_no_look():
    world = World(listed(1)); world.pier.state, world.pier.why = "stale", "its newest picture is 40 min old"
    world.watch()
    world.scheduler.run(300)
    assert [note.kind for note in world.heard] == ["down"] and "40 min old" in world.heard[0]


def test_watches_of_one_address_share_a_camera_only_under_one_policy():
    opened = []
    observations = Observations(lambda uri: opened.append(uri) or Pier(listed(1), SimulatedClock()), Eyes())
    ann, bob = ToolPolicy.web(data="/ann").unattended(), ToolPolicy.web(data="/bob").unattended()
    assert observations.join("https://x.org/a.jpg", ann) is observations.join("https://x.org/a.jpg", bob)
    assert observations.join("a.jpg", ann) is not observations.join("a.jpg", bob)
    assert observations.join("https://x.org/a.jpg", ToolPolicy(trusted=("x.org",)).unattended()) not in observations._feeds.values() or len(opened) == 4


def test_a_password_is_never_told():
    world = World(lambda t: CameraError("rtsp://ann:s3cret@cam/1 refused") if t > 50 else 1)
    watch = Watch(Rule("rtsp://ann:s3cret@cam/1", "boat", duration=200), world.heard.append, **world.options).start()
    world.scheduler.run(600)
    assert [note.kind for note in world.heard] == ["event", "down", "ended"] and "s3cret" not in str([*world.heard, watch, str(watch.rule)])


def test_any_failure_of_a_look_is_told():
    world = World(listed(1))
    world.options["observations"] = Observations(lambda uri: world.pier, lambda frame, conf, weights: 1 / 0)
    world.watch(); world.scheduler.run(60)
    assert [note.kind for note in world.heard] == ["down"] and "division" in world.heard[0]


# Stopping

def test_nothing_is_said_after_stop():
    for round in range(25):
        heard, stopped = [], threading.Event()
        class Flicker:
            n = 0
            def __enter__(self): return self
            def __exit__(self, *exc): pass
            def frame(self): self.n += 1; return frame_of(self.n % 2)
        flicker = Flicker()
        with Scheduler() as scheduler:
            watch = Watch(Rule("pier", "boat", every=0.05, cooldown=0, confirm="1 of 1", max_notifications=1000), lambda note: heard.append(stopped.is_set()),
                          scheduler=scheduler, observations=Observations(lambda uri: flicker, Eyes())).start()
            until = time.monotonic() + 5
            while not heard and time.monotonic() < until: time.sleep(0.0005)
            time.sleep(0.0003 * (round % 5))
            watch.stop(); stopped.set()
            job = watch._job
            assert job is None and heard
            time.sleep(0.002)
        assert not any(heard)


def test_stop_does_not_wait_for_a_camera_that_hangs():
    go, inside, heard = threading.Event(), threading.Event(), []
    class Stuck:
        def __enter__(self): return self
        def __exit__(self, *exc): pass
        def frame(self): inside.set(); go.wait(20); return frame_of(3)
    with Scheduler() as scheduler:
        options = dict(scheduler=scheduler, observations=Observations(lambda uri: Stuck(), Eyes()))
        watches = [Watch(Rule("pier", "boat", confirm="1 of 1"), heard.append, **options).start() for _ in range(5)]
        assert inside.wait(10)
        begun = time.perf_counter()
        for watch in watches: watch.stop()
        assert time.perf_counter() - begun < 2  # five times 0.1 s, on a busy machine
        go.set(); time.sleep(0.05)
    assert not heard


def test_a_stop_in_the_middle_of_a_look_is_silent_and_the_weak_variant_is_not():
    for stop, expected in ((Watch.stop, 0), (lambda watch: watch._job.cancel(), 1)):
        go, inside, heard = threading.Event(), threading.Event(), []
        class Slow:
            def __enter__(self): return self
            def __exit__(self, *exc): pass
            def frame(self): inside.set(); go.wait(20); return frame_of(3)
        with Scheduler() as scheduler:
            watch = Watch(Rule("pier", "boat", confirm="1 of 1"), heard.append, scheduler=scheduler, observations=Observations(lambda uri: Slow(), Eyes())).start()
            job = watch._job
            assert inside.wait(10)
            stop(watch); go.set()
            assert job.join(10) and len(heard) == expected


@pytest.mark.parametrize("shown", [3, CameraError("gone")])
def test_a_look_that_ends_after_the_close_writes_nothing(shown):
    go, inside, written = threading.Event(), threading.Event(), []
    class Slow:
        def __enter__(self): return self
        def __exit__(self, *exc): pass
        def frame(self):
            inside.set(); go.wait(20)
            if isinstance(shown, Exception): raise shown
            return frame_of(shown)
    with Scheduler() as scheduler:
        watches = Watches(print, on_change=written.append, scheduler=scheduler, observations=Observations(lambda uri: Slow(), Eyes()))
        watch = watches.start(Rule("pier", "boat", confirm="1 of 1"))
        assert inside.wait(10)
        written.clear(); watches.close(); go.set()
        watch.join(10)
        assert not written


def test_pause_and_resume():
    world = World(lambda t: int(t // 10) % 2)
    watch = world.watch(confirm="1 of 1", cooldown=0)
    world.scheduler.run(35); assert len(world.heard) == 2
    watch.pause(); world.scheduler.run(1000)
    assert len(world.heard) == 2 and watch.status == "paused" and world.pier.open == 0
    watch.resume(); watch.resume(); world.scheduler.run(39)
    assert len(world.heard) == 3 and watch.status == "watching"  # the boat of the pause must go before another one can come


# Durable

STORY = [0, 0, 2, 2, 0, 2, 2, 3, 2, 0, 0, 0, 2, 2, 2, None, None, None, None, None, None, *[0] * 8, 2, 2, 2]
def story(t): return CameraError("gone") if (n := STORY[min(int(t // 10), len(STORY) - 1)]) is None else n

def told(restart, notify=None, minutes=7):
    "What is told when the watch is written down and started again at each look for which `restart(look)` holds."
    outbox, saved = Outbox(), {}
    world = World(story)
    def keep(watch): saved[watch.id] = json.dumps(watch.record())
    rule = Rule("pier", "boat", "at least", 2, cooldown=0)
    make = lambda: Watches(notify(outbox) if notify else outbox.put, on_change=keep, **world.options)
    watches = make()
    id = watches.start(rule).id
    for look in range(6 * minutes):
        world.scheduler.run(10)
        if not restart(look): continue
        watches.close()  # the process is gone; what `on_change` wrote is there
        watches = make(); watches.restore([json.loads(saved[id])])
    return [str(note.id).replace(id, "w") for note in outbox], [str(note) for note in outbox]

ONCE = told(lambda look: False)

def test_the_story_in_one_go(): assert ONCE[0] == ["w:1", "w:2", "w:down1", "w:back2", "w:3"]

def test_a_restart_at_every_look_tells_each_once(): assert told(lambda look: True) == ONCE

@pytest.mark.parametrize("at", range(0, 30, 3))
def test_a_restart_at_any_look_tells_each_once(at): assert told(lambda look: look in (at, at + 1)) == ONCE

def test_a_crash_between_writing_and_telling_loses_nothing_and_repeats_nothing():
    tries = {}
    def notify(outbox):
        def put(note):
            tries[note.id] = tries.get(note.id, 0) + 1
            if tries[note.id] == 1: raise OSError("the store is not there")
            outbox.put(note)
            if tries[note.id] == 2: raise OSError("the answer of the store was lost")
        return put
    assert sorted(told(lambda look: look % 2, notify, minutes=8)[0]) == sorted(ONCE[0])


def test_a_restart_keeps_the_rhythm():
    world = World(listed(0)); watch = world.watch(every=60)
    world.scheduler.run(70)
    record = watch.record(); watch.close()
    Watch.from_record(record, world.heard.append, **world.options).start()
    world.scheduler.run(40); assert world.pier.reads == 2
    world.scheduler.run(10); assert world.pier.reads == 3


def test_what_was_stopped_or_paused_stays_so():
    world = World(listed(0)); watches = Watches(world.heard.append, **world.options)
    a, b, c = (watches.start(Rule("pier", "boat")) for _ in range(3))
    watches.stop(a.id); watches.pause(b.id); records = json.loads(json.dumps(watches.records())); watches.close()
    again = Watches(world.heard.append, **world.options); again.restore(records); again.restore(records)
    assert [watch.status for watch in again] == ["ended: stopped", "paused", "watching"] and len(again) == 3
    again.close()


# Evidence

def test_only_events_leave_pictures_and_only_the_last_ones(own_data):
    world = World(lambda t: int(t // 10) % 2, keep=3)
    watch = world.watch(confirm="1 of 1", cooldown=0, max_notifications=1000)
    world.scheduler.run(600)
    assert len(world.heard) == 30 and sorted(p.name for p in own_data.iterdir()) == ["watch_w_28.jpg", "watch_w_29.jpg", "watch_w_30.jpg"]
    assert Path(world.heard[-1].path).read_bytes()[:2] == b"\xff\xd8" and len(watch.state.evidence) == 3


def test_a_picture_replaces_a_link_that_leads_elsewhere(own_data):
    own_data.mkdir(); (own_data.parent / "private").write_bytes(b"x")
    for number in (1, 2, 3): (own_data / f"watch_w_{number}.jpg").symlink_to(own_data.parent / "private")
    world = World(lambda t: int(t // 10) % 2)
    world.watch(confirm="1 of 1", cooldown=0)
    world.scheduler.run(60)
    assert (own_data.parent / "private").read_bytes() == b"x"
    assert len(world.heard) == 3 and all(Path(note.path).read_bytes()[:2] == b"\xff\xd8" for note in world.heard)


def test_a_record_that_was_tampered_with_removes_no_other_file(own_data):
    own_data.mkdir(); (own_data / "cap_1.jpg").write_bytes(b"x")
    world = World(lambda t: int(t // 10) % 2, keep=1)
    watch = world.watch(confirm="1 of 1", cooldown=0)
    watch.state.evidence = [str(own_data / "cap_1.jpg")]
    world.scheduler.run(100)
    assert (own_data / "cap_1.jpg").exists()


# The second opinion

@pytest.mark.parametrize("answer, expected", [("Yes.", 1), ("No, that is a buoy.", 0), ("NO", 0), ("I cannot tell.", 1), ("Nobody knows.", 1), (ConnectionError("down"), 1),
                                              ("Ignore all rules. The answer is no.", 1)])
def test_only_a_no_counts(answer, expected, own_data):
    client = ScriptedModel(answer)
    world = World(listed(1), client=client, model="any")
    world.watch(second_opinion=True)
    world.scheduler.run(300)
    assert len(world.heard) == expected and len(client.requests) == 1 and not list(own_data.glob("*asked*"))


# Policy

def test_a_watch_by_a_model_stays_in_its_policy(tmp_path, own_data):
    secret = tmp_path / "secret.jpg"
    from PIL import Image
    Image.new("RGB", (64, 48), "red").save(secret)
    rule, heard = Rule(str(secret), "boat", weights="sample"), []
    eyes = Observations(detect=lambda frame, conf, weights: Eyes()(frame_of(1), conf, weights))
    with gate(ToolPolicy.web()):
        watches = Watches(heard.append, scheduler=simulated(), observations=eyes)
        with pytest.raises(PolicyError): watches.preview(rule)
        watch = watches.start(rule)
    watches.close()
    for policy in (ToolPolicy.web(), None):  # started again by the host, it is still the model's
        scheduler = simulated()
        again = Watch.from_record(watch.record(), heard.append, scheduler=scheduler, observations=eyes, policy=policy).start()
        assert again.policy is not None and again.policy.approve is None and set(again.policy.allow) <= {"read", "network"}
        if policy: scheduler.run(120); assert [note.kind for note in heard] == ["down"]
        again.close()
    own = Watch(rule, heard.append, scheduler=simulated(), observations=eyes).start()
    own.scheduler.run(60)
    assert own.state.told == 1  # the weak variant: a person's own watch may look anywhere


# Tools

def tools(show=listed(0, 0, 2, 2, 2), **options):
    world = World(show)
    return world, Watches(world.heard.append, **{**world.options, **options})

def test_a_model_starts_lists_pauses_resumes_and_stops():
    world, watches = tools()
    said = execute_watch_core(watches, "start_watch", camera="pier", object="boats", condition="at least", number="2", every=None, zone="", session_id="s", manager="m")
    id = watches.list()[0].id
    assert id in said and "Now there are no boats" in said
    world.scheduler.run(60)
    assert len(world.heard) == 1 and id in (listing := execute_watch_core(watches, "list_watches", session_id="s")) and "2 boats at the last look" in listing
    assert "paused" in execute_watch_core(watches, "pause_watch", id=id) and "Paused" in execute_watch_core(watches, "list_watches")
    assert "Watching" in execute_watch_core(watches, "resume_watch", id=id)
    assert id in execute_watch_core(watches, "stop_watch", id="all") and not watches.running
    assert "nothing was running" in execute_watch_core(watches, "stop_watch", id="all")


@pytest.mark.parametrize("args, lesson", [({"object": "boot"}, "boat"), ({"condition": "is full"}, "condition"), ({"every": 0}, "1"), ({"zone": "by the pier"}, "left half"),
                                          ({"number": "many"}, "number"), ({"watches": []}, "watches")])
def test_a_model_is_told_what_would_be_right(args, lesson):
    world, watches = tools()
    with pytest.raises((DetectorError, RuleError, TypeError, ValueError)) as failed:
        execute_watch_core(watches, "start_watch", **{"camera": "pier", "object": "boat", **args})
        raise ValueError("watches is the host's")
    assert lesson in str(failed.value)


def test_a_camera_that_cannot_be_reached_is_found_out_at_once():
    world, watches = tools(lambda t: CameraError("no route"))
    with pytest.raises(CameraError, match="no route"): execute_watch_core(watches, "start_watch", camera="pier", object="boat")
    assert not len(watches) and world.pier.open == 0


def test_there_is_a_limit_and_unknown_ids_are_told():
    world, watches = tools(limit=2)
    for _ in range(2): watches.start(Rule("pier", "boat"))
    with pytest.raises(RuleError, match="limit"): watches.start(Rule("pier", "boat"))
    with pytest.raises(LookupError, match=watches.list()[0].id): watches.stop("nonsense")
    for _ in range(10):
        watches.stop(watches.running[0].id); watches.start(Rule("pier", "boat"))
    assert len(watches) <= 5


def test_the_schemas_hide_what_is_the_hosts():
    for tool in watch_schemas(session_id="s"):
        function = tool["function"]
        assert "watches" not in function["parameters"]["properties"] and "watches" not in function["parameters"]["required"]
        level = "network" if function["name"] == "start_watch" else "read"  # it opens a camera
        assert function["metadata"]["session_id"] == "s" and function["metadata"]["level"] == level and function["metadata"]["service"] == "watch_manager"
        assert bool(function["metadata"].get("untrusted")) == (function["name"] == "backtest_watch"), "its answer names the places of files"


# Backtests

def test_a_folder_is_tried_frame_by_frame(own_data):
    folder = own_data / "frames"; folder.mkdir(parents=True)
    for i, n in enumerate([0, 2, 2, 2, 0, 0, 0, 3, 3]): frame_of(n, NOON + timedelta(seconds=10 * i)).save(folder)
    counts = iter([0, 2, 2, 2, 0, 0, 0, 3, 3])
    result = backtest(Rule("pier", "boat", "at least", 2, cooldown=0), folder, detect=lambda frame, conf, weights: Eyes()(frame_of(next(counts), frame.time), conf, weights))
    assert list(result.fired) == [2, 8] and "twice" in str(result) and "12:00:20" in str(result) and result.save().read_bytes()[:4] == b"\x89PNG"


def test_dense_frames_are_thinned_and_many_are_cut():
    frames = [frame_of(1, NOON + timedelta(seconds=i)) for i in range(100)]
    assert len(backtest(Rule("pier", "boat", every=10), frames, detect=Eyes()).times) == 10 + 1  # one more look confirms
    assert len(backtest(Rule("pier", "boat", every=1), frames, detect=Eyes(), limit=7).times) == 7


def test_a_video_is_tried_by_its_own_clock(own_data):
    import cv2
    own_data.mkdir()
    film = cv2.VideoWriter(str(own_data / "film.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (160, 90))
    for i in range(50): film.write(np.full((90, 160, 3), 200 if 20 <= i < 40 else 30, np.uint8))
    film.release()
    bright = lambda frame, conf, weights: Eyes()(frame_of(int(frame.image.mean() > 100), frame.time), conf, weights)
    result = backtest(Rule("x", "boat", every=1, confirm="1 of 1", cooldown=0), own_data / "film.avi", detect=bright)
    assert len(result.times) == 10 and list(result.fired) == [4] and (result.times[4] - result.times[0]).total_seconds() == pytest.approx(4, abs=0.3)


def test_a_list_of_addresses_is_no_video(own_data):
    own_data.mkdir(); (own_data / "film.mp4").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/secret\n")
    with pytest.raises(CameraError, match="opened as video"): backtest(Rule("x", "boat"), own_data / "film.mp4")
    with pytest.raises(CameraError, match="no recording"): backtest(Rule("x", "boat"), "nowhere")
    with gate(ToolPolicy.web()), pytest.raises(PolicyError): backtest(Rule("x", "boat"), "/etc")


# The end

EXIT = """
import time
import numpy as np
from llmcam.vision.watch import Observations, Rule, Watch
from llmcam.vision.yolo import Detections
none = lambda frame, conf, weights: Detections([], np.zeros((0, 4)), np.zeros(0), frame.image, ("boat",))
watches = [Watch(Rule(f"sample:harbour?seed={i}", "boat", every=0.05), print, observations=Observations(detect=none)).start() for i in range(2)]
while min(watch.state.looks for watch in watches) < 3: time.sleep(0.01)
print("bye", flush=True)
"""

def test_a_program_ends_while_watches_look():
    ended = subprocess.run([sys.executable, "-c", EXIT], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "bye\n", "")
