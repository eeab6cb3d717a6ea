"""Cameras: how fresh and how quick the latest frame of a live HLS stream is, what 16 of them cost, and what a dead server, the address book and
the clock in the corner take. `--full` measures longer. Needs ffmpeg; run it alone: the age of a frame is the processor's as well."""
import argparse, itertools, os, statistics, subprocess, sys, tempfile, threading, time
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
from camera_servers import STATIONS, digitraffic_server, http_server, silent_server
from llmcam.vision.camera import CameraError, Frame, close_cameras, open_camera
from llmcam.vision.sample import render_scene

BITS, SIDE = 32, 32  # the moment a frame was made, in milliseconds, as a row of black and white squares


def stamped(luma, when):
    "Write `when`, in seconds, into the brightness of a picture."
    for i in range(BITS): luma[:SIDE, i * SIDE:(i + 1) * SIDE] = 235 if int(when * 1000) >> i & 1 else 16
    return luma


def age(image):
    "Seconds since the picture was made, by the stamp in it."
    seen = image[SIDE // 2, SIDE // 2:BITS * SIDE:SIDE].mean(-1) > 128
    made = sum(1 << i for i, bit in enumerate(seen) if bit)
    return ((int(time.time() * 1000) - made) % 2**BITS) / 1000


def feed(pipe, stop, size=(1280, 720), fps=25):
    "The sample harbour, one frame after the other in real time."
    import cv2
    films = [cv2.cvtColor(render_scene(t=30 + n / fps, size=size)[0], cv2.COLOR_RGB2YUV_I420) for n in range(fps)]
    start = time.monotonic()
    for n in itertools.count():
        if stop.wait(max(0, start + n / fps - time.monotonic())): return
        picture = films[n % fps].copy()
        stamped(picture[:size[1]], time.time())
        try: pipe.write(picture.tobytes())
        except OSError: return


@contextmanager
def harbour(segment=2, fps=25):
    "A live HLS stream, 1280x720 at 25 frames a second; gives its address."
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "1280x720", "-r", str(fps), "-i", "-",
                   "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-b:v", "3M", "-g", str(fps * segment), "-f", "hls", "-hls_time", str(segment),
                   "-hls_list_size", "5", "-hls_flags", "delete_segments", f"{folder}/live.m3u8"]
        process, stop = subprocess.Popen(command, stdin=subprocess.PIPE), threading.Event()
        thread = threading.Thread(target=feed, args=(process.stdin, stop), daemon=True); thread.start()
        stack.callback(lambda: (stop.set(), thread.join(), process.kill(), process.wait()))

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *args): pass
        while len(list(Path(folder).glob("*.ts"))) < 4: time.sleep(0.1)
        yield stack.enter_context(http_server(partial(Handler, directory=folder))) + "/live.m3u8"


def stations(count=780, delay=0.03):
    "A service like Digitraffic's, which takes its time; gives the address of its list."
    many = [(f"C{n:05}", *STATIONS[n % len(STATIONS)][1:]) for n in range(1, count + 1)]
    return digitraffic_server(many, delay)


@contextmanager
def served(what):
    "What `what` serves, from a process of its own."
    with subprocess.Popen([sys.executable, __file__, "--serve", what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try: yield process.stdout.readline().strip()
        finally: process.stdin.close()


def ours(url, seconds):
    waits, ages, end = [], [], time.monotonic() + seconds
    with open_camera(url) as camera:
        camera.frame(); time.sleep(2)
        while time.monotonic() < end:
            start = time.perf_counter(); image = camera.frame().image; waits.append(time.perf_counter() - start)
            ages.append(age(image)); time.sleep(0.11)
    return waits, ages


def once(url, seconds):
    "As the original did: open, read one frame, close."
    import cv2
    waits, ages, end = [], [], time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter(); capture = cv2.VideoCapture(url); ok, image = capture.read(); capture.release(); waits.append(time.perf_counter() - start)
        if ok: ages.append(age(image))
        time.sleep(0.31)
    return waits, ages


def children():
    "Seconds of processor time, and MiB of memory, of the child processes that read cameras; of what they share, each has its part (PSS)."
    seconds = size = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try: name, fields = stat.read_text().rpartition(")")[::2]
        except OSError: continue
        fields = fields.split()
        if int(fields[1]) != os.getpid() or "--serve" in stat.with_name("cmdline").read_text(): continue
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        size += next(int(line.split()[1]) for line in stat.with_name("smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    return seconds, size / 2**10


def spent(seconds, work=None):
    "Per cent of one core that the children take for `seconds`, while `work` is called."
    before, start = children()[0], time.monotonic()
    while time.monotonic() - start < seconds: (work or partial(time.sleep, 0.2))()
    return 100 * (children()[0] - before) / (time.monotonic() - start)


def sixteen(url, seconds, count=16):
    waits, ages = [], []
    close_cameras()
    with ExitStack() as stack:
        cameras = [stack.enter_context(open_camera(f"{url}?{n}")) for n in range(count)]
        for camera in cameras: camera.frame(timeout=20)
        def ask():
            for camera in cameras:
                start = time.perf_counter()
                try: ages.append(age(camera.frame().image))
                except CameraError: pass  # it waited for nothing, which counts
                waits.append(time.perf_counter() - start); time.sleep(1 / count)
        asked = spent(seconds, ask)
        memory = children()[1]
        time.sleep(11)  # until nobody is taken to want more
        return waits, ages, asked, spent(seconds), memory


def dead_server():
    with silent_server() as address, open_camera(f"http://{address}/live.m3u8") as camera:
        start = time.monotonic()
        try: camera.frame()
        except CameraError: return time.monotonic() - start


def address_book(count=780, alone=40):
    "Seconds to build the book, and what it would take one by one."
    from llmcam.vision.dtcam import _station_views, address_book
    with tempfile.TemporaryDirectory() as folder, served("stations") as url:
        os.environ["LLMCAM_DATA"] = folder
        _station_views("C00001", url)
        start = time.perf_counter(); book = address_book(url, update=True); built = time.perf_counter() - start
        assert len({p.station for p in book}) == count
        start = time.perf_counter()
        for n in range(1, alone + 1): _station_views(f"C{n:05}", url)
        return built, (time.perf_counter() - start) / alone * count


def clocks():
    "Milliseconds to read clock and place, and how many frames are read right."
    from llmcam.vision.ytlive import meta
    paths = sorted((ROOT.parent / "shared/data/frames").glob("cap_*.jpg"))
    frames, took, right = [Frame.load(p) for p in paths], [], 0
    if not frames: return None
    meta(frames[0])
    for path, frame in zip(paths, frames):
        start = time.perf_counter(); clock, place = meta(frame); took.append(1000 * (time.perf_counter() - start))
        right += f"cap_{clock:%Y.%m.%d_%H-%M-%S}_{place}" == path.stem
    return took, f"{right} of {len(paths)}"


def middle(values, unit, scale=1.0, p=0.5): return f"{scale * statistics.quantiles(values, n=100)[round(100 * p) - 1]:.3g} {unit}"


def serve(what):
    "Serve until the input ends."
    with {"harbour": harbour, "stations": stations}[what]() as found:
        print(found if isinstance(found, str) else found[0], flush=True)
        sys.stdin.read()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="a minute for each of the parts that are sampled")
    parser.add_argument("--serve", choices=("harbour", "stations"), help=argparse.SUPPRESS)
    given, rows = parser.parse_args(), []
    if given.serve: return serve(given.serve)
    seconds = 60 if given.full else 8
    with served("harbour") as url:
        theirs, mine = once(url, seconds), ours(url, seconds)
        rows += [("live HLS: one frame, p50", middle(mine[0], "ms", 1000), middle(theirs[0], "ms", 1000), ""),
                 ("live HLS: one frame, p95", middle(mine[0], "ms", 1000, 0.95), middle(theirs[0], "ms", 1000, 0.95), "<= 5 ms"),
                 ("live HLS: true age, median", middle(mine[1], "s"), middle(theirs[1], "s"), "<= 2 s")]
        waits, ages, asked, unasked, memory = sixteen(url, seconds)
        rows += [("16 cameras: one frame, p95", middle(waits, "ms", 1000, 0.95), "", "<= 5 ms"), ("16 cameras: true age, median", middle(ages, "s"), "", "<= 2 s"),
                 ("16 cameras, each asked once a second", f"{asked:.0f} % of a core", "", "200 % is there"),
                 ("16 cameras, open but not asked", f"{unasked:.0f} % of a core", "", ""), ("16 cameras, memory", f"{memory:.0f} MiB", "", "")]
        close_cameras()
    rows.append(("a server that never answers", f"{dead_server():.1f} s", "30 s", "<= 5 s"))
    built, alone = address_book()
    rows.append(("address book of 780 stations, 30 ms a request", f"{built:.2f} s", f"{alone:.1f} s one by one", "<= 1.2 s"))
    if read := clocks(): rows.append((f"clock and place of a frame ({read[1]} right)", middle(read[0], "ms"), "", "<= 60 ms"))
    print("| | llmcam | open, read, close with OpenCV | wanted |\n| --- | ---: | ---: | ---: |")
    for row in rows: print(f"| {' | '.join(row)} |")


if __name__ == "__main__": main()
