"""A canary in the place of every key and password, through every way in which things fail: it appears nowhere.

Not in what is returned, raised (with all that the error came from), logged or printed; not in what a model is sent, a page shows or a store keeps."""
import json, logging, os, traceback
from dataclasses import replace
from pathlib import Path

import pytest
from camera_servers import snapshot_server
from safety.helpers import Recorder, listen, serving, until, visiting
from servers import LocalServer

from llmcam.application.chat_ui import make_app
from llmcam.application.login import Login
from llmcam.application.runner import Engine, greeting, pick_engine
from llmcam.application.session import SessionManager
from llmcam.core.fc import complete, fn_exec, use_client
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.net import fetch
from llmcam.core.offline import OfflineModel, ScriptedModel
from llmcam.core.policy import ToolPolicy, data_dir, gate
from llmcam.utils.file_manager import download_file
from llmcam.vision.camera import Camera, capture_frame
from llmcam.vision.watch import Rule

KEY = "CANARY-9f3a"


def chain(error):
    "All that an error says, and what it came from says, as a traceback would print it."
    seen, parts = set(), []
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        parts += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(parts)


def told(act):
    "What comes of `act`: its result, or its error with all causes."
    try: value = act()
    except BaseException as error: return chain(error)
    return f"{value}\n{value!r}"


def dead(scheme="http"): return f"{scheme}://admin:{KEY}@127.0.0.1:9/{'live' if scheme == 'rtsp' else 'x.jpg'}?token={KEY}"


def status(number): return lambda request: (number, {"Content-Type": "text/plain"}, b"no")


def gated(act, **policy):
    with gate(ToolPolicy.web(**policy)): return act()


FAILING = {
    "fetch, nobody there": lambda: fetch(dead()),
    "fetch, refused": lambda: gated(lambda: fetch(dead())),
    "fetch, no such scheme": lambda: fetch(f"gopher://admin:{KEY}@host/?token={KEY}"),
    "fetch, no such name": lambda: fetch(f"http://admin:{KEY}@nowhere.invalid/?token={KEY}"),
    "fetch, bad port": lambda: fetch(f"http://admin:{KEY}@127.0.0.1:99999/"),
    "fetch with headers": lambda: fetch("http://127.0.0.1:9/", headers={"Authorization": f"Bearer {KEY}"}, auth=("admin", KEY)),
    "download": lambda: download_file(dead()),
    "download, refused": lambda: gated(lambda: download_file(dead())),
    "snapshot": lambda: capture_frame(dead()),
    "snapshot, refused": lambda: gated(lambda: capture_frame(dead())),
    "stream": lambda: capture_frame(dead("rtsp")),
    "stream, refused": lambda: gated(lambda: capture_frame(dead("rtsp"))),
    "camera": lambda: Camera(dead()),
    "camera, no such kind": lambda: Camera(f"teapot://admin:{KEY}@host/?token={KEY}"),
    "frame of a camera": lambda: Camera(dead()).frame(),
    "no model": lambda: pick_engine(),
    "engine": lambda: Engine(OfflineModel(), "m", "label"),
    "engine with a key": lambda: pick_engine(openai_key=KEY),
    "login": lambda: Login(KEY * 3),
    "greeting": lambda: greeting("http://127.0.0.1:1", "label", Login(KEY * 3)),
    "short token": lambda: Login(KEY),
}


@pytest.mark.parametrize("name", FAILING)
def test_an_error_does_not_tell(name, caplog, capfd):
    caplog.set_level(logging.DEBUG, "llmcam")
    said = told(FAILING[name])
    printed = capfd.readouterr()
    assert KEY not in said, said
    assert KEY not in caplog.text and KEY not in printed.out + printed.err


def test_weak_a_plain_client_tells():
    "What a plain error of the client library, and a plain message, would have said."
    import httpx2
    def plain():
        try: httpx2.get(dead(), trust_env=False)
        except Exception as error: raise RuntimeError(f"cannot get {dead()}") from error
    assert KEY in told(plain)


@pytest.mark.parametrize("code", [401, 403, 404, 500])
def test_a_server_that_refuses(code, caplog):
    caplog.set_level(logging.DEBUG, "llmcam")
    with LocalServer({"*": status(code)}) as server:
        uri = server.url.replace("//", f"//admin:{KEY}@") + f"/x.jpg?key={KEY}"
        said = [told(lambda: fetch(uri).raise_for_status()), told(lambda: Camera(uri).frame()), told(lambda: download_file(uri))]
    assert KEY not in "".join(said) and KEY not in caplog.text


def test_a_redirect_takes_no_key_along(caplog):
    "Keys of one host do not reach another, in headers or in errors."
    caplog.set_level(logging.DEBUG, "llmcam")
    with LocalServer({"*": b"ok"}) as other, LocalServer({"*": lambda r: (302, {"Location": f"{other.url}/landed"}, b"")}) as first:
        fetch(first.url.replace("//", f"//admin:{KEY}@"), headers={"X-Api-Key": KEY, "Authorization": f"Bearer {KEY}", "Cookie": f"a={KEY}"})
        assert not [r for r in other.requests if KEY in str(r.headers) + r.target] and other.requests
    assert KEY not in caplog.text


def test_model_errors_on_the_page(caplog, capfd):
    "The client library's errors may quote the key: the page and the log do not."
    caplog.set_level(logging.DEBUG, "llmcam")
    errors = [RuntimeError(f"Incorrect API key provided: {KEY}"), ValueError(f"https://u:{KEY}@host"), KeyError(KEY), OSError(f"/home/{KEY}")]
    with serving(ScriptedModel(*errors), tools=[]) as (url, manager), visiting(url) as client:
        with listen(client, url) as socket:
            for number in range(len(errors)):
                client.post("/chat", data={"text": "Hi"})
                items, seen = [], set()
                while len(seen) < number + 1:
                    items += json.loads(socket.recv(timeout=20))["items"]
                    seen |= {item["key"] for item in items if item["kind"] == "error"} if number == 0 else {item["key"] for item in items if item["kind"] == "error"}
                    if any(item["kind"] == "error" for item in items): break
        shown = client.get("/").text
        assert shown.count("msg error") >= 1 and KEY not in shown
    printed = capfd.readouterr()
    assert KEY not in caplog.text and KEY not in printed.err + printed.out


@pytest.mark.parametrize("address", ["rtsp://admin:{0}@10.0.0.2/1", "http://admin:x/{0}@10.0.0.2/a.jpg", "http://10.0.0.2/a.jpg?token={0}", "http://10.0.0.2/?mail=a@b&token={0}", "rtsp://10.0.0.2/a;pwd={0}"])
def test_policies_and_rules_show_no_password(address):
    uri = address.format(KEY)
    policy, rule = ToolPolicy.web(trusted=(uri, "10.0.0.3", "/srv/a;b")), Rule(uri, "car")
    for shown in (repr(policy), str(replace(policy, shell="off")), repr(rule), f"{[rule]}"): assert KEY not in shown and ("10.0.0.2" in shown or "mail" in uri)
    assert "'10.0.0.3', '/srv/a;b'" in repr(policy) and (policy.trusted[0], rule.camera) == (uri, uri), "what they know stays"
    assert KEY in str(vars(rule)), "weak: its fields"


@pytest.mark.parametrize("fault", [None, "unavailable"])
def test_a_camera_in_a_stored_session(fault, tmp_path, caplog):
    "The password of a camera: not in the database, the tools, the messages, the page or the log, whether it works or not."
    caplog.set_level(logging.DEBUG, "llmcam")
    with snapshot_server() as (camera_url, camera):
        if fault: camera["fault"] = fault
        uri = camera_url.replace("//", f"//admin:{KEY}@") + f"/ok.jpg?token={KEY}"
        with SessionManager(client=Recorder(), policy=ToolPolicy.web(trusted=(uri,)), store=f"sqlite:///{tmp_path}/s.db") as manager:
            site = make_app(manager, cameras=(uri,)).state.site
            talk = site.begin()
            for question in ("Take a picture", "How many cars do you see?", "List your tools"): talk.run_turn(question)
            session = talk.session
            everything = [json.dumps([dict(tool) for tool in session.tools], default=str), json.dumps(list(session.messages), default=str), *manager.client.heard,
                          repr(manager), repr(session), str([vars(item) for item in talk.feed.items.values()])]
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("s.db*"))
    assert camera["requests"] and KEY not in "".join(everything) + caplog.text
    assert stored and KEY.encode() not in stored


def test_the_client_library_logs_no_keys(caplog):
    "What the HTTP library itself logs, even where a program wants to read everything."
    caplog.set_level(logging.DEBUG)
    with LocalServer({"*": b"ok"}) as server:
        uri = server.url.replace("//", f"//admin:{KEY}@") + f"/x.jpg?key={KEY}"
        fetch(uri, headers={"X-Api-Key": KEY}), told(lambda: Camera(uri).frame())
    assert KEY not in caplog.text


def test_stores_and_webhooks_do_not_tell(caplog, tmp_path):
    "Addresses with passwords in them: of a database that is not there, and of a webhook that refuses."
    from llmcam.application import session_store
    from llmcam.utils import notification
    caplog.set_level(logging.DEBUG, "llmcam")
    said = [told(lambda: session_store.open_store(f"postgresql+psycopg://admin:{KEY}@127.0.0.1:9/x")), told(lambda: session_store.open_store(f"teapot://admin:{KEY}@host/x"))]
    if hook := getattr(notification, "Webhook", None):
        sender = hook(f"http://admin:{KEY}@127.0.0.1:9/hook?token={KEY}")
        said += [repr(sender), told(lambda: sender("The ferry is in."))]
    assert KEY not in "".join(said) and KEY not in caplog.text


def test_apprise_logs_no_addresses(caplog):
    "Its own log, and that of its HTTP library, have the whole address of a service, where a program wants to read everything."
    apprise = pytest.importorskip("apprise")
    from llmcam.utils.notification import Apprise, Notification
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3.connectionpool")]
    before = [logger.level for logger in loggers]
    for logger in loggers: logger.setLevel(logging.NOTSET)  # another test may have made a sender
    caplog.set_level(logging.DEBUG)
    try:
        with LocalServer({"*": b"ok"}) as server:
            addresses = [f"json://{place}/{KEY}" for place in (server.host, "127.0.0.1:9")]
            told(lambda: apprise.Apprise(addresses[0]).notify(body="weak")); weak = caplog.text
            caplog.clear()
            for address in addresses: told(lambda: Apprise(address)._post(Notification("The ferry is in.")))
    finally:
        for logger, level in zip(loggers, before): logger.setLevel(level)
    assert KEY in weak and KEY not in caplog.text
