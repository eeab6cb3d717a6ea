"Cameras on loopback for the tests: snapshots with faults, MJPEG, HLS made live by ffmpeg, an API shaped like DigiTraffic's."
import base64, hashlib, io, json, re, socket, subprocess, threading, time
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from PIL import Image, ImageDraw, ImageFont


def jpeg(text="camera", size=(320, 180), color=(90, 140, 190), quality=90, mark=True):
    "A small picture with `text` on it, as JPEG."
    picture = Image.new("RGB", size, color)
    draw = ImageDraw.Draw(picture)
    if mark: draw.rectangle((size[0] // 3, size[1] // 3, size[0] // 2, size[1] // 2), fill=(200, 60, 40))
    draw.text((8, 8), text, fill="white")
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()


def strip_frame(text, size=(1280, 720)):
    "A grey scene with `text` in the style of the Helsinki stream: white on a black strip at the top left."
    import numpy as np
    scene = np.random.default_rng(len(text)).integers(90, 160, (size[1] // 8, size[0] // 8, 3), np.uint8)
    picture, scale = Image.fromarray(scene).resize(size), size[1] / 720
    font = ImageFont.load_default(size=23 * scale)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, draw.textlength(text, font=font) + 10 * scale, 29 * scale), fill="black")
    draw.text((4 * scale, 1 * scale), text, fill="white", font=font)
    return np.asarray(picture)


@contextmanager
def http_server(handler):
    "Serve `handler` on loopback while the block runs; gives the base URL."
    class Server(ThreadingHTTPServer):
        daemon_threads = True
        def handle_error(self, request, address): pass  # clients that hang up are what the tests are about
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try: yield f"http://127.0.0.1:{server.server_port}"
        finally: server.shutdown(); thread.join()


class Quiet(BaseHTTPRequestHandler):
    "A request handler that keeps silent, counts requests and answers with one call."
    def log_message(self, *args): pass

    def answer(self, body=b"", status=200, **headers):
        self.send_response(status)
        for name, value in headers.items(): self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


FAULTS = ("truncated", "html", "empty", "flipped", "text", "huge", "bomb", "drip", "silent", "loop", "missing", "unavailable", "half", "black", "green", "resized")

@contextmanager
def snapshot_server(picture=None, stop=None):
    """Snapshots: `/ok.jpg`, `/old.jpg` (changed in 2024), and one path a fault, such as `/truncated.jpg`.
    Gives the base URL and a dict; `state["fault"]` makes `/ok.jpg` fail that way. `/basic.jpg` and `/digest.jpg` ask for `state["login"]`."""
    content, state, done = picture or jpeg(), {"fault": None, "requests": [], "headers": [], "login": "me:hid/den"}, threading.Event()

    class Handler(Quiet):
        def do_GET(self):
            name = urlsplit(self.path).path.strip("/").removesuffix(".jpg")
            state["requests"].append(self.path); state["headers"].append(dict(self.headers))
            if name == "ok": name = state["fault"] or "ok"
            getattr(self, f"do_{name}", self.do_missing)()

        def image(self, body, **headers): self.answer(body, Content_Type="image/jpeg", **headers)
        def do_ok(self): self.image(content)
        def do_old(self): self.image(content, Last_Modified=formatdate(1728042829, usegmt=True))
        def do_cookie(self):
            if "seen=1" in self.headers.get("Cookie", ""): self.image(content)
            else: self.answer(b"", 302, Location=self.path, Set_Cookie="seen=1; Path=/; HttpOnly")

        def do_zone(self): self.image(content, Last_Modified="Mon, 01 Jan 2024 12:00:00 +0200")
        def do_unset(self): self.image(content, Last_Modified="Thu, 01 Jan 1970 00:00:07 GMT")

        def asks(self, way, right):
            "Answers with the picture if the login is `right`, which takes what the visitor says of itself."
            said = self.headers.get("Authorization", "")
            if said.startswith(way) and right(said): self.image(content)
            else: self.answer(b"who are you?", 401, WWW_Authenticate=way + ' realm="camera"' + ', nonce="a7", qop="auth"' * (way == "Digest"))

        def do_basic(self): self.asks("Basic", lambda said: base64.b64decode(said.split()[1]) .decode() == state["login"])

        def do_digest(self):
            def md5(*parts): return hashlib.md5(":".join(parts).encode()).hexdigest()
            def right(said):
                told = {name: value for name, value in re.findall(r'(\w+)="?([^",]*)', said)}
                user, _, password = state["login"].partition(":")
                secret, asked = md5(user, "camera", password), md5("GET", self.path)
                return told["response"] == md5(secret, "a7", told["nc"], told["cnonce"], "auth", asked)
            self.asks("Digest", right)

        def do_truncated(self): self.image(content[:len(content) * 2 // 3])
        def do_empty(self): self.image(b"")
        def do_html(self): self.image(b"<!DOCTYPE html><html><head><title>Please log in</title></head></html>")
        def do_text(self): self.image(b'{"error": "no camera"}')
        def do_missing(self): self.answer(b"not here", 404)
        def do_unavailable(self): self.answer(b"later", 503)
        def do_loop(self): self.answer(b"", 302, Location="/loop.jpg")
        def do_silent(self): done.wait(30)
        def do_black(self): self.image(jpeg("", color=0, mark=False))
        def do_green(self): self.image(jpeg(color=(0, 135, 0), mark=False))
        def do_resized(self): self.image(jpeg(size=(160, 90)))

        def do_flipped(self):
            start = content.rfind(b"\xff\xda") + 20
            self.image(content[:start] + bytes(b ^ (0x55 if n % 50 == 0 else 0) for n, b in enumerate(content[start:-2])) + content[-2:])

        def do_half(self):  # promises more than it sends
            self.send_response(200); self.send_header("Content-Length", str(len(content))); self.end_headers()
            self.wfile.write(content[:len(content) // 2])

        def do_huge(self):
            self.send_response(200); self.send_header("Content-Type", "image/jpeg"); self.end_headers()
            for _ in range(200): self.wfile.write(bytes(2**20))

        def do_drip(self):
            self.send_response(200); self.send_header("Content-Type", "image/jpeg"); self.end_headers()
            for at in range(len(content)):
                self.wfile.write(content[at:at + 1]); self.wfile.flush()
                if done.wait(0.2): return

        def do_bomb(self):
            out = io.BytesIO()
            Image.new("1", (8_000, 8_000)).save(out, "PNG")
            self.image(out.getvalue())

    with http_server(Handler) as url:
        try: yield url, state
        finally: done.set()


@contextmanager
def mjpeg_server(pictures, fps=10):
    """Motion JPEG at `/video.mjpg`, over and over; `state['stall']` is an event that stops the pictures, `state['pictures']` can be replaced,
    `state['end']` hangs up, and `state['open']` counts the connections."""
    done, state = threading.Event(), {"stall": threading.Event(), "end": threading.Event(), "open": 0, "pictures": pictures}

    class Handler(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame"); self.end_headers()
            state["open"] += 1
            n = 0
            while not done.wait(1 / fps):
                if state["end"].is_set(): return
                if state["stall"].is_set(): continue
                body, n = state["pictures"][n % len(state["pictures"])], n + 1
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(body), body))

    with http_server(Handler) as url:
        try: yield f"{url}/video.mjpg", state
        finally: done.set()


@contextmanager
def hls_server(images=None, size=(640, 360), fps=25, segment=1, place="/live.m3u8"):
    """A live HLS stream made by ffmpeg, from its test pattern or from `images` (paths, each shown again and again for a second).
    Gives the URL of the playlist and a dict with the `process`, to stop it in the middle; `state['damage']` flips bits of the segments."""
    with TemporaryDirectory() as folder:
        if images:
            listed = Path(folder) / "images.txt"
            listed.write_text("".join(f"file '{Path(p).resolve()}'\nduration 1\n" for p in [*images, images[-1]]))  # ffmpeg gives the last one no time
            source = ["-stream_loop", "-1", "-f", "concat", "-safe", "0", "-i", str(listed), "-vf", f"fps={fps}"]
        else: source = ["-f", "lavfi", "-i", f"testsrc=size={size[0]}x{size[1]}:rate={fps}"]
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-re", *source, "-t", "120", "-c:v", "libx264",
                   "-preset", "ultrafast", "-crf", "12", "-g", str(fps * segment), "-pix_fmt", "yuv420p", "-f", "hls", "-hls_time", str(segment),
                   "-hls_list_size", "5", "-hls_flags", "delete_segments", f"{folder}{place}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        class Handler(SimpleHTTPRequestHandler):
            extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t"}
            def log_message(self, *args): pass
            def copyfile(self, source, sink):
                content = source.read()
                if state["damage"] and self.path.endswith(".ts"): content = bytes(b ^ 0x5a if n % 997 > 990 else b for n, b in enumerate(content))
                sink.write(content)

        state = {"process": process, "folder": Path(folder), "damage": False}
        try:
            deadline = time.monotonic() + 30
            while not Path(folder + place).exists():
                if process.poll() is not None or time.monotonic() > deadline: raise RuntimeError("ffmpeg made no stream")
                time.sleep(0.02)
            with http_server(partial(Handler, directory=folder)) as url: yield f"{url}{place}", state
        finally:
            process.kill(); process.wait()


STATIONS = [  # id, name, Finnish name, municipality, province, presets
    ("C01502", "vt1_Espoo_Nupuri", "Tie 1 Espoo, Nupuri", "Espoo", "Uusimaa", ["Turkuun", "Helsinkiin"]),
    ("C01520", "vt7_Porvoo_Harabacka", "Tie 7 Porvoo, Harabacka", "Porvoo", "Uusimaa", ["Loviisaan", "Helsinkiin", "Tienpinta"]),
    ("C09501", "vt4_Jyväskylä_Äijälänsalmi", "Tie 4 Jyväskylä, Äijälänsalmi", "Jyväskylä", "Keski-Suomi", ["Ouluun"]),
    ("C14560", "vt4_Inari_Kaamanen", "Tie 4 Inari, Kaamanen", "Inari", "Lappi", ["Ivaloon", "Utsjoelle"]),
]

def _station(base, id, name, fi, town, province, presets):
    found = [{"id": f"{id}{n:02}", "presentationName": shown, "inCollection": True, "direction": "INCREASING_DIRECTION",
              "imageUrl": f"{base}/images/{id}{n:02}.jpg", "resolution": "720x576"} for n, shown in enumerate(presets, 1)]
    return {"type": "Feature", "id": id, "geometry": {"type": "Point", "coordinates": [25.6, 60.4, 0.0]},
            "properties": {"id": id, "name": name, "names": {"fi": fi, "sv": fi, "en": fi}, "municipality": town, "province": province,
                           "collectionStatus": "GATHERING", "state": None, "presets": found}}

@contextmanager
def digitraffic_server(stations=STATIONS, delay=0.0, broken=(), image_base=None, limit=None):
    """An API shaped like DigiTraffic's weathercam service. `broken` station ids answer 500, `delay` seconds pass before each answer,
    more than `limit` requests at once get 429. Gives the stations URL and a dict that counts: requests, busiest, without_header, not_modified."""
    known = {s[0]: s for s in stations}
    state, lock = {"requests": 0, "busy": 0, "busiest": 0, "without_header": 0, "not_modified": 0, "paths": []}, threading.Lock()

    class Handler(Quiet):
        protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True  # an answer leaves in one piece

        def do_GET(self):
            with lock:
                state["requests"] += 1; state["busy"] += 1; state["busiest"] = max(state["busiest"], state["busy"])
                state["paths"].append(self.path)
                if not self.headers.get("Digitraffic-User"): state["without_header"] += 1
                crowded = limit and state["busy"] > limit
            try:
                if delay: time.sleep(delay)
                self.answer(b"slow down", 429) if crowded else self.route()
            finally:
                with lock: state["busy"] -= 1

        def route(self):
            base, path = f"http://{self.headers['Host']}", urlsplit(self.path).path
            if path == "/api/weathercam/v1/stations": return self.listing({s[0]: _station(image_base or base, *s) for s in stations})
            id = path.rpartition("/")[2].removesuffix(".jpg")
            if path.startswith("/images/") and id[:6] in known: return self.answer(jpeg(id), Content_Type="image/jpeg")
            if path.startswith("/api/") and id in known and id not in broken: return self.answer(json.dumps(_station(image_base or base, *known[id])).encode(), Content_Type="application/json")
            self.answer(b"{}", 500 if id in broken else 404)

        def listing(self, found):
            def brief(f):
                presets = [{"id": p["id"], "inCollection": True} for p in f["properties"]["presets"]]
                return {**f, "properties": {**{k: f["properties"][k] for k in ("id", "name", "collectionStatus", "state")}, "presets": presets}}
            body = json.dumps({"type": "FeatureCollection", "features": [brief(f) for f in found.values()]}).encode()
            etag = f'"{len(body)}"'
            if self.headers.get("If-None-Match") == etag:
                state["not_modified"] += 1
                return self.answer(b"", 304, ETag=etag)
            self.answer(body, Content_Type="application/json", ETag=etag)

    with http_server(Handler) as url: yield f"{url}/api/weathercam/v1/stations", state


@contextmanager
def silent_server():
    "Accepts connections and never answers; gives host:port."
    with socket.create_server(("127.0.0.1", 0)) as server: yield f"127.0.0.1:{server.getsockname()[1]}"


def closed_port():
    "A loopback port where nobody listens."
    with socket.create_server(("127.0.0.1", 0)) as server: return server.getsockname()[1]


@contextmanager
def rtsp_server(size=(320, 180)):
    "A live camera of GStreamer's RTSP server; gives its URL and its process, or `None` where the server is not installed."
    command = ["/usr/bin/python3", str(Path(__file__).with_name("rtsp_server.py")), *map(str, size)]
    if not Path(command[0]).exists():
        yield None, None
        return
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        port = process.stdout.readline().strip()
        try: yield (f"rtsp://127.0.0.1:{port}/1" if port else None), process
        finally: process.kill()


@contextmanager
def rtsp_redirect(target):
    "An RTSP server that sends whoever asks for a picture to `target`; gives its URL."
    def serve(client):
        with client, client.makefile("rb") as lines:
            while head := lines.readline():
                wanted, number = head.split()[0], b""
                while (line := lines.readline()).strip():
                    if line.lower().startswith(b"cseq"): number = line.split(b":")[1].strip()
                answer = b"200 OK\r\nPublic: OPTIONS, DESCRIBE" if wanted == b"OPTIONS" else b"302 Moved\r\nLocation: " + target.encode()
                client.sendall(b"RTSP/1.0 " + answer + b"\r\nCSeq: " + number + b"\r\n\r\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        def accept():
            try:
                while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
            except OSError: pass
        threading.Thread(target=accept, daemon=True).start()
        try: yield f"rtsp://127.0.0.1:{server.getsockname()[1]}/1"
        finally: server.shutdown(socket.SHUT_RDWR)
