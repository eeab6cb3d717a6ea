"The chat page: what it refuses, and how it looks and works in a real browser."
import json, re, threading
from pathlib import Path

import pytest
from conftest import program
from safety.helpers import Recorder, answering, listen, serving, until

from llmcam.application.chat_ui import (Feed, NoticeLine, Talk, camera_label, find_pictures, in_plain_words, make_app, name_cameras, picture_name,
    picture_size, render_markdown)
from llmcam.application.login import Login
from llmcam.application.runner import OFFLINE, ChatServer, ServeError, pick_engine, run_llmcam
from llmcam.application.session import SessionManager
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import OfflineModel, ScriptedModel
from llmcam.core.policy import ToolPolicy, data_dir

HOSTILE = """Hello [fine](https://example.org) <script>window.hit = 1</script><img src=x onerror="window.hit = 2"> <svg/onload="window.hit=3">
[a](javascript:window.hit=4) [b](data:text/html,<script>window.hit=5</script>) ![c](https://evil.example/c.png) ![d](//evil.example/d.png)
<a href="https://evil.example" onmouseover="window.hit=6">e</a> <iframe src="https://evil.example"></iframe> <style>body{display:none}</style>

| a |
|---|
| <b onclick="window.hit=7">f</b> |

    </pre><script>window.hit=8</script>
"""


# -- without a browser

@pytest.mark.parametrize("kind, tag, size, expected", [("JPEG", None, (40, 20), (40, 20)), ("JPEG", 6, (40, 20), (20, 40)), ("PNG", 6, (40, 20), (20, 40)), ("PNG", None, (40, 20), (40, 20)),
                                                       ("WEBP", 8, (40, 20), (20, 40)), ("PNG", None, (8000, 5000), (8000, 5000)), ("PNG", None, (8000, 5001), None)])
def test_the_size_of_a_picture(own_data, kind, tag, size, expected):
    from PIL import Image
    exif = Image.Exif()
    if tag: exif[0x0112] = tag
    Image.new("1" if size[0] > 40 else "RGB", size).save(data_dir() / "a", kind, exif=exif)
    assert picture_size(data_dir() / "a") == expected


@pytest.fixture
def visit():
    "Open a page as a browser does; the client keeps its cookie."
    import httpx2
    clients = []
    def open_page(url):
        client = httpx2.Client(base_url=url, headers={"origin": url}, timeout=30)
        clients.append(client)
        client.get("/").raise_for_status()
        return client
    yield open_page
    for client in clients: client.close()


def test_the_session_is_only_in_a_strict_cookie(visit):
    with answering("Hello.") as (url, manager):
        client = visit(url)
        reply = client.get("/")
        cookie = reply.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie
        [session_id] = manager
        assert session_id not in reply.text
        assert len(manager) == 1, "a second visit makes no second session"


def test_every_page_says_what_the_browser_may_load(visit):
    with answering() as (url, _):
        page = visit(url).get("/")
        policy = page.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert not re.search(r"<script(?![^>]*src=\"/static/)|style=|\son\w+=|(?:src|href|action)=\"(?!/|#)", page.text), "nothing inline, nothing from elsewhere"


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example"}, {"host": "localhost.:5001"}, {"host": "127.0.0.1:5001:80"}, {"host": ""}])
def test_other_names_for_this_machine_are_refused(visit, headers):
    with answering() as (url, manager):
        assert visit(url).get("/", headers=headers).status_code in (400, 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8888", "http://127.0.0.1:1", "", None])
def test_only_the_page_itself_may_speak(visit, origin):
    with answering("Hello.") as (url, manager):
        client = visit(url)
        headers = {} if origin is None else {"origin": origin}
        if origin is None: del client.headers["origin"]
        assert client.post("/chat", data={"text": "Hi"}, headers=headers).status_code == 403
        assert client.post("/stop", data={"watch": "x"}, headers=headers).status_code == 403
        [session_id] = manager
        assert manager[session_id].messages == []
        client.headers["origin"] = url
        assert client.post("/chat", data={"text": "Hi"}).status_code == 202, "and the page itself may"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:8888", "null", None])
def test_sockets_from_elsewhere_are_refused(visit, origin):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect
    with answering() as (url, _):
        client = visit(url)
        with listen(client, url) as socket: assert json.loads(socket.recv(timeout=10))["busy"] is False
        with pytest.raises(InvalidStatus): connect(f"{url.replace('http', 'ws')}/events?feed=x", origin=origin, proxy=None)


def test_a_forged_cookie_opens_nothing(visit):
    with answering() as (url, manager):
        client = visit(url)
        [session_id] = manager
        for forged in (session_id, session_id + ".x.y", "e30=.a.b"):
            client.cookies.clear()
            client.cookies.set("llmcam", forged)
            assert client.post("/chat", data={"text": "Hi"}).status_code == 404
        assert manager[session_id].messages == []


def test_long_and_empty_messages_are_refused(visit):
    with answering() as (url, _):
        client = visit(url)
        assert client.post("/chat", data={"text": "  "}).status_code == 422
        assert client.post("/chat", data={"text": "x" * 9000}).status_code == 422
        assert client.post("/chat", data={"text": "x" * 100_000}).status_code == 413
        assert client.post("/chat", files={"text": b"a file"}).status_code == 422
        assert client.post("/chat", content=b"\xff\x00%%%", headers={"content-type": "multipart/form-data; boundary=x"}).status_code in (400, 422)
        for kind in ("application/json", "text/plain", "application/xml", ""):
            for body in (b'{"text": "Hi"}', b"{broken", b""): assert client.post("/chat", content=body, headers={"content-type": kind}).status_code == 415
        assert client.post("/chat", content=(chunk for chunk in (b"text=", b"x"))).status_code == 411


def take_picture() -> str:
    "Capture a picture."
    from PIL import Image
    path = data_dir() / "cap_1.jpg"
    Image.new("RGB", (64, 36), "teal").save(path)
    return str(path)


def test_a_conversation_over_the_socket(visit):
    with serving(ScriptedModel([("take_picture", {})], "Here: ![it](cap_1.jpg)"), tools=[function_schema(take_picture, level="read")]) as (url, _):
        client = visit(url)
        with listen(client, url) as socket:
            client.post("/chat", data={"text": "Take <b>one</b>"})
            items = until(socket, lambda item: item["kind"] == "model" and "<img" in item["html"])
        shown = {item["key"]: item for item in items if item["place"] == "log"}
        said, call, answer = shown.values()
        assert [item["kind"] for item in shown.values()] == ["user", "call", "model"]
        assert "&lt;b&gt;" in said["html"] and "take_picture" in call["html"] and str(data_dir()) not in call["html"]
        assert 'src="/data/cap_1.jpg"' in call["html"] and 'src="/data/cap_1.jpg"' in answer["html"]
        with listen(client, url, after="9" * 5000) as socket: assert json.loads(socket.recv(timeout=10))["items"], "nonsense is the beginning"
        with listen(client, url, after=items[0]["seq"]) as socket: missed = json.loads(socket.recv(timeout=10))["items"]
        assert [item["seq"] for item in missed] == sorted(item["seq"] for item in missed) and missed[-1]["kind"] in ("model", "panel")
        assert client.get("/").text.count('src="/data/cap_1.jpg"') == 2, "and a page that comes later shows the same"


def test_pictures_are_served_to_their_conversation_only(visit):
    with serving(ScriptedModel([("take_picture", {})], "Done."), tools=[function_schema(take_picture, level="read")]) as (url, _):
        mine, other = visit(url), visit(url)
        with listen(mine, url) as socket:
            mine.post("/chat", data={"text": "Take one"})
            until(socket, lambda item: item["kind"] == "model")
        got = mine.get("/data/cap_1.jpg")
        assert (got.status_code, got.headers["content-type"], got.headers["x-content-type-options"]) == (200, "image/jpeg", "nosniff")
        assert mine.get("/data/cap_1.jpg", headers={"range": "bytes=0-3"}).status_code == 206
        assert mine.head("/data/cap_1.jpg").status_code == 200
        assert other.get("/data/cap_1.jpg").status_code == 404
        next(data_dir().rglob("cap_1.jpg")).write_text("<script>alert(1)</script>")
        assert mine.get("/data/cap_1.jpg").status_code == 404, "not an image any more"


PATHS = ["../secret.jpg", "..%2fsecret.jpg", "%2e%2e/secret.jpg", "....//secret.jpg", "..%5csecret.jpg", "%2fetc%2fpasswd", "//etc/passwd", "/etc/passwd", "cap_1.jpg%00", "cap_1.jpg/",
         "./cap_1.jpg", "link.jpg", "notes.txt", "page.jpg", "", ".", "..", "%00", "CAP_1.JPG", "cap_1.jpg::$DATA", "a" * 5000, "%c0%ae%c0%ae/secret.jpg", "..;/secret.jpg", "con.jpg"]

def raw_status(client, url, method, path, headers):
    "Status of a request for exactly `path`: a client would tidy it up first."
    from http.client import HTTPConnection
    connection = HTTPConnection(url.removeprefix("http://"), timeout=20)
    connection.putrequest(method, f"/data/{path}", skip_accept_encoding=True)
    for name, value in {"Cookie": "; ".join(f"{k}={v}" for k, v in client.cookies.items()), **headers}.items(): connection.putheader(name, value)
    connection.endheaders()
    try: return connection.getresponse().status
    finally: connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_path_leads_out(visit, tmp_path, method):
    from PIL import Image
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    with answering() as (url, manager):
        client = visit(url)
        [session_id] = manager
        folder = Path(manager[session_id].policy.data)
        folder.mkdir(parents=True)
        (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
        (folder / "notes.txt").write_text("secret"); (folder / "page.jpg").write_text("<html>")
        for path in PATHS:
            for headers in ({}, {"range": "bytes=0-"}):
                assert (status := raw_status(client, url, method, path, headers)) in (400, 404), f"{path!r} gave {status}"


def test_dropped_connections_keep_the_session(visit):
    with answering("Still here.") as (url, manager):
        client = visit(url)
        with listen(client, url): pass
        [session_id] = manager
        manager[session_id].notify("The ferry is in.")
        with listen(client, url) as socket: items = until(socket, lambda item: item["kind"] == "noti")
        assert "The ferry is in." in items[-1]["html"] or any("The ferry is in." in item["html"] for item in items)


def everything(talk, client):
    "All that a visitor, a model and the session's messages get to read."
    return {"page": client.get("/").text, "events": json.dumps([vars(item) for item in talk.feed.items.values()]),
            "messages": json.dumps(talk.session.messages, default=str), "model": "".join(talk.manager.client.heard)}


@pytest.mark.parametrize("alive", [True, False])
def test_a_camera_s_password_stays_here(visit, alive):
    "A canary in the address of the camera reaches the camera, and nobody else: not when it works, not when it fails."
    from camera_servers import snapshot_server
    with snapshot_server() as (camera_url, camera):
        uri = camera_url.replace("http://", "http://admin:CANARY-1@") + "/basic.jpg?token=CANARY-2&p=CANARY-3"
        camera["login"] = "admin:CANARY-1" if alive else "admin:another"
        with SessionManager(client=Recorder(), policy=ToolPolicy.web(trusted=(uri,))) as manager:
            app = make_app(manager, cameras=(uri,))
            with ChatServer(app, port=0) as server:
                client = visit(server.url)
                [talk] = app.state.site.talks.values()
                for question in ("Take a picture", f"Take a picture from {camera_url}/basic.jpg", "How many cars do you see?"): talk.run_turn(question)
                for thread in [t for t in threading.enumerate() if t.name == "llmcam-view"]: thread.join(10)
                told = everything(talk, client)
        assert not [where for where, text in told.items() if "CANARY" in text]
        assert all(f"{camera_url}/basic.jpg" in text for text in told.values()), "they read its label"
        assert all("CANARY-2" in path for path in camera["requests"]) and camera["requests"], "the camera gets its key"
        assert camera["headers"][-1]["Authorization"].startswith("Basic ")
        assert alive == bool([name for name in talk.pictures if name.startswith("cap_")])


@pytest.mark.parametrize("uri, label", [
    ("rtsp://host/live", "rtsp://host/live"), ("rtsp://u:CANARY@host:554/live?x=CANARY", "rtsp://host:554/live"), ("http://CANARY@host/a#CANARY", "http://host/a"),
    ("rtsp://u:p@CANARY@host/live", "camera:1"), ("rtsp://u:p/CANARY@host/live", "camera:1"), ("rtsp://u:p?CANARY@host/live", "camera:1"), ("http://host/x?mail=a@CANARY", "camera:1"),
    ("sample:harbour?t=30", "sample:harbour?t=30"), ("https://www.youtube.com/watch?v=abc", "https://www.youtube.com/watch?v=abc"), ("frames/*.jpg", "frames/*.jpg"), ("usb:0", "usb:0")])
def test_labels_of_cameras(uri, label):
    assert camera_label(uri) == label


def test_cameras_with_the_same_label_get_two():
    assert list(name_cameras(("rtsp://a:b@host/1", "rtsp://c:d@host/1"))) == ["rtsp://host/1", "camera:2"]


def test_people_read_their_own_words():
    from llmcam.core.fc import fn_exec
    from llmcam.core.net import fetch
    from llmcam.core.policy import confine, gate
    from llmcam.utils.store import add_function_tools
    from llmcam.vision.camera import Camera
    policy, said = ToolPolicy.web(data=str(data_dir())), []
    with gate(policy):
        for refused in (lambda: confine("/etc/passwd"), lambda: fetch("http://127.0.0.1/"), lambda: Camera("usb:0").frame()):
            with pytest.raises(Exception) as error: refused()
            said.append(str(error.value))
    tool = function_schema(take_picture, level="exec")
    said.append(fn_exec({"id": "1", "type": "function", "function": {"name": "take_picture", "arguments": "{}"}}, [tool], policy=policy)["error"])
    with gate(policy), pytest.raises(Exception) as error: add_function_tools([], "os", ["os.system"])
    said.append(str(error.value))
    assert all("ToolPolicy" in text for text in said), "a model and a programmer are told what to change"
    plain = [in_plain_words(text) for text in said]
    assert not any(word in text for text in plain for word in ("ToolPolicy", "data directory", "trust"))
    assert "/etc/passwd" in plain[0] and "private" in plain[1] and "programs" in plain[3]
    assert in_plain_words("Notification stream started with ID f165eca1-c554-4e27-a79f-d62362a43c92.") == "I am watching; I will tell you here."


def test_the_empty_page_shows_the_camera_and_is_not_held_up(visit):
    from llmcam.vision.sample import SampleCamera
    ready, read = threading.Event(), SampleCamera.read
    SampleCamera.read = lambda self: (ready.wait(20), read(self))[1]
    try:
        with serving(ScriptedModel("Hi."), tools=[], cameras=("sample:harbour?t=30",)) as (url, manager):
            client = visit(url)  # answers, though the camera has not
            assert 'id="view"' in client.get("/").text
            with listen(client, url) as socket:
                ready.set()
                [view] = [item for item in until(socket, lambda item: item["key"] == "view") if item["key"] == "view"]
                [source] = re.findall(r'src="([^"]+)"', view["html"])
                assert client.get(source).headers["content-type"] == "image/jpeg" and 'width="900"' in view["html"]
                client.post("/chat", data={"text": "Hi"})
                until(socket, lambda item: item["kind"] == "model")
            [session_id] = manager
            assert not list(Path(manager[session_id].policy.data).glob("*.jpg")), "it is not among the pictures that tools list"
            for thread in [t for t in threading.enumerate() if t.name == "llmcam-view"]: thread.join(10); assert not thread.is_alive()
    finally: SampleCamera.read = read


def test_the_list_of_tools_has_what_the_policy_allows(visit):
    with serving(OfflineModel()) as (url, manager):
        shown = visit(url).get("/").text
        [session_id] = manager
        assert "execute_bash_command" not in {tool["function"]["name"] for tool in manager[session_id].tools}, "the model does not see it, either"
        assert "execute_bash_command" not in shown and "capture_frame" in shown and "<details open" not in shown
        assert re.search(r"Notifications</h3>.*start_watch.*start_notification_stream.*stop_notification", shown, re.S)


def test_panels_are_made_when_something_has_changed(monkeypatch):
    "Each open page asks every two seconds: hundreds of pages must not keep the server busy with that."
    from llmcam.application import chat_ui
    made, panel = [], chat_ui.ToolPanel
    monkeypatch.setattr(chat_ui, "ToolPanel", lambda *args: (made.append(1), panel(*args))[1])
    with SessionManager([], client=ScriptedModel("Hi."), policy=ToolPolicy.web()) as manager:
        talk = make_app(manager).state.site.begin()
        for _ in range(5): talk.refresh()
        assert len(made) == 1
        talk.session.tools.append(function_schema(take_picture, level="read"))
        for _ in range(5): talk.refresh()
        assert len(made) == 2 and "take_picture" in talk.feed.items["tools"].html


def test_errors_do_not_tell_secrets(visit, caplog):
    with answering(RuntimeError("Incorrect API key provided: sk-canary")) as (url, _):
        client = visit(url)
        with listen(client, url) as socket:
            client.post("/chat", data={"text": "Hi"})
            items = until(socket, lambda item: item["kind"] == "error")
        assert "sk-canary" not in json.dumps(items) and "RuntimeError" in json.dumps(items)


def test_a_talk_takes_a_few_messages_and_no_flood():
    gate = threading.Event()
    class Slow(ScriptedModel):
        def reply(self, *args): gate.wait(20); return super().reply(*args)
    with SessionManager([], client=Slow(*"123456")) as manager:
        talk = Talk(manager.init_session(), manager, waiting=2).resume()
        taken = [talk.say(str(n)) for n in range(6)]
        gate.set()
        assert taken.count(True) in (2, 3) and not taken[-1]


def test_markdown_is_inert():
    html = str(render_markdown(HOSTILE, ["cap_1.jpg"]))
    tags = re.findall(r"<(\w+)([^>]*)>", html)
    assert {name for name, _ in tags} <= {"p", "a", "table", "thead", "tbody", "tr", "th", "td", "pre", "code", "br"}
    assert not any(re.search(r"\bon\w+=|javascript:|data:|src=", attrs) for _, attrs in tags)


def test_pictures_by_any_of_their_names():
    for source in ("cap_1.jpg", "data/cap_1.jpg", "/srv/data/cap_1.jpg", r"C:\data\cap_1.jpg", "/data/cap_1.jpg?x=1"): assert picture_name(source, ["cap_1.jpg"]) == "cap_1.jpg"
    for source in ("https://evil.example/cap_2.jpg", "xcap_1.jpg", "", "cap_1.jpg/.."): assert picture_name(source, ["cap_1.jpg"]) is None


def test_a_result_of_any_shape_is_searched_quickly():
    take_picture()
    for result in ("x" * 2_000_000, "[" * 100_000, {"a": [{"b": "cap_1.jpg"}]}, "a.jpg " * 100_000): find_pictures(result)
    assert find_pictures(json.dumps({"a": json.dumps(["cap_1.jpg"])})) == ["cap_1.jpg"]


def test_a_feed_forgets_the_oldest():
    feed = Feed(limit=3)
    for n in range(5): feed.post(f"i{n}", f"<p>{n}</p>", "model")
    assert list(feed.items) == ["i2", "i3", "i4"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_it_is_served_to_this_machine_only(host):
    with pytest.raises(ServeError, match="no login"): run_llmcam(host=host, demo=True)


def test_a_taken_port_is_told():
    with answering() as (url, _), pytest.raises(ServeError, match="--port"): run_llmcam(port=int(url.rpartition(":")[2]), demo=True)


def test_the_module_has_an_app_and_makes_it_late():
    import subprocess, sys
    code = "import llmcam.application.chat_ui as c; assert 'app' not in vars(c); assert type(c.app).__name__ == 'FastHTML' and c.app is c.app"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# -- in a browser

@pytest.fixture
def tab(browser):
    "Open the page in a browser of its own; fails at the end if a script broke or anything was asked of another host."
    contexts, problems = [], []
    def open_tab(url, path="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.on("request", lambda request: request.url.startswith(url) or problems.append(f"asked {request.url}"))
        page.goto(url + path)
        page.wait_for_selector("#link[data-state=on]")
        return page
    yield open_tab
    for context in contexts: context.close()
    assert not problems


def ask(page, text):
    page.fill("#chat-text", text)
    page.keyboard.press("Enter")


def count_cars() -> str:
    "Detect the cars on the harbour camera now."
    return json.dumps({"car": 5})


def below(page):
    "Pixels of the conversation that are below its window, once it is at rest."
    return page.evaluate("""async () => {
        const scroll = document.querySelector("#scroll"), images = [...document.querySelectorAll(".log img")].filter(i => i.checkVisibility());
        const loaded = Promise.all(images.map(i => { i.loading = "eager"; return i.decode(); }));
        await Promise.race([loaded, new Promise((_, fail) => setTimeout(fail, 20000, "a picture does not load"))]);
        await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
        return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight; }""")


def answered(page, number):
    "Wait for the end of a turn."
    page.wait_for_selector(f".msg.model >> nth={number - 1}", timeout=60_000)
    page.wait_for_selector("#busy", state="hidden", timeout=60_000)


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)])
def test_ask_see_and_watch(tab, width, height):
    "The main job: the camera, a question, its tool calls, pictures and answer, in sight; a plot; a watch, its notification, its end."
    engine = pick_engine(offline=True)
    with serving(engine.client, interval=.5, label=engine.label, cameras=("sample:harbour",)) as (url, manager):
        page = tab(url, viewport={"width": width, "height": height})
        assert "not a language model" in page.inner_text(".top")
        page.wait_for_selector(".view img")
        page.click(".hello [data-prompt]:has-text('Count')")
        answered(page, 1)
        assert "car" in page.inner_text(".msg.model")
        assert below(page) < 1
        widths = page.eval_on_selector_all(".call .shots.two img", "all => all.map(i => [i.naturalWidth, i.width, i.getBoundingClientRect().top])")
        assert len(widths) == 2 and min(widths)[0] > 100 and widths[0][2] == widths[1][2], "the frame beside the frame with its boxes"
        page.click(".call summary >> nth=0")
        assert "sample:harbour" in page.inner_text(".call .inside >> nth=0")
        ask(page, "Capture sample:harbour?t=60, sample:harbour?t=140 and sample:harbour?t=220, and plot the cars")
        answered(page, 2)
        assert below(page) < 1 and page.locator(".shots.plot img").count() == 1
        ask(page, "Notify me when there is at least 1 car on sample:harbour, every 2 seconds")
        page.wait_for_selector(".noti img", timeout=60_000)
        assert "I am watching" in page.inner_text(".msg.model >> nth=2") and "started: at least 1 car" in page.text_content(".call:has-text('start_watch')")
        page.evaluate("document.querySelector('[data-do=pause]').click()")
        page.wait_for_selector("#watches [data-do=resume]", state="attached")
        page.evaluate("document.querySelector('[data-do=resume]').click()")
        page.wait_for_selector("#watches [data-do=pause]", state="attached")
        assert below(page) < 1 and page.locator(".toast").count() == 0, "it is in sight, and said once"
        page.evaluate("document.querySelector('[data-do=stop]').click()")
        page.wait_for_selector("#watches .none", state="attached")
        [session_id] = manager
        assert manager[session_id].watches.running == []


def test_who_scrolls_away_is_left_there(tab):
    "New messages do not move the page of somebody who reads what came before; what is out of sight is announced, once."
    with serving(OfflineModel(), tools=[function_schema(count_cars, level="read")]) as (url, manager):
        page = tab(url, viewport={"width": 1280, "height": 500})
        for number in range(1, 5): ask(page, "How many cars are there?"); answered(page, number)
        assert below(page) < 1
        page.mouse.move(300, 250); page.mouse.wheel(0, -250)
        page.wait_for_timeout(300)
        left = below(page)
        assert left > 100
        [session_id] = manager
        for _ in range(2): manager[session_id].notify("The ferry is in.")
        page.wait_for_selector(".noti >> nth=1")
        assert below(page) > left and page.locator(".toast").count() == 1
        page.click(".toast p")
        assert page.locator(".toast").count() == 0
        ask(page, "How many cars are there?")
        answered(page, 5)
        assert below(page) < 1, "who speaks is at the end again"


def test_what_is_said_meanwhile_is_answered_in_its_turn(tab):
    "A question that waits stands below, and above its own answer when that comes; also for a page that is opened later."
    go = threading.Event()
    class Slow(ScriptedModel):
        def reply(self, *args, **kwargs): go.wait(20); return super().reply(*args, **kwargs)
    order = "() => [...document.querySelectorAll('#log > .msg')].map(m => [m.getBoundingClientRect().top, m.textContent]).sort((a, b) => a[0] - b[0]).map(m => m[1].trim())"
    with serving(Slow("First answer", "Second answer", "Third answer"), tools=[]) as (url, manager):
        page = tab(url)
        for number in (1, 2, 3): ask(page, f"Question {number}"); page.wait_for_selector(f".msg.user:has-text('Question {number}')")
        assert page.evaluate(order) == ["Question 1", "Question 2", "Question 3"] and page.locator(".waiting").count() == 2
        busy, waits = page.evaluate("['#busy', '.waiting'].map(s => document.querySelector(s).getBoundingClientRect().top)")
        assert busy < waits, "what runs is above what waits"
        go.set()
        answered(page, 3)
        wanted = ["Question 1", "First answer", "Question 2", "Second answer", "Question 3", "Third answer"]
        for _ in range(2):
            assert page.evaluate(order) == wanted == [text.strip() for text in page.locator("#log > .msg").all_text_contents()] and page.locator(".waiting").count() == 0
            page.reload(); page.wait_for_selector("#link[data-state=on]")


def test_times_are_shown_in_one_way(tab):
    "Those of the page and those in the words of a watch: the viewer's clock, 24 hours."
    from datetime import datetime, timezone
    from llmcam.utils.notification import Notification
    with answering() as (url, manager):
        page = tab(url, timezone_id="Europe/Helsinki", locale="en-US")
        [session_id] = manager
        manager[session_id].notify(Notification("Harbour: 8 cars at 22:10:05 UTC.", id="w:1", time=datetime(2026, 7, 1, 22, 10, 6, tzinfo=timezone.utc)))
        page.wait_for_selector(".noti")
        for _ in range(2):
            assert page.inner_text(".noti time") == "01:10:06" and "at 01:10:05." in page.inner_text(".noti .prose")
            page.reload(); page.wait_for_selector("#link[data-state=on]")


def test_two_browsers_two_sessions(tab):
    with serving(OfflineModel(), tools=[function_schema(count_cars, level="read")]) as (url, manager):
        one = tab(url)
        [session_id] = manager
        two = tab(url)
        manager[session_id].start_stream([{"role": "user", "content": "Notify me when there are more than 3 cars"}])
        one.wait_for_selector(".noti")
        ask(two, "How many cars are there?")
        two.wait_for_selector(".msg.model")
        assert two.locator(".noti, .toast").count() == 0 and two.locator(".msg.user").count() == 1
        assert len(manager) == 2


def test_a_reload_and_a_second_tab_show_the_same(tab):
    with serving(OfflineModel(), tools=[function_schema(count_cars, level="read")]) as (url, manager):
        page = tab(url)
        ask(page, "How many cars are there?")
        page.wait_for_selector(".msg.model")
        second = page.context.new_page()
        second.goto(url)
        page.reload()
        for each in (page, second): assert (each.locator(".msg.user").count(), each.locator(".call").count(), each.locator(".msg.model").count()) == (1, 1, 1)
        assert len(manager) == 1


def test_it_comes_back_after_a_lost_connection(tab):
    with serving(OfflineModel(), tools=[function_schema(count_cars, level="read")]) as (url, manager):
        page = tab(url)
        page.context.set_offline(True)
        [session_id] = manager
        page.evaluate("WebSocket.prototype.close.call(window.__none ?? new WebSocket('ws://' + location.host + '/none'))")
        manager[session_id].notify("The ferry is in.")
        page.context.set_offline(False)
        page.wait_for_selector(".noti:has-text('The ferry is in.')")


def test_hostile_text_is_inert(tab):
    "What a person, a model, a tool, an error or a watch says can run no script."
    def speak(text: str) -> str:
        "Say it."
        return HOSTILE
    with serving(ScriptedModel([("speak", {"text": HOSTILE})], HOSTILE), tools=[function_schema(speak, level="read")]) as (url, manager):
        page = tab(url)
        ask(page, HOSTILE.replace("\n", " "))
        page.wait_for_selector(".msg.model")
        [session_id] = manager
        manager[session_id].notify(HOSTILE)
        page.wait_for_selector(".noti")
        page.set_viewport_size({"width": 1280, "height": 320})
        page.mouse.move(300, 150); page.mouse.wheel(0, -3000)
        page.wait_for_function("() => document.querySelector('#scroll').scrollTop === 0")
        manager[session_id].notify(HOSTILE)
        page.wait_for_selector(".toast")
        page.click(".call summary")
        page.hover(".msg.model a >> nth=0")
        assert page.evaluate("window.hit") is None
        assert page.locator("#log script, #log iframe, #log style, #log [onerror]").count() == 0


def test_the_browser_would_refuse_a_script_that_got_in(browser):
    "The weak variant: markup that skips the sanitiser still meets the Content-Security-Policy."
    with answering() as (url, manager):
        page = browser.new_page()
        page.goto(url)
        page.evaluate("""() => { const d = document.createElement('div'); d.innerHTML = '<img src=x onerror="window.hit=1">'; document.body.append(d);
                                 const s = document.createElement('script'); s.textContent = 'window.hit=2'; document.body.append(s); }""")
        page.wait_for_timeout(200)
        assert page.evaluate("window.hit") is None
        page.close()


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_it_fits_and_can_be_read(tab, width, scheme):
    with serving(OfflineModel(), tools=[function_schema(count_cars, level="read")], cameras=("sample:harbour",), label=OFFLINE) as (url, manager):
        page = tab(url, viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.wait_for_selector(".view img")
        assert page.evaluate("document.querySelector('#scroll').scrollTop") == 0, "it begins with the camera"
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.engine'))"), "what answers is not cut short"
        ask(page, "How many cars are there? " + "very" * 60)
        page.wait_for_selector(".msg.model")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
        colours = page.evaluate("""() => { const s = e => getComputedStyle(document.querySelector(e)); return [s('body').backgroundColor, s('.msg.model').color] }""")
        luminance = [sum(map(float, re.findall(r"[\d.]+", colour)[:3])) for colour in colours]
        assert (luminance[0] > luminance[1]) == (scheme == "light") and abs(luminance[0] - luminance[1]) > 450


def test_the_keyboard_is_enough(tab):
    with serving(OfflineModel(), tools=[function_schema(count_cars, level="read")]) as (url, manager):
        page = tab(url, viewport={"width": 390, "height": 800})
        page.focus("#open-panel"); page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('#side').contains(document.activeElement)")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "open-panel"
        page.focus("#chat-text"); page.keyboard.type("How many cars"); page.keyboard.press("Shift+Enter"); page.keyboard.type("are there?"); page.keyboard.press("Enter")
        page.wait_for_selector(".call summary"); page.wait_for_selector(".msg.model")
        page.focus(".call summary"); page.keyboard.press("Enter")
        assert page.evaluate("document.querySelector('.call details').open")


def test_a_link_from_elsewhere_finds_the_conversation_again(visit):
    "A strict cookie does not come with such a visit; the page asks again by itself instead of starting a new session."
    with answering() as (url, manager):
        client = visit(url)
        client.cookies.clear()
        reply = client.get("/", headers={"sec-fetch-site": "cross-site", "origin": url})
        assert 'http-equiv="refresh"' in reply.text and "set-cookie" not in reply.headers and len(manager) == 1


def test_attributes_hold_what_they_are_given():
    from html.parser import HTMLParser
    from fastcore.xml import to_xml
    from llmcam.application.chat_ui import ActionButton, ChatMessage, NotiMessage, QuestionCard, ToolCard
    evil = """a"b'c><img src=x onerror=alert(1)>&amp;"""
    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs): seen.append((tag, dict(attrs)))
    for element in (ActionButton(evil, evil), QuestionCard(evil, {evil: evil}, evil, key=evil), ToolCard(evil, {evil: evil}, evil, 1.0, pictures=[evil], key="k"), ToolCard(evil, evil, key="k"), ChatMessage(evil, True), NotiMessage(evil)):
        seen = []
        Reader().feed(to_xml(element, indent=False))
        assert not any("onerror" in attrs or attrs.get("src") == "x" for _, attrs in seen)


def test_visitors_who_said_nothing_make_room():
    from llmcam.application.chat_ui import Site
    from starlette.exceptions import HTTPException
    with SessionManager([], client=ScriptedModel("1", "2", "3")) as manager:
        site = Site(manager, most=3)
        first, second, third = (site.begin() for _ in range(3))
        first.say("I stay")
        fourth = site.begin()
        assert len(manager) == 2 and first.session and fourth.session and not second.session
        for talk in (site.begin(), fourth): talk.say("I stay, too")
        with pytest.raises(HTTPException, match="60 minutes"): site.begin()


def test_a_conversation_that_was_left_makes_room():
    "The one that was left longest ago; none with a watch, an open page, or a visitor within the hour."
    from llmcam.application.chat_ui import Site
    with SessionManager([function_schema(count_cars, level="read")], client=OfflineModel(), interval=30) as manager:
        site = Site(manager, most=4)
        talks = watching, open_page, old, recent = [site.begin() for _ in range(4)]
        for talk in talks: talk.run_turn("How many cars are there?"); talk.show(lambda key: NoticeLine("x", key=key), "user"); talk.touched -= 5000
        watching.session.start_stream([{"role": "user", "content": "Notify me when there are more than 9 cars"}])
        recent.touched += 4000
        with open_page.feed.listening(lambda: None): site.begin()
        assert old.session is None and all(talk.session for talk in (watching, open_page, recent))


# -- asking the person

def act(text: str) -> str:
    "Do something outside."
    ACTED.append(text)
    return "done"

ACTED = []


@pytest.mark.parametrize("verdict, wanted", [("allow", ["now"]), ("refuse", [])])
def test_a_call_that_acts_is_asked_for(tab, verdict, wanted):
    "The card shows the tool and its arguments; the call runs only when somebody allows it; a reload does not lose the question."
    ACTED.clear()
    with serving(ScriptedModel([("act", {"text": "now"})], "Done."), tools=[function_schema(act, level="write")]) as (url, manager):
        page = tab(url)
        ask(page, "Act")
        page.wait_for_selector(".ask .choice")
        assert "act" in page.inner_text(".ask") and '"text": "now"' in page.inner_text(".ask pre") and ACTED == []
        page.reload(); page.wait_for_selector("#link[data-state=on]")
        page.click(f".ask [data-verdict={verdict}]")
        answered(page, 1)
        assert ACTED == wanted and page.locator(".ask .choice").count() == 0 and page.locator(".ask .verdict").count() == 1


def test_a_long_question_is_read_from_its_beginning(tab):
    "What a call begins with is in sight, and its buttons are not before one has passed the rest; also after a reload."
    with serving(ScriptedModel([("act", {"text": "BEGIN " + "and so on " * 900})], "Done."), tools=[function_schema(act, level="write")]) as (url, manager):
        page = tab(url, viewport={"width": 900, "height": 600})
        ask(page, "Act")
        for _ in range(2):
            page.wait_for_selector(".ask .choice")
            page.wait_for_timeout(200)
            top, end = page.evaluate("['.ask header', '.ask .choice'].map(s => document.querySelector(s).getBoundingClientRect().top)")
            assert 0 <= top < 300 and end > 600
            page.reload(); page.wait_for_selector("#link[data-state=on]")
        page.click("[data-verdict=refuse]")
        answered(page, 1)


def test_a_question_that_has_just_come_is_not_clicked_by_accident(tab):
    ACTED.clear()
    with serving(ScriptedModel([("act", {"text": "now"})], "Done."), tools=[function_schema(act, level="write")]) as (url, manager):
        page = tab(url)
        ask(page, "Act")
        page.wait_for_selector(".ask .choice")
        page.evaluate("document.querySelector('.ask').since = performance.now(); document.querySelector('[data-verdict=allow]').click()")
        page.wait_for_timeout(200)
        assert ACTED == [] and page.locator(".ask .choice").count() == 1
        page.evaluate("document.querySelector('.ask').since = 0; document.querySelector('[data-verdict=refuse]').click()")
        answered(page, 1)


def test_a_question_hides_nothing():
    "What could keep somebody from seeing all of a call is written out: gaps, blanks, marks that turn text around."
    from fastcore.xml import to_xml
    from llmcam.application.chat_ui import QuestionCard
    for gap in (" " * 60, "\u3164" * 3, "\u2800" * 9, "\u202e", "\u200b", "\u00a0" * 9, "\n" * 40, "\t" * 9, "\r"):
        shown = to_xml(QuestionCard("run", {"command": f"ls{gap}; rm x", "deep": {"er": [1]}}, key="k"), indent=False)
        text = shown.partition("<pre>")[2].partition("</pre>")[0].replace("&quot;", '"')
        assert json.loads(text) == {"command": f"ls{gap}; rm x", "deep": {"er": [1]}}, "and it is exactly what will run"
        assert text.count("\n") == 7 and not re.search(r"\S {9,}|[^\x21-\x7e \n]", text), gap


def test_silence_means_no():
    "A question that nobody answers is refused in time; so is one that is too long to be judged."
    ACTED.clear()
    model = ScriptedModel([("act", {"text": "now"})], "One.", [("act", {"text": "x" * 30_000})], "Two.")
    with SessionManager([function_schema(act, level="write")], client=model) as manager:
        site = make_app(manager).state.site
        talk = site.begin()
        talk.patience = .2
        for _ in range(2): talk.run_turn("Act")
        assert ACTED == [] and talk._asked == {}
        assert [item.kind for item in talk.feed.items.values() if item.kind == "ask"] == ["ask"] and "Not answered in time" in "".join(item.html for item in talk.feed.items.values())


def test_a_conversation_comes_back_after_a_restart(tmp_path):
    "From the store: what was said, the calls with their pictures, and the notifications."
    from llmcam.utils.notification import Notification
    with SessionManager([function_schema(take_picture, level="read")], client=ScriptedModel([("take_picture", {})], "Here it is."), store=f"sqlite:///{tmp_path}/s.db") as manager:
        talk = make_app(manager).state.site.begin()
        talk.run_turn("Take one")
        talk.session.notify(Notification("The ferry is in.", id="w:1"))
        session_id, before = talk.session_id, [(item.kind, "cap_1.jpg" in item.html) for item in talk.feed.items.values() if item.place == "log"]
    with SessionManager([function_schema(take_picture, level="read")], client=ScriptedModel(), store=f"sqlite:///{tmp_path}/s.db") as manager:
        talk = make_app(manager).state.site.talk(session_id)
        after = [(item.kind, "cap_1.jpg" in item.html) for item in talk.feed.items.values() if item.place == "log"]
        talk.notify(Notification("The ferry is in.", id="w:1"))
        assert after == [("user", False), *before] and [kind for kind, _ in after].count("noti") == 1 == sum(item.kind == "noti" for item in talk.feed.items.values())


def test_panels_of_a_session_that_is_gone():
    from fastcore.xml import to_xml
    from llmcam.application.chat_ui import ToolPanel, WatchPanel
    with SessionManager([], client=ScriptedModel()) as manager:
        for panel in (ToolPanel, WatchPanel): assert "<section" in to_xml(panel("nobody", manager))


# -- the login, and https

def test_a_browser_logs_out_on_all_its_pages(tab):
    login = Login("a token that is long enough")
    with answering("Hello.", "Hello again.", login=login) as (url, manager):
        page = tab(url, login.link(""))
        second = page.context.new_page()
        second.goto(url)
        page.fill("#chat-text", "Hi"); page.press("#chat-text", "Enter")
        second.locator(".msg.model", has_text="Hello.").wait_for()
        page.get_by_role("button", name="Log out").click()
        for one in (page, second): one.get_by_label("Token").wait_for()
        page.goto(url)
        page.get_by_label("Token").fill("a token that is long enough"); page.get_by_label("Token").press("Enter")
        page.locator(".msg.user", has_text="Hi").wait_for()
        page.wait_for_selector("#link[data-state=on]")
        for one in (page, second): one.wait_for_load_state("networkidle")
        assert len(manager) == 1, "the same conversation"


def test_without_a_login_there_is_nothing_to_leave(visit):
    with answering() as (url, _):
        client = visit(url)
        assert "Log out" not in client.get("/").text and client.post("/logout", data={"a": ""}, follow_redirects=True).status_code == 200
        assert client.post("/logout", data={"a": ""}, headers={"origin": "https://evil.example"}).status_code == 403


@pytest.fixture
def certified(tmp_path):
    "Files of a certificate for this machine, and of its key."
    import subprocess
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run([program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", files[1], "-out", files[0]], check=True, capture_output=True)
    return files


def test_who_does_not_finish_the_handshake_is_cut(certified, monkeypatch):
    import httpx2, socket, ssl
    from llmcam.application import runner
    monkeypatch.setattr(runner._Line, "patience", .5)
    with SessionManager([], client=ScriptedModel()) as manager, ChatServer(make_app(manager), port=0, tls=certified) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
            try: assert line.recv(1) == b""
            except ConnectionError: pass
        assert httpx2.get(server.url, verify=ssl.create_default_context(cafile=certified[0])).status_code == 200


@pytest.mark.parametrize("asked_for", [False, True])
def test_a_proxy_is_believed_where_one_is_named(asked_for, monkeypatch):
    if asked_for: monkeypatch.setenv("FORWARDED_ALLOW_IPS", "127.0.0.1")
    with answering() as (url, _):
        import httpx2
        reply = httpx2.get(url, headers={"x-forwarded-proto": "https"})
        assert ("secure" in reply.headers["set-cookie"].lower()) == asked_for
