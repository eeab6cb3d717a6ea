"YouTube Live: the way from a link to a frame, tried on streams of this machine, and the clock in the corner."
import json, os, re, subprocess, sys, threading, time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from camera_servers import closed_port, hls_server, silent_server, strip_frame
from llmcam.core.policy import PolicyError, ToolPolicy, gate
from llmcam.vision import ytlive
from llmcam.vision.camera import AnswerError, Camera, CameraError, Frame, ResolvingError, capture_frame, close_cameras, open_camera
from llmcam.vision.ytlive import NHsta, YTLive, capture_youtube_live_frame, crop_frame, frame_to_text, meta, select_youtube_live_url, show_frame, stream_url

FRAMES = sorted((Path(__file__).parents[2] / "shared/data/frames").glob("cap_*.jpg"))
needs_ffmpeg = pytest.mark.usefixtures("ffmpeg")
needs_frames = pytest.mark.skipif(not FRAMES, reason="the real frames of ../shared/data/frames are not here")


# The clock in the corner

@needs_frames
@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_real_frames_are_read_right(path):
    clock, place = meta(Frame.load(path))
    assert f"cap_{clock:%Y.%m.%d_%H-%M-%S}_{place}" == path.stem


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (854, 480), (640, 360)])
@pytest.mark.parametrize("text, clock, place", [
    ("04.10.2024 14:53:49 Kauppatori", datetime(2024, 10, 4, 14, 53, 49), "Kauppatori"),
    ("28.09.2024 20:12:21 Eteläsatama", datetime(2024, 9, 28, 20, 12, 21), "Etelasatama"),
    ("31.12.2025 23:59:59 Olympiaterminaali", datetime(2025, 12, 31, 23, 59, 59), "Olympiaterminaali"),
    ("01.01.2027 00:00:00 Hakaniemi", datetime(2027, 1, 1), "Hakaniemi"),
])
def test_rendered_frames_are_read_right(text, clock, place, size):
    assert meta(strip_frame(text, size)) == (clock, place)


def test_the_sample_camera_is_read_as_well():
    from llmcam.vision.sample import render_scene
    clock, place = meta(render_scene(t=30)[0])
    assert isinstance(clock, datetime) and place == "Harbour"


def test_frames_paths_and_arrays_are_all_taken(tmp_path):
    image = strip_frame("04.10.2024 14:53:49 Torni")
    path = Frame(image).save()
    assert meta(image) == meta(Frame(image)) == meta(path) == meta(str(path)) == NHsta().meta(image)
    assert crop_frame(image).shape == (44, 640, 3) and show_frame(path).shape == image.shape and "Torni" in frame_to_text(image)


@pytest.mark.parametrize("image", [np.zeros((720, 1280, 3), np.uint8), np.full((10, 10, 3), 255, np.uint8), strip_frame("39.13.2024 14:53:49 Torni"), strip_frame("hello")])
def test_no_clock_is_an_error(image):
    with pytest.raises(CameraError, match="No clock"): meta(image)


def test_many_threads_read_at_once():
    images = [strip_frame(f"0{n}.10.2024 14:53:0{n} Torni") for n in range(1, 7)]
    found = [None] * 6
    def work(n): found[n] = meta(images[n])
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert [clock.day for clock, _ in found] == [1, 2, 3, 4, 5, 6] and len(ytlive._recogniser) == 1


def test_the_reader_downloads_nothing_and_says_nothing(tmp_path):
    code = ("import socket, sys; sys.path[:] = %r\ndef refuse(*a, **k): raise SystemExit('network')\nsocket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
            "import numpy as np\nfrom llmcam.vision.ytlive import frame_to_text\nprint(repr(frame_to_text(np.zeros((720, 1280, 3), np.uint8))))") % sys.path
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "''\n", "")


# From a link to a frame

@needs_ffmpeg
def test_a_live_stream_through_yt_dlp_and_opencv():
    with hls_server() as (url, _):
        assert stream_url(url) == url
        frame = Frame.load(capture_youtube_live_frame(url, "Pier"))
        assert (frame.place, frame.shape, frame.source) == ("Pier", (360, 640, 3), f"youtube:{url}") or frame.source == url
        assert YTLive(url, place="Test card")().name.endswith("_Test-card.jpg")


@needs_ffmpeg
def test_helsinki_names_its_frames_by_the_clock_in_them(tmp_path, own_data):
    Image.fromarray(strip_frame("28.09.2024 20:12:21 Eteläsatama")).save(tmp_path / "a.png")
    with hls_server([tmp_path / "a.png"]) as (url, _): path = NHsta(url)()
    assert path == own_data / "cap_2024.09.28_20-12-21_Etelasatama.jpg"
    assert Frame.load(path).time == datetime(2024, 9, 28, 17, 12, 21, tzinfo=timezone.utc)


@needs_ffmpeg
@needs_frames
def test_a_real_frame_survives_being_streamed():
    with hls_server([FRAMES[1]]) as (url, _): assert NHsta(url)().stem == FRAMES[1].stem


@needs_ffmpeg
def test_a_view_without_a_clock_is_named_by_the_wall():
    with hls_server() as (url, _): assert NHsta(url)().name.endswith("_Helsinki.jpg")


def test_links_are_matched_to_what_is_asked_for():
    ids = {"Santa Claus Village": "Cp4RRAEgpeU", "the parking lot": "mwN6l3O1MNI", "Helsinki": "LMZQ7eFhm58", "": "LMZQ7eFhm58"}
    for location, video in ids.items(): assert select_youtube_live_url(location) == f"https://www.youtube.com/watch?v={video}"


def test_silent_and_closed_servers_are_errors_in_time():
    with silent_server() as address:
        for link, limit in ((f"http://{address}/a.m3u8", 12), (f"http://127.0.0.1:{closed_port()}/a.m3u8", 4)):
            started = time.monotonic()
            with pytest.raises(CameraError, match="not reachable"): stream_url(link, timeout=1)
            assert time.monotonic() - started < limit


class FakeYoutubeDL:
    "Stands in for yt_dlp's class: gives or raises what a test wants, and remembers what it was asked."
    def __init__(self, answer): self.answer, self.options, self.asked = answer, [], []
    def __call__(self, options): self.options.append(options); return self
    def __enter__(self): return self
    def __exit__(self, *args): pass
    def extract_info(self, link, download):
        self.asked.append(link)
        if isinstance(self.answer, Exception): raise self.answer
        return self.answer


@pytest.fixture
def fake(monkeypatch):
    import yt_dlp
    def install(answer):
        stand_in = FakeYoutubeDL(answer)
        monkeypatch.setattr(yt_dlp, "YoutubeDL", stand_in)
        return stand_in
    ytlive._cache.clear()
    return install


@pytest.mark.parametrize("said, short", [
    ("ERROR: [youtube] x: Private video. Sign in if you've been granted access to this video", "private"),
    ("ERROR: [youtube] x: Sign in to confirm you’re not a bot. Use --cookies-from-browser", "bot check"),
    ("ERROR: [youtube] x: This live event will begin in 5 hours.", "not live"),
    ("ERROR: [youtube] x: This live stream recording is not available.", "not live"),
    ("ERROR: [youtube] x: Video unavailable. This video has been removed by the uploader", "removed"),
    ("ERROR: [youtube] x: This video is unavailable", "removed"),
    ("ERROR: [youtube] x: something new", "something new"),
])
def test_what_youtube_refuses_has_a_name(fake, said, short):
    import yt_dlp
    fake(yt_dlp.utils.DownloadError(said))
    with pytest.raises(CameraError, match=re.escape("https://youtu.be/x") + ".*" + short): stream_url("https://youtu.be/x")


def test_an_upcoming_stream_is_not_live(fake):
    fake({"live_status": "is_upcoming"})
    with pytest.raises(CameraError, match="not live"): stream_url("https://youtu.be/x")


@pytest.mark.parametrize("link, extractor", [("https://www.youtube.com/watch?v=x", "youtube"), ("https://youtu.be/x", "youtube"), ("https://m.youtube.com/live/x", "youtube"),
                                             ("https://youtube.com.evil.example/watch?v=x", "generic"), ("https://evil.example/?u=youtube.com", "generic"), ("https://vimeo.com/1", "generic")])
def test_only_youtube_hosts_go_to_youtube_extractors(fake, link, extractor):
    stand_in = fake({"url": "http://127.0.0.1/a.m3u8"})
    stream_url(link)
    assert stand_in.options[0]["allowed_extractors"][0] == extractor and not {"cookiefile", "cookiesfrombrowser"} & set(stand_in.options[0])


def test_an_address_is_kept_until_it_expires(fake):
    stand_in = fake({"url": f"https://manifest.googlevideo.com/expire/{int(time.time()) + 3600}/live.m3u8"})
    for _ in range(3): ytlive._kept_stream_url("https://youtu.be/x", 5)
    assert len(stand_in.asked) == 1
    stand_in.answer = {"url": f"https://manifest.googlevideo.com/expire/{int(time.time()) + 10}/live.m3u8"}
    for _ in range(2): ytlive._kept_stream_url("https://youtu.be/y", 5)
    assert len(stand_in.asked) == 3


@needs_ffmpeg
def test_a_model_needs_the_host_to_be_trusted():
    with hls_server() as (url, _):
        with gate(ToolPolicy()), pytest.raises(PolicyError, match="public internet"): capture_youtube_live_frame(url)
        for named in (url, re.search(r"//([^/]+)", url)[1]):  # the link itself, or its host
            with gate(ToolPolicy(trusted=named)): assert Path(capture_youtube_live_frame(url)).exists()


def test_a_page_may_not_send_a_model_to_a_private_address(monkeypatch):
    from camera_servers import Quiet, http_server
    class Handler(Quiet):
        def do_GET(self): self.answer(status=302, Location="http://10.1.2.3/live.m3u8")
    with http_server(Handler) as url, gate(ToolPolicy(trusted=url.removeprefix("http://"))):
        with pytest.raises((CameraError, PolicyError), match="not on the public internet"): stream_url(f"{url}/live.m3u8", timeout=2)


@needs_ffmpeg
def test_a_camera_that_the_person_named_stands_for_its_link():
    with hls_server() as (url, _):
        with gate(ToolPolicy(trusted=f"youtube:{url}")):
            assert Frame.load(capture_frame(f"youtube:{url}")).shape == (360, 640, 3) and Path(capture_youtube_live_frame(url)).exists()
            for other in (url, f"youtube:{url}?more", url.replace("http", "youtube:http").replace("live", "dead")):
                with pytest.raises(PolicyError, match="public internet"): capture_frame(other)
        for trusted in ((), "youtube:http://example.com/live.m3u8", "youtube:"):
            with gate(ToolPolicy(trusted=trusted)), pytest.raises(PolicyError, match="public internet"): capture_frame(f"youtube:{url}")


@pytest.mark.parametrize("kind", [YTLive, NHsta])
def test_a_folder_of_ones_own_is_made(tmp_path, kind):
    for _ in range(2): path = kind("sample:harbour?t=30", data_dir=tmp_path / "new/folder")()
    assert path.parent == tmp_path / "new/folder" and len(list(path.parent.iterdir())) == 2
    assert kind("sample:harbour?t=30", data_dir=str(tmp_path / "text"))().parent == tmp_path / "text"


@pytest.mark.parametrize("image", [None, 7, [[0]], np.zeros((720, 1280), np.uint8), np.zeros((0, 0, 3), np.uint8), np.zeros((0,), np.uint8), np.zeros((720, 0, 3), np.uint8),
                                   np.zeros((720, 1280, 4), np.uint8), np.zeros((720, 1280, 3)), Frame(np.zeros((720, 1280), np.uint8)), Frame(None)],
                         ids=lambda image: f"{type(image).__name__}{getattr(image, 'shape', '') if isinstance(image, np.ndarray) else ''}")
def test_what_is_no_rgb_picture_is_an_error(image):
    for reader in (meta, frame_to_text, crop_frame):
        with pytest.raises(CameraError, match="RGB array"): reader(image)


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (7, 3)])
def test_the_smallest_pictures_have_no_clock(size):
    with pytest.raises(CameraError, match="No clock"): meta(np.zeros((*size, 3), np.uint8))


def test_youtube_stays_open_after_strangers_text():
    "YouTube is one fixed service, to which nothing can be carried off: the rule about hosts is for addresses that a model makes up."
    from llmcam.core.policy import ToolPolicy, current_policy, gate
    from llmcam.vision.ytlive import _naming
    with gate(ToolPolicy(hosts=("pier.example",))):
        with _naming("youtube:LMZQ7eFhm58", "https://www.youtube.com/watch?v=LMZQ7eFhm58"): assert current_policy().hosts is None
        with _naming("youtube:https://evil.example/x", "https://evil.example/x"): assert current_policy().hosts == ("pier.example",)


def test_a_link_that_takes_long_is_resolving_and_has_its_answer_later(fake):
    "Within the deadline of the frame, not of the extractor; what was begun goes on."
    go = threading.Event()
    class Slow(FakeYoutubeDL):
        def extract_info(self, link, download): go.wait(20); return super().extract_info(link, download)
    import yt_dlp
    stand_in = fake(None)
    stand_in.__class__ = Slow
    stand_in.answer = yt_dlp.utils.DownloadError("ERROR: [youtube] x: Private video")
    with open_camera("https://youtu.be/x") as camera:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(ResolvingError, match="youtu.be/x.*Ask again"): camera.frame(timeout=0.2)
            assert camera.state == "resolving" and time.monotonic() - started < 2
        go.set()
        with pytest.raises(AnswerError, match="private"): camera.frame()
        assert camera.state == "offline" and len(stand_in.asked) == 1
    close_cameras()
