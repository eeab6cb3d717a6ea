"What the suites share: a served page, its visitors, and how much of a suite is run."
import json, os, random, re
from contextlib import contextmanager

from llmcam.application.chat_ui import make_app
from llmcam.application.runner import ChatServer
from llmcam.application.session import SessionManager
from llmcam.core.offline import OfflineModel, ScriptedModel
from llmcam.core.policy import ToolPolicy

FULL = bool(os.environ.get("SAFETY_FULL"))  # run every case of every suite, not only a sample


def sample(cases, most, seed=1):
    "`cases`, or so many of them that the same are drawn each time."
    cases = list(cases)
    return cases if FULL or len(cases) <= most else random.Random(seed).sample(cases, most)


class Recorder(OfflineModel):
    "The offline model, which keeps what it was sent."
    def __init__(self): super().__init__(eyes=lambda picture: {"car": 2}); self.heard = []
    def reply(self, messages, tools=None, *args, **kwargs):
        self.heard.append(json.dumps([messages, tools], default=str))
        return super().reply(messages, tools, *args, **kwargs)


@contextmanager
def serving(client, tools=None, interval=.2, policy=None, **settings):
    "A chat page on a free port: its address, and its manager."
    with SessionManager(tools, client=client, interval=interval, policy=policy or ToolPolicy.web()) as manager, \
            ChatServer(make_app(manager, **settings), port=0) as server: yield server.url, manager


def answering(*replies, **settings): return serving(ScriptedModel(*replies), tools=[], **settings)


@contextmanager
def visiting(url):
    "A client that opens the page as a browser does, and keeps its cookie."
    import httpx2
    with httpx2.Client(base_url=url, headers={"origin": url}, timeout=30) as client:
        client.get("/").raise_for_status()
        yield client


def cookies(client): return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def feed_of(client): return re.search(r'data-feed="([^"]+)"', client.get("/").text)[1]


def listen(client, url, after=0):
    "The socket of a page."
    from websockets.sync.client import connect
    return connect(f"{url.replace('http', 'ws')}/events?feed={feed_of(client)}&after={after}", origin=url, additional_headers={"cookie": cookies(client)}, proxy=None)


def until(socket, wanted, seconds=20):
    "Items from the socket, up to the first that is `wanted`."
    items = []
    while not any(map(wanted, items)): items += json.loads(socket.recv(timeout=seconds))["items"]
    return items


def raw(url, method, target, headers=()):
    "Status and body of a request for exactly `target`, with exactly these headers: a client would tidy them up first."
    from http.client import HTTPConnection
    connection = HTTPConnection(url.partition("://")[2], timeout=20)
    named = dict(headers)
    connection.putrequest(method, target, skip_accept_encoding=True, skip_host="Host" in named)
    for name, value in named.items(): connection.putheader(name, value)
    connection.endheaders()
    try:
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally: connection.close()
