"""Watches: threads, lateness and looks a second of a thousand of them, beside a thread each; what stopping, a simulated day and a look in tokens cost.
`--full` measures longer. Run it alone: lateness is the processor's as well."""
import argparse, statistics, subprocess, sys, threading, time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
from llmcam.core.offline import OfflineModel
from llmcam.core.fc import form_msg
from llmcam.utils.notification import StreamThread
from llmcam.utils.scheduler import Scheduler, SimulatedClock
from llmcam.vision.camera import Frame
from llmcam.vision.watch import Observations, Rule, Watch
from llmcam.vision.yolo import Detections


class Camera:
    "A camera that answers at once, or never."
    def __init__(self, hangs=None): self.hangs, self.reads = hangs, 0
    def __enter__(self): return self
    def __exit__(self, *exc): pass
    def frame(self):
        if self.hangs: self.hangs.wait()
        self.reads += 1
        return Frame(np.zeros((9, 16, 3), np.uint8), "camera", "Pier")


def nothing(frame, conf, weights): return Detections([], np.zeros((0, 4)), np.zeros(0), frame.image, ("boat",))


def sometimes(clock):
    "A detector for a simulated day: two boats in the first quarter of each hour."
    def detect(frame, conf, weights):
        n = 2 if clock.monotonic() % 3600 < 900 else 0
        return Detections(["boat"] * n, np.zeros((n, 4)), np.full(n, .9), frame.image, ("boat",))
    return detect


def percentiles(late): return [1000 * float(np.percentile(late, p)) for p in (50, 99, 100)]


def by_scheduler(n, hanging, interval, seconds):
    "Lateness of every look, threads, and looks a second, of `n` watches of which some hang."
    go, late, before = threading.Event(), [], threading.active_count()
    with Scheduler() as scheduler:
        def opened(uri): return Camera(go if uri.startswith("hangs") else None)
        class Noting(Watch):
            def _turn(self):
                late.append(scheduler.clock.monotonic() - self._job.due if self._job else 0)
                return super()._turn()
        observations = Observations(opened, nothing)
        uris = [f"hangs-{i}" for i in range(hanging)] + [f"camera-{i % 50}" for i in range(n - hanging)]
        watches = [Noting(Rule(uri, "boat", every=interval), print, scheduler=scheduler, observations=observations).start() for uri in uris]
        begun, most = time.monotonic(), 0
        while time.monotonic() - begun < seconds:
            most = max(most, threading.active_count() - before)
            time.sleep(0.05)
        looks, missed = len(late), sum(watch._job.missed for watch in watches)
        stops = []
        for watch in watches:
            start = time.perf_counter(); watch.stop(); stops.append(time.perf_counter() - start)
        go.set()
    return late, most, looks / seconds, missed, stops


def by_threads(n, hanging, interval, seconds):
    "The same with a thread for each watch, which looks, sleeps, and looks again."
    go, stop, late, lock = threading.Event(), threading.Event(), [], threading.Lock()
    def run(camera):
        begun, k = time.monotonic(), 0
        while not stop.is_set():
            with lock: late.append(time.monotonic() - (begun + k * interval))
            k += 1
            if camera.hangs: go.wait(); return
            nothing(camera.frame(), .25, None)
            stop.wait(interval)
    threads = [threading.Thread(target=run, args=(Camera(go if i < hanging else None),), daemon=True) for i in range(n)]
    for thread in threads: thread.start()
    time.sleep(seconds)
    most, looks = sum(thread.is_alive() for thread in threads), len(late)
    stop.set(); go.set()
    for thread in threads: thread.join(5)
    return late, most, looks / seconds


def simulated_day():
    "Seconds that a day of looks every ten seconds takes, and what it tells."
    scheduler, heard = Scheduler(workers=0, clock=SimulatedClock()), []
    watch = Watch(Rule("camera", "boat", "at least", 2, max_notifications=100), lambda note: heard.append(note),
                  scheduler=scheduler, observations=Observations(lambda uri: Camera(), sometimes(scheduler.clock)), keep=1)
    watch._save = lambda *args: None  # drawing the evidence is not what is measured
    start = time.perf_counter(); watch.start(); scheduler.run(86400)
    return time.perf_counter() - start, watch.state.looks, sum(note.kind == "event" for note in heard)


class Counting:
    "The offline model, and how much is sent to it."
    def __init__(self): self.client, self.sent, self.chat = OfflineModel(), [], self
    completions = property(lambda self: self)
    def create(self, **request):
        self.sent.append(sum(len(str(message)) for message in request["messages"]))
        return self.client.chat.completions.create(**request)


def look_of_a_stream(ticks):
    "Characters that the first, the tenth and the last look of a model-driven stream send."
    scheduler, model = Scheduler(workers=0, clock=SimulatedClock()), Counting()
    task = [form_msg("user", "Tell me when there are more than 2 boats on sample:harbour.")]
    stream = StreamThread("bench", [], task, client=model, scheduler=scheduler, max_ticks=ticks, max_tokens=10**12)
    stream.start(); scheduler.run(10 * ticks)
    return model.sent[0], model.sent[9], model.sent[-1], len(model.sent) / stream.ticks


def shared(n):
    "Frames read and searched by the packaged detector for one look of `n` watches, and the seconds; beside a camera and a detection each."
    from llmcam.vision.yolo import detect
    from llmcam.vision.sample import EPOCH, render_scene
    searched = []
    class Harbour(Camera):
        def frame(self): self.reads += 1; return Frame(render_scene(t=20)[0], "sample:harbour", "Harbour", EPOCH)
    def counted(frame, conf, weights): searched.append(1); return detect(frame, conf=conf, weights="sample")
    counted(Harbour().frame(), .25, None)
    times = []
    for observations in (Observations(lambda uri: harbour, counted), None):
        searched.clear(); harbour, scheduler = Harbour(), Scheduler(workers=0, clock=SimulatedClock())
        for _ in range(n): Watch(Rule("sample:harbour", "boat"), print, scheduler=scheduler, observations=observations or Observations(lambda uri: harbour, counted)).start()
        start = time.perf_counter(); scheduler.run(1)
        times.append((harbour.reads, len(searched), time.perf_counter() - start))
    return times


EXIT = """
import time, threading
from llmcam.utils.scheduler import default_scheduler
from llmcam.vision.watch import Observations, Rule, Watch
from bench_watches import Camera, nothing
go = threading.Event()
eyes = Observations(lambda uri: Camera(go if uri.startswith("hangs") else None), nothing)
watches = [Watch(Rule(f"hangs-{i}" if i < 4 else f"camera-{i}", "boat", every=0.5), print, observations=eyes).start() for i in range(100)]
time.sleep(%s)
print(time.time(), flush=True)
"""

def exit_seconds(after):
    "Seconds from the last statement of a program with a hundred watches, four of them hanging, to its end."
    run = subprocess.run([sys.executable, "-c", EXIT % after], capture_output=True, text=True, cwd=Path(__file__).parent, env={"PYTHONPATH": str(ROOT)}, check=True)
    return time.time() - float(run.stdout)


def table(title, head, rows):
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    for row in rows: print(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else f'{cell:,}' if isinstance(cell, int) else str(cell) for cell in row)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="longer runs, ten thousand looks of a stream, a hundred watches on the real detector")
    full = parser.parse_args().full
    seconds, interval = (30, 1.0) if full else (8, 1.0)
    late, most, looks, missed, stops = by_scheduler(1000, 4, interval, seconds)
    late_each, most_each, looks_each = by_threads(1000, 4, interval, seconds)
    ours, each = percentiles(late), percentiles(late_each)
    table(f"1,000 watches every {interval:g} s on 50 cameras, 4 of them hanging, {seconds} s", ["", "one scheduler", "a thread each", "ratio"], [
        ["threads", most, most_each, most_each / most], ["looks a second", looks, looks_each, looks / looks_each],
        *[[f"late, {name} (ms)", a, b, b / a] for name, a, b in zip(("median", "99 %", "most"), ours, each)], ["turns missed", missed, "", ""],
        ["stop, median (ms)", 1000 * statistics.median(stops), "", ""], ["stop, most (ms)", 1000 * max(stops), "", ""]])
    took, day_looks, events = simulated_day()
    table("A simulated day, a look every ten seconds", ["seconds", "looks", "events told", "tokens a look"], [[took, day_looks, events, 0]])
    first, tenth, last, requests = look_of_a_stream(ticks := 10_000 if full else 1000)
    table(f"A model-driven stream of {ticks:,} looks: characters sent", ["first look", "tenth", "last", "last / tenth", "requests a look"], [[first, tenth, last, last / tenth, requests]])
    n = 100 if full else 20
    (reads, found, a), (reads_each, found_each, b) = shared(n)
    table(f"One look of {n} watches on one camera, packaged detector", ["", "frames read", "detections", "seconds"],
          [["shared", reads, found, a], ["each by itself", reads_each, found_each, b], ["ratio", "", "", b / a]])
    table("End of a program with 100 watches, 4 hanging", ["after running for", "seconds to exit"], [[f"{after} s", exit_seconds(after)] for after in (0.5, 4)])


if __name__ == "__main__": main()
