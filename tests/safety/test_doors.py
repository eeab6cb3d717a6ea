"The doors of the page: who is let in, by which name, from where, with which id. What is not ours gets nothing."
import json, re, secrets
from contextlib import suppress

import httpx2
import pytest
from safety.helpers import answering, cookies, feed_of, listen, raw, sample, serving, until, visiting
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from llmcam.application.chat_ui import LOOPBACK, Guard, make_app
from llmcam.application.login import Login
from llmcam.application.runner import ChatServer, ServeError, check_host, own_names
from llmcam.application.session import SessionManager
from llmcam.core.offline import ScriptedModel
from llmcam.core.policy import ToolPolicy

ORIGINS = ["https://evil.example", "http://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://localhost:8888",
           "http://localhost:{port}", "http://127.0.0.1:{port}.evil.example", "http://127.0.0.1.evil.example:{port}", "http://evil.example#127.0.0.1:{port}", "ws://127.0.0.1:{port}",
           "file://", "chrome-extension://abcdefgh", "http://127.0.0.1:{port}/", "http://user@127.0.0.1:{port}", "http://[::1]:{port}", "HTTP://127.0.0.1:{port} ", "http://2130706433:{port}"]
HOSTS = ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "127.0.0.1.nip.io:{port}", "localhost.evil.example", "localhost.:{port}", "127.0.0.1.:{port}", "2130706433",
         "0x7f.1", "0177.0.0.1:{port}", "127.1:{port}", "0.0.0.0:{port}", "[::ffff:127.0.0.1]:{port}", "[::]:{port}", "127.0.0.1:{port}:80", "127.0.0.1@evil.example", "evil.example@127.0.0.1",
         "127.0.0.1,evil.example", "localhost%00.evil.example", ""]
PAGES = ["/", "/data/cap_1.jpg", "/static/chat.js", "/login", "/events"]
POSTS = [("/chat", "text=Hi"), ("/stop", "watch=x"), ("/answer", "ask=x&verdict=allow"), ("/login", "token=x")]
assert len(ORIGINS) == len(HOSTS) == 20


def post(url, target, body, **headers):
    "Status of a post with exactly these headers."
    from http.client import HTTPConnection
    connection = HTTPConnection(url.partition("://")[2], timeout=20)
    connection.putrequest("POST", target, skip_host="Host" in headers)
    for name, value in {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body)), **headers}.items(): connection.putheader(name, value)
    connection.endheaders(body.encode())
    try: return connection.getresponse().status
    finally: connection.close()


def opens(url, path, **headers):
    "Does a socket open and send anything?"
    try:
        with connect(url.replace("http", "ws") + path, additional_headers={k: v for k, v in headers.items() if k != "Origin"}, origin=headers.get("Origin"), proxy=None, open_timeout=10) as socket:
            return bool(socket.recv(timeout=5))
    except (InvalidStatus, ConnectionClosed): return False


def test_foreign_origins_are_refused():
    with answering("Hello.") as (url, manager), visiting(url) as client:
        port, cookie, feed = url.rpartition(":")[2], cookies(client), feed_of(client)
        taken = []
        for origin in (o.format(port=port) for o in ORIGINS):
            taken += [(origin, path) for path, body in POSTS if post(url, path, body, Origin=origin, Cookie=cookie) < 400]
            taken += [(origin, "/events")] if opens(url, f"/events?feed={feed}", Origin=origin, Cookie=cookie) else []
        assert taken == []
        [session_id] = manager
        assert manager[session_id].messages == []
        assert post(url, "/chat", "text=Hi", Origin=url, Cookie=cookie) == 202 and opens(url, f"/events?feed={feed}", Origin=url, Cookie=cookie), "and the page itself may"


def test_foreign_hosts_are_refused():
    with answering("Hello.") as (url, manager), visiting(url) as client:
        port, cookie = url.rpartition(":")[2], cookies(client)
        taken = []
        for host in (h.format(port=port) for h in HOSTS):
            taken += [(host, path) for path in PAGES if raw(url, "GET", path, {"Host": host, "Cookie": cookie})[0] < 400]
            taken += [(host, path) for path, body in POSTS if post(url, path, body, Host=host, Origin=f"http://{host}", Cookie=cookie) < 400]
        assert taken == [] and len(manager) == 1


def test_weak_without_the_guard_they_are_taken(monkeypatch):
    "The same origins and hosts where nobody looks at them."
    monkeypatch.setattr(Guard, "refusal", lambda self, scope: None)
    with answering(*["Hello."] * 40) as (url, manager), visiting(url) as client:
        port, cookie = url.rpartition(":")[2], cookies(client)
        assert all(post(url, "/stop", "watch=x", Origin=o.format(port=port), Cookie=cookie) == 404 for o in ORIGINS), "they reach the handler"
        assert sum(raw(url, "GET", "/", {"Host": h.format(port=port), "Cookie": cookie})[0] == 200 for h in HOSTS) >= 15
        assert opens(url, f"/events?feed={feed_of(client)}", Origin="https://evil.example", Cookie=cookie)


def forged_cookies(name, theirs, session_id):
    "Cookies that nobody gave out: made up, cut, mixed, signed with another key, with the id of somebody else's session."
    from base64 import b64encode
    from itsdangerous import TimestampSigner
    payload = b64encode(json.dumps({"id": session_id}).encode())
    head, *tail = theirs.split(".")
    other = b64encode(json.dumps({"id": session_id, "login": "x"}).encode()).decode()
    yield from (session_id, payload.decode(), f"{other}." + ".".join(tail), f"{head}..", ".".join([head, "AAAA", tail[-1]]), theirs[:-1], theirs + "x", theirs.swapcase(), head)
    for key in ("", "secret", "llmcam", "changeme", name): yield TimestampSigner(key or "x").sign(payload).decode()
    while True: yield TimestampSigner(secrets.token_urlsafe(32)).sign(payload).decode() if secrets.randbelow(2) else secrets.token_urlsafe(60)


def test_a_thousand_forged_cookies():
    "None shows a picture or takes a message; the right one does."
    with serving(ScriptedModel("Hello."), tools=[]) as (url, manager), visiting(url) as client:
        [(name, theirs)], [session_id] = client.cookies.items(), manager
        accepted, forged = 0, forged_cookies(name, theirs, session_id)
        with httpx2.Client(base_url=url, headers={"origin": url}) as stranger:
            for number in range(1000):
                reply = stranger.post("/chat", data={"text": "Hi"}, headers={"cookie": f"{name}={next(forged)}"})
                accepted += reply.status_code != 404
        assert accepted == 0 and manager[session_id].messages == [] and len(manager) == 1
        assert client.post("/chat", data={"text": "Hi"}).status_code == 202


def test_ids_of_others_open_nothing():
    "Feeds, watches, questions and pictures by the ids of another conversation, and by a hundred made up ones each."
    def peek() -> str:
        "Capture a picture."
        from PIL import Image
        from llmcam.core.policy import data_dir
        Image.new("RGB", (8, 8)).save(data_dir() / "cap_1.jpg")
        return str(data_dir() / "cap_1.jpg")
    def act() -> str:
        "Do something outside."
        acted.append(1)
        return "done"
    from llmcam.core.fn_to_schema import function_schema
    acted, tools = [], [function_schema(peek, level="read"), function_schema(act, level="write")]
    model = ScriptedModel([("peek", {})], [("act", {})], "Done.")
    with serving(model, tools=tools) as (url, manager), visiting(url) as mine, visiting(url) as other:
        with listen(mine, url) as socket:
            mine.post("/chat", data={"text": "Look, and act"})
            asked = until(socket, lambda item: item["kind"] == "ask")[-1]["key"]
            guesses = [asked, feed_of(mine), *(secrets.token_urlsafe(12) for _ in range(100)), *(f"ask-{secrets.token_urlsafe(12)}" for _ in range(100))]
            assert {other.post("/answer", data={"ask": guess, "verdict": "allow"}).status_code for guess in guesses} == {404}
            assert {other.post("/stop", data={"watch": guess}).status_code for guess in guesses} == {404}
            assert {mine.post("/answer", data={"ask": guess, "verdict": "allow"}).status_code for guess in guesses[1:]} == {404}
            assert other.get("/data/cap_1.jpg").status_code == 404 and mine.get("/data/cap_1.jpg").status_code == 200
            assert not any(opens(url, f"/events?feed={guess}", Origin=url, Cookie=cookies(other)) for guess in guesses[:10])
            assert acted == [], "nobody has allowed it"
            assert mine.post("/answer", data={"ask": asked, "verdict": "allow"}).status_code == 202
            until(socket, lambda item: item["kind"] == "model")
            assert acted == [1], "and now somebody has"
            assert mine.post("/answer", data={"ask": asked, "verdict": "allow"}).status_code == 404, "once"


# -- what is no honest request

def answer(url, request, seconds=20):
    "The first bytes that come back for exactly these, sent piece by piece; empty if the line is cut."
    import socket
    host, _, port = url.partition("://")[2].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as line:
        try:
            for piece in request: line.sendall(piece)
            return line.recv(100)
        except ConnectionError: return b""


def test_requests_of_any_size_and_shape():
    "Headers and bodies without end, and bodies of two lengths: refused, and the page goes on."
    with answering("Hello.", login=Login("a token that is long enough")) as (url, manager):
        host = url.partition("://")[2]
        head, form = f"Host: {host}\r\nOrigin: {url}\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"
        endless = (f"X-{n}: {'x' * 4000}\r\n".encode() for n in range(10_000))
        assert answer(url, [f"GET / HTTP/1.1\r\n{head}".encode(), *endless])[9:12] in (b"400", b""), "40 MB of headers"
        assert answer(url, [b"GET /" + b"x" * 200_000])[9:12] in (b"400", b"")
        chunked = b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n\r\n"
        for lengths in ("Transfer-Encoding: chunked\r\n", "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 7\r\nContent-Length: 9\r\n", "Content-Length: -1\r\n", ""):
            assert answer(url, [f"POST /login HTTP/1.1\r\n{head}{form}{lengths}\r\n".encode(), chunked])[9:12] in (b"400", b"411", b""), lengths
        assert httpx2.get(f"{url}/login").status_code == 200 and len(manager) == 0


def test_who_says_nothing_does_not_keep_others_out(monkeypatch):
    "Hundreds of lines with nothing, half a head or half a body: the oldest are cut, all of them soon, and who is logged in gets in at once."
    import socket, time
    from contextlib import ExitStack
    from llmcam.application import runner
    monkeypatch.setattr(runner._Line, "patience", 2.0)
    halves = [b"", b"GET / HTTP/1.1\r\nHost: ", b"POST /login HTTP/1.1\r\nHost: HOST\r\nOrigin: http://HOST\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nto"]
    def flood(url, lines):
        host, port = url.partition("://")[2].split(":")
        for number in range(410):
            lines.append(socket.create_connection((host, int(port)), timeout=10))
            with suppress(OSError): lines[-1].sendall(halves[number % 3].replace(b"HOST", url.partition("://")[2].encode()))
    login = Login("a token that is long enough")
    fresh = httpx2.Limits(max_keepalive_connections=0)  # a line kept from before may be cut as the oldest; a browser then dials again
    with answering("Hello.", login=login) as (url, manager), ExitStack() as opened, httpx2.Client(base_url=url, headers={"origin": url}, follow_redirects=True, limits=fresh) as owner:
        owner.post("/login", data={"token": "a token that is long enough"})
        lines = []
        opened.callback(lambda: [line.close() for line in lines])
        flood(url, lines)
        assert owner.get("/").status_code == 200 and opens(url, f"/events?feed={feed_of(owner)}", Origin=url, Cookie=cookies(owner))
        assert httpx2.get(f"{url}/login").status_code == 200, "nor a stranger with something to say"
        for line in lines:  # each ends: by its timer, or before
            with suppress(ConnectionError):
                while line.recv(1000): pass


def test_weak_without_the_watch_over_lines_they_keep_everybody_out(monkeypatch):
    import socket
    from llmcam.application import runner
    monkeypatch.setattr(runner._Line, "_watch", lambda self: None)
    monkeypatch.setattr(runner._Line, "_heard", lambda self: None)
    with answering("Hello.") as (url, manager):
        host, port = url.partition("://")[2].split(":")
        lines = [socket.create_connection((host, int(port)), timeout=10) for _ in range(410)]
        assert httpx2.get(url).status_code == 503
        for line in lines: line.close()


# -- the login

def test_without_a_login_only_this_machine_is_served():
    hosts = ["0.0.0.0", "::", "", "192.168.1.4", "10.0.0.1", "example.org", "127.0.0.1.nip.io", "0", "*", "::ffff:192.168.1.4", "localhost.evil.example"]
    for host in hosts:
        with pytest.raises(ServeError, match="--login"): check_host(host)
        assert check_host(host, Login()) == host
    with SessionManager([], client=ScriptedModel()) as manager, pytest.raises(ServeError): ChatServer(make_app(manager), "0.0.0.0", 0)


def test_nothing_is_seen_before_the_login():
    login = Login("a token that is long enough")
    with answering("Hello.", login=login) as (url, manager):
        with httpx2.Client(base_url=url, headers={"origin": url}) as stranger:
            shown = stranger.get("/")
            assert shown.status_code == 303 and shown.headers["location"] == "/login" and "token" not in (shown.text + stranger.get("/login").text).replace('name="token"', "").replace('id="token"', "").replace('for="token"', "").replace("give its token", "")
            assert [stranger.post(path, data=dict([body.split("=", 1)])).status_code for path, body in (("/chat", "text=Hi"), ("/stop", "watch=x"))] == [404, 404]
            assert stranger.get("/data/cap_1.jpg").status_code == 404
            with pytest.raises(InvalidStatus, match="403"): connect(f"{url.replace('http', 'ws')}/events?feed=x", origin=url, proxy=None)
            for guess in ("", "a token", "a token that is long enougH", "\x00", "a" * 9000): assert stranger.post("/login", data={"token": guess}).status_code == 200
            assert stranger.get("/login?code=x").status_code == 200 and stranger.get("/").status_code == 303
            assert len(manager) == 0, "strangers make no sessions"
        with httpx2.Client(base_url=url, headers={"origin": url}, follow_redirects=True) as owner:
            assert "chat-form" in owner.post("/login", data={"token": "a token that is long enough"}).text
            cookie = owner.cookies["llmcam"]
            assert owner.post("/chat", data={"text": "Hi"}).status_code == 202
        with httpx2.Client(base_url=url, follow_redirects=True) as guest:
            link = login.link(url)
            assert "chat-form" in guest.get(link).text
        with httpx2.Client(base_url=url, follow_redirects=True) as late: assert "chat-form" not in late.get(link).text
    with answering("Hello.", login=Login("another token, long enough"), secret="k") as (url, manager):
        assert httpx2.get(url, headers={"cookie": f"llmcam={cookie}"}).status_code == 303


def test_guessing_is_slowed():
    login = Login("a token that is long enough", tries=5, clock=lambda: 0.0)
    with answering(login=login) as (url, _), httpx2.Client(base_url=url, headers={"origin": url}) as client:
        for number in range(8): client.post("/login", data={"token": f"guess number {number}"})
        assert client.post("/login", data={"token": "a token that is long enough"}).status_code == 200, "not even the right one, for a minute"


def test_cookies_by_https_stay_there():
    import asyncio
    sent = []
    async def app(scope, receive, send): await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"llmcam=x; path=/; httponly; samesite=strict")]})
    async def send(message): sent.append(dict(message["headers"])[b"set-cookie"])
    for scheme in ("http", "https"):
        scope = {"type": "http", "scheme": scheme, "method": "GET", "headers": [(b"host", b"127.0.0.1")]}
        asyncio.run(Guard(app)(scope, None, send))
    assert [b"secure" in cookie for cookie in sent] == [False, True]


def test_names_of_a_server():
    assert own_names("127.0.0.1") == LOOPBACK
    assert own_names("192.168.1.4", "Pier.example", "fe80::1")[3:] == ("192.168.1.4", "pier.example", "[fe80::1]")
    assert "0.0.0.0" not in own_names("0.0.0.0") and len(own_names("0.0.0.0")) > 3
