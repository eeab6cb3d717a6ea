"Watches: bounded, honest about trouble, and silent once they are stopped."
import json, threading, time

import pytest

from llmcam.core.fc import form_msg
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import ScriptedModel
from llmcam.core.policy import ToolPolicy
from llmcam.utils import notification as N
from llmcam.utils.notification import *
from llmcam.utils.scheduler import Scheduler, SimulatedClock

TASK = [form_msg("user", "Tell me when the boat is in.")]


class Client:
    "A model that answers each request with `say(request number)`: a text, calls, or an exception."
    def __init__(self, say): self.say, self.requests, self.chat, self.completions = say, [], self, self
    def create(self, **request):
        self.requests.append(request)
        said = self.say(len(self.requests))
        if isinstance(said, Exception): raise said
        return ScriptedModel(said).chat.completions.create(**request)


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end: time.sleep(0.002)
    assert condition()


def sender(heard):
    def send_notification(msg: str):
        "Tell the user."
        heard.append(msg)
    return function_schema(send_notification)


def stopper(): return N._named(function_schema(default_stream_stopper), "stop_notification")


def test_it_looks_until_it_is_stopped():
    client = Client(lambda n: "Nothing.")
    stream = StreamThread("w", [], TASK, client=client, interval=0.005)
    assert not stream.is_alive()
    stream.start()
    until(lambda: stream.ticks >= 5)
    assert stream.is_alive()
    stream.stop(); stream.join(5)
    assert not stream.is_alive() and stream.ticks < 10_000


def test_it_stops_itself_and_its_last_words_are_heard():
    for order in (["send", "stop"], ["stop", "send"]):
        heard, calls = [], {"send": ("send_notification", {"msg": "It is in."}), "stop": ("stop_notification", {})}
        client = Client(lambda n: [calls[c] for c in order] if n == 3 else "Nothing.")
        stream = StreamThread("w", [sender(heard), stopper()], TASK, client=client, interval=0.005).start()
        stream.join(10)
        assert heard == ["It is in."] and stream.ticks == 3 and not stream.is_alive()


def test_every_look_starts_from_the_same_and_remembers_a_little():
    heard = []
    client = Client(lambda n: [("send_notification", {"msg": f"news {n}"})] if n % 2 else "Said it.")
    stream = StreamThread("w", [sender(heard)], TASK, client=client, interval=0.001, max_ticks=300, memory=3).start()
    stream.join(60)
    first = [r["messages"] for r in client.requests[::2]]
    assert len(first) == 300 and all(len(m) == 2 and m[0] == TASK[0] for m in first)
    assert "news 1" in first[1][1]["content"] and "news 1" not in first[200][1]["content"]
    assert max(len(json.dumps(m)) for m in first[10:]) - min(len(json.dumps(m)) for m in first[10:]) < 20
    assert stream.messages == TASK and len(heard) == 301 and "its limit" in heard[-1]


def test_trouble_is_told_once_and_recovery_once():
    heard = []
    client = Client(lambda n: ConnectionError("no route") if n <= 4 else "Nothing.")
    stream = StreamThread("w", [sender(heard)], TASK, client=client, interval=0.001, max_ticks=8).start()
    stream.join(10)
    assert len(heard) == 3 and "no route" in heard[0] and "again" in heard[1] and "its limit" in heard[2]
    assert stream.failures == 0 and stream.last_error is None


def test_the_pauses_grow_while_there_is_trouble():
    times = []
    client = Client(lambda n: times.append(time.monotonic()) or ConnectionError("no"))
    StreamThread("w", [], TASK, client=client, interval=0.02, max_ticks=4).start().join(10)
    pauses = [b - a for a, b in zip(times, times[1:])]
    assert pauses[0] > 0.035 and pauses[1] > 1.5 * pauses[0] and pauses[2] > 1.5 * pauses[1]


@pytest.mark.parametrize("trouble", [ConnectionError("x"), ValueError(), json.JSONDecodeError("a", "b", 0)])
def test_no_error_ends_a_watch(trouble):
    client = Client(lambda n: trouble)
    stream = StreamThread("w", [], TASK, client=client, interval=0.001, max_ticks=2).start()
    stream.join(10)
    assert stream.ticks == 2


def test_due_times_do_not_drift():
    times = []
    def say(n): times.append(time.monotonic()); time.sleep(0.03); return "Nothing."
    StreamThread("w", [], TASK, client=Client(say), interval=0.05, max_ticks=8).start().join(10)
    assert times[-1] - times[0] < 7 * 0.05 + 0.05  # a look of 0.03 s does not make the pause longer


def test_stop_returns_at_once_whatever_hangs():
    go, inside = threading.Event(), threading.Event()
    def hang(n): inside.set(); go.wait(20); return "Nothing."
    stream = StreamThread("w", [], TASK, client=Client(hang), interval=0.001).start()
    assert inside.wait(10)
    begun = time.perf_counter(); stream.stop()
    assert time.perf_counter() - begun < 0.1 and not stream.is_alive()
    go.set(); stream.join(10)


def test_nothing_is_sent_after_stop():
    for _ in range(30):
        heard, stopped = [], threading.Event()
        def send_notification(msg: str):
            "Tell."
            heard.append(stopped.is_set())
        client = Client(lambda n: [("send_notification", {"msg": "x"})] * 4)
        stream = StreamThread("w", [function_schema(send_notification)], TASK, client=client, interval=0.001).start()
        until(lambda: heard)
        stream.stop(); stopped.set()
        stream.join(10)
        assert not any(heard)


def test_the_weak_variant_does_send_after_stop():
    heard, inside, go = [], threading.Event(), threading.Event()
    def say(n): inside.set(); go.wait(10); return [("send_notification", {"msg": "late"})] if n == 1 else "Done."
    def weak_stop(stream): stream._leaving = True
    for stop, expected in ((weak_stop, ["late"]), (StreamThread.stop, [])):
        heard.clear(); inside.clear(); go.clear()
        stream = StreamThread("w", [sender(heard)], TASK, client=Client(say), interval=10).start()
        inside.wait(10); stop(stream); go.set(); stream.join(10)
        assert heard == expected


def test_nor_by_a_tool_that_is_only_a_dict():
    inside, go, heard = threading.Event(), threading.Event(), []
    globals()["send_notification"] = heard.append
    tool = {"type": "function", "function": {"name": "send_notification", "metadata": {"module": __name__}, "fixup": f"{__name__}._fixup",
            "parameters": {"type": "object", "properties": {"msg": {"type": "string"}}}}}
    globals()["_fixup"] = lambda function_name, msg, **kwargs: heard.append(msg)
    def say(n): inside.set(); go.wait(10); return [("send_notification", {"msg": "late"})] if n == 1 else "Done."
    for stop, expected in ((lambda stream: setattr(stream, "_leaving", True), ["late"]), (StreamThread.stop, [])):
        heard.clear(); inside.clear(); go.clear()
        stream = StreamThread("w", [tool], TASK, client=Client(say), interval=10).start()
        inside.wait(10); stop(stream); go.set(); stream.join(10)
        assert heard == expected


def test_a_sender_may_stop_its_own_watch():
    stream = None
    def send_notification(msg: str):
        "Tell."
        stream.stop()
    stream = StreamThread("w", [function_schema(send_notification)], TASK, client=Client(lambda n: [("send_notification", {"msg": "x"})] if n == 1 else "Done."), interval=0.001)
    stream.start(); stream.join(10)
    assert stream.ticks == 1


def test_join_and_stop_before_start():
    stream = StreamThread("w", [], TASK)
    stream.join(0.1); stream.stop()
    stream.start(); stream.join(5)
    assert stream.ticks == 0


def test_a_context_manager():
    with StreamThread("w", [], TASK, client=Client(lambda n: "-"), interval=0.01) as stream: assert stream.is_alive()
    assert not stream.is_alive()


def test_threads_are_daemons_and_few():
    with Scheduler() as scheduler:
        streams = [StreamThread(str(i), [], TASK, client=Client(lambda n: "-"), interval=0.05, scheduler=scheduler).start() for i in range(100)]
        until(lambda: all(stream.ticks >= 2 for stream in streams))
        assert scheduler.threads <= 9 and all(thread.daemon for thread in scheduler._threads)
        for stream in streams: stream.stop()


def test_what_a_watch_may_call():
    def tool(name, **metadata): return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}, "metadata": metadata}}
    allowed = [tool("look"), tool("get_ships", method="get"), tool("head", method="HEAD"), tool("read", level="read"), tool("fetch", level="network")]
    refused = [tool("bash", level="exec"), tool("write", level="write"), tool("post", method="POST"), tool("delete", method="delete"),
               tool("add_api_tools", service="toolbox_manager"), tool("x", service="toolbox_handler"),
               *map(tool, ("start_notification_stream", "start_notifications_stream", "stop_notification", "send_notification"))]
    assert looking_tools([*allowed, *refused]) == allowed


def test_the_policy_of_a_watch_only_shrinks():
    stream = StreamThread("w", [], TASK, policy=ToolPolicy.notebook(trusted=("cam.local",), approve=lambda call: True))
    assert (stream.policy.allow, stream.policy.ask, stream.policy.approve, stream.policy.shell) == (("read", "network"), (), None, "off")
    assert stream.policy.trusted == ("cam.local",)


def test_core_with_every_part_replaced():
    started = []
    schema = {"type": "function", "function": {"name": "send_notification", "parameters": {"type": "object", "properties": {}}}}
    stop = {"type": "function", "function": {"name": "stop_notification", "parameters": {"type": "object", "properties": {}}}}
    said = notification_stream_core([], TASK, stream_starter=lambda tools, messages: started.append((tools, messages)), send_notification_schema=schema, stream_stopper_schema=stop)
    assert started == [([schema, stop], TASK)] and "started" in said


def test_core_with_the_defaults(capsys):
    client = Client(lambda n: [("send_notification", {"msg": "here"}), ("stop_notification", {})] if n == 1 else "Done.")
    notification_stream_core([], TASK, client=client, interval=0.01)
    N._started[-1].join(10)
    assert ">> Notification: here" in capsys.readouterr().out
    assert "Notification stream started with ID" in client.requests[0]["messages"][1]["content"]


def test_the_default_stopper_from_outside():
    streams = [default_stream_starter([], TASK, client=Client(lambda n: "-"), interval=0.01) for _ in range(2)]
    default_stream_stopper()
    assert not any(s.is_alive() for s in streams)


def test_process_notification_schema():
    def start(session_id: str, tools: list, messages: list, every: float = 5.0):
        "Start."
    function = process_notification_schema(start)["function"]
    assert list(function["parameters"]["properties"]) == ["messages", "every"] and function["parameters"]["required"] == ["messages"]
    assert function["parameters"]["properties"]["messages"]["items"]["required"] == ["role", "content"] and isinstance(function["metadata"], dict)
