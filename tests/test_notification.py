"Watches: bounded, honest about trouble, and silent once they are stopped."
import asyncio, base64, copy, hmac, json, pickle, threading, time
from pathlib import Path

import pytest

from llmcam.core.fc import form_msg
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import ScriptedModel
from llmcam.core.net import fetch
from llmcam.core.policy import ToolPolicy, gate
from llmcam.utils import notification as N
from llmcam.utils.notification import *
from llmcam.utils.scheduler import Scheduler, SimulatedClock
from servers import LocalServer

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


def simulated(): return Scheduler(workers=0, clock=SimulatedClock())


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
    scheduler, times = simulated(), []
    client = Client(lambda n: times.append(scheduler.clock.monotonic()) or ConnectionError("no"))
    StreamThread("w", [], TASK, client=client, interval=10, scheduler=scheduler).start()
    scheduler.run(4000)
    pauses = [b - a for a, b in zip(times, times[1:])]
    assert pauses[:6] == [20, 40, 80, 160, 320, 600] and set(pauses[6:]) == {600}


@pytest.mark.parametrize("trouble", [ConnectionError("x"), ValueError(), json.JSONDecodeError("a", "b", 0)])
def test_no_error_ends_a_watch(trouble):
    client = Client(lambda n: trouble)
    stream = StreamThread("w", [], TASK, client=client, interval=0.001, max_ticks=2).start()
    stream.join(10)
    assert stream.ticks == 2


def test_due_times_do_not_drift():
    scheduler, times = simulated(), []
    def say(n): times.append(scheduler.clock.monotonic()); scheduler.clock.advance(3); return "Nothing."
    StreamThread("w", [], TASK, client=Client(say), interval=5, max_ticks=8, scheduler=scheduler).start()
    scheduler.run(100)
    assert times == [0, 5, 10, 15, 20, 25, 30, 35]  # a look of three seconds does not make the pause longer


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


def test_a_look_that_ends_after_the_stop_changes_nothing():
    "A stream that is stopped because the program ends goes on in the next one, whatever becomes of its last look."
    for said in (OSError("the model is gone"), [("stop_notification", {})], "Nothing."):
        inside, go, changes = threading.Event(), threading.Event(), []
        def say(n): inside.set(); go.wait(10); return said
        stream = StreamThread("w", [stopper()], TASK, client=Client(say), interval=10, max_ticks=1, on_change=changes.append).start()
        assert inside.wait(10)
        stream.stop(); go.set(); stream.join(10)
        assert not changes


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
        stream = StreamThread("w", [tool], TASK, client=Client(say), interval=10, policy=ToolPolicy(modules=("",))).start()
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
    asked = set()  # threads in which a model is asked: those of the scheduler and no others
    def say(n): asked.add(threading.current_thread()); return "-"
    with Scheduler() as scheduler:
        streams = [StreamThread(str(i), [], TASK, client=Client(say), interval=0.05, scheduler=scheduler).start() for i in range(100)]
        until(lambda: all(stream.ticks >= 2 for stream in streams))
        assert scheduler.threads <= 9 and asked <= scheduler._threads and all(thread.daemon for thread in scheduler._threads)
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


# What is said

def test_a_notification_is_a_text_with_a_name():
    note = Notification("Boat!", id="w:1", watch="w", path=Path("a.jpg"), kind="event")
    again = Notification.from_record(json.loads(json.dumps(note.record())))
    for other in (again, copy.deepcopy(note), pickle.loads(pickle.dumps(note))):
        assert other == "Boat!" and other.record() == note.record() and isinstance(other, Notification)
    assert json.dumps(note) == '"Boat!"' and Notification("x").id != Notification("x").id and Notification("x").time.tzinfo


def test_a_stream_numbers_what_it_says():
    heard = []
    client = Client(lambda n: [("send_notification", {"msg": "news"})] if n in (1, 4) else ConnectionError("no") if n == 3 else "Nothing.")
    StreamThread("w", [sender(heard)], TASK, client=client, interval=0.001, max_ticks=4).start().join(10)
    assert [(note.id, note.kind, note.watch) for note in heard] == [
        ("w:1", "event", "w"), ("w:down1", "down", "w"), ("w:2", "event", "w"), ("w:back2", "back", "w"), ("w:ended3", "ended", "w")]


def test_look_two_thousand_costs_what_look_twenty_did():
    scheduler, looks = simulated(), []
    class Counting(Client):
        def create(self, **request):
            self.requests, first = [], len(looks) < stream.ticks  # they would all be kept
            if first: looks.append(sum(len(str(message)) for message in request["messages"]))
            self.say = lambda n: [("send_notification", {"msg": "long " * 3000})] if first and len(looks) % 10 == 1 else "Nothing."
            return super().create(**request)
    stream = StreamThread("w", [sender([])], TASK, client=Counting(None), scheduler=scheduler, max_ticks=2000, max_tokens=10**9).start()
    scheduler.run(10 * 2000)
    assert len(looks) == stream.ticks == 2000 and stream.sent == 200 and max(looks[50:]) - min(looks[50:]) < 50 and looks[-1] < 5000


# A model that behaves badly

def test_a_model_that_floods_is_told_to_stop():
    heard = []
    client = Client(lambda n: [("send_notification", {"msg": f"{n} {i}"}) for i in range(20)] if n % 2 else "Done.")
    StreamThread("w", [sender(heard)], TASK, client=client, interval=0.001, max_ticks=3, per_look=5).start().join(10)
    assert len(heard) == 3 * 5 + 1 and "has sent enough" in str(client.requests[1]["messages"])


@pytest.mark.parametrize("budget, told", [({"max_notifications": 7}, "7 notifications"), ({"max_tokens": 1000}, "tokens"), ({"max_ticks": 4}, "4 times"),
                                          ({"max_seconds": 100}, "hours")])
def test_a_stream_ends_with_its_budget_and_says_so(budget, told):
    scheduler, heard = simulated(), []
    class Costly(Client):
        def create(self, **request):
            completion = super().create(**request)
            completion.usage.prompt_tokens, completion.usage.completion_tokens = 90, 10
            return completion
    client = Costly(lambda n: [("send_notification", {"msg": f"{n}"})] if n % 2 else "Done.")
    stream = StreamThread("w", [sender(heard)], TASK, client=client, scheduler=scheduler, **budget).start()
    scheduler.run(86400)
    assert told in heard[-1] and heard[-1].kind == "ended" and not stream.is_alive() and stream.ticks < 20 and scheduler.jobs == 0
    requests = len(client.requests)
    scheduler.run(86400)
    assert len(client.requests) == requests


def test_a_model_that_never_stops_calling_tools_is_stopped_in_each_look():
    looked = []
    def look() -> str:
        "Look."
        looked.append(1); return "x"
    client = Client(lambda n: [("look", {})])
    StreamThread("w", [function_schema(look, level="read")], TASK, client=client, interval=0.001, max_ticks=2).start().join(20)
    assert len(client.requests) <= 26 and len(looked) <= 64


def test_a_model_that_stops_at_once_is_gone_after_one_look():
    stream = StreamThread("w", [stopper()], TASK, client=Client(lambda n: [("stop_notification", {})] if n == 1 else "Bye."), interval=0.001).start()
    stream.join(10)
    assert (stream.ticks, stream.ended) == (1, "stopped itself")


@pytest.mark.parametrize("level, expected", [("read", 1), ("network", 1), ("write", 0), ("exec", 0)])
def test_a_model_cannot_call_what_is_forbidden(level, expected):
    done = []
    def act() -> str:
        "Act."
        done.append(1); return "done"
    client = Client(lambda n: [("act", {})] if n == 1 else "Done.")
    policy = ToolPolicy.notebook(approve=lambda call: True)
    StreamThread("w", [function_schema(act, level=level)], TASK, client=client, interval=0.001, max_ticks=1, policy=policy).start().join(10)
    assert len(done) == expected


def test_what_a_stream_has_done_survives_a_restart():
    heard, scheduler = [], simulated()
    say = lambda n: [("send_notification", {"msg": f"news {n}"})] if n % 2 else "Done."
    written = None
    for run in range(3):
        stream = StreamThread("w", [sender(heard)], TASK, client=Client(say), scheduler=scheduler, max_ticks=6)
        if written: stream.restore(json.loads(written))
        stream.start(); scheduler.run(15)
        written = json.dumps(stream.record())
        stream.stop()
    ids = [note.id for note in heard]
    assert len(set(ids)) == len(ids) == 7 and ids[:3] == ["w:1", "w:2", "w:3"] and heard[-1].kind == "ended"
    assert json.loads(written)["ended"] and not StreamThread("w", [], TASK, scheduler=scheduler).restore(json.loads(written)).start().is_alive()


# The outbox

def test_the_outbox_takes_each_once_and_hands_on_in_order():
    box, heard = Outbox(limit=5), []
    for i in (1, 2, 2, 3, 1): box.put(Notification(str(i), id=f"w:{i}"))
    assert box.deliver(heard.append) and heard == ["1", "2", "3"] and box.waiting == [] and len(box) == 3
    assert box.since("w:1") == ["2", "3"] and box.since() == box.since("gone") == ["1", "2", "3"] == list(box)
    for i in range(10): box.put(f"more {i}")
    assert len(box) == 5 and box.dropped == 5 and not box.put(Notification("1", id="w:1"))


def test_a_failing_sender_loses_nothing():
    box, heard, down = Outbox(), [], [True]
    def sender(note):
        if down[0] and note == "2": raise ConnectionError("down")
        heard.append(note)
    for i in "123": box.put(i)
    assert not box.deliver(sender) and heard == ["1"] and box.waiting == ["2", "3"] and "down" in str(box.last_error)
    down[0] = False
    assert box.deliver(sender) and heard == ["1", "2", "3"] and box.last_error is None


def test_a_hook_that_fails_keeps_the_notification_out():
    def disk_full(note): raise OSError("disk full")
    box = Outbox(on_put=disk_full)
    with pytest.raises(OSError): box.put(Notification("x", id="w:1"))
    box.on_put = None
    assert box.put(Notification("x", id="w:1")) and len(box) == 1


def test_many_threads_and_a_sender_that_calls_back():
    box, heard = Outbox(limit=10_000), []
    def sender(note):
        heard.append(note)
        if note.endswith("0") and not note.startswith("re"): box.put(f"re {note}x"); box.deliver(sender)
    def work(k):
        for i in range(100): box.put(f"{k}-{i}"); box.deliver(sender)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join(20)
    box.deliver(sender)
    assert len(heard) == len(set(heard)) == 880 and not box.waiting


def test_a_sender_that_hangs_holds_up_nobody_else():
    box, go, inside, heard = Outbox(), threading.Event(), threading.Event(), []
    def sender(note): inside.set(); go.wait(20); heard.append(note)
    box.put("1")
    thread = threading.Thread(target=box.deliver, args=(sender,)); thread.start()
    inside.wait(10); box.put("2")
    assert box.deliver(sender) is False  # at once: whoever delivers takes it along
    go.set(); thread.join(10)
    assert heard == ["1", "2"]


def test_asynchronous_senders():
    async def main():
        loop, box, heard, queue = asyncio.get_running_loop(), Outbox(), [], asyncio.Queue()
        async def sender(note):
            await asyncio.sleep(0)
            if len(heard) == 1 and not box.last_error: raise ConnectionError("gone")
            heard.append(note)
        for i in "123": box.put(i)
        box.deliver(sender)
        while box._delivering: await asyncio.sleep(0.001)
        assert heard == ["1"] and box.waiting == ["2", "3"]
        assert await asyncio.to_thread(box.deliver, sender, loop)
        assert heard == ["1", "2", "3"]
        box.put("4")
        assert await asyncio.to_thread(box.deliver, queue, loop) and queue.get_nowait() == "4"
    asyncio.run(main())
    with pytest.raises(ValueError, match="loop"): Outbox().deliver(asyncio.Queue())


def test_what_a_store_has_kept():
    box = Outbox(on_put=lambda note: 1 / 0)
    box.load([Notification(i, id=i) for i in "abc"], delivered="b")
    assert box.waiting == ["c"] and box.since("a") == ["b", "c"] and not box.put(Notification("a", id="a"))


# Senders that are far away

def test_a_webhook_tries_again_and_signs_what_it_sends():
    answers = iter([(500, {}, b"no"), (429, {"Retry-After": "30"}, b"wait")])
    scheduler, secret = simulated(), "whsec_" + base64.b64encode(b"key").decode()
    with LocalServer({"/hook": lambda request: next(answers, (204, {}, b""))}) as server:
        hook = Webhook(server.url + "/hook", secret, {"X-Own": "1"}, scheduler=scheduler)
        for i in (1, 2): hook(Notification(f"news {i}", id=f"w:{i}", watch="w"))
        scheduler.run(0); assert (hook.failures, len(hook.waiting)) == (1, 2) and "500" in str(hook.last_error)
        scheduler.run(2); assert hook.failures == 2
        scheduler.run(29); assert len(server.requests) == 2  # it was asked to wait for thirty seconds
        scheduler.run(2)
    sent = server.requests
    assert [request.json()["id"] for request in sent] == ["w:1", "w:1", "w:1", "w:2"] and not hook.waiting and scheduler.jobs == 0
    headers = sent[-1].headers
    signed = b".".join([b"w:2", headers["webhook-timestamp"].encode(), sent[-1].body])
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(b"key", signed, "sha256").digest()).decode()
    assert headers["webhook-id"] == "w:2" and headers["x-own"] == "1" and sent[-1].json()["text"] == "news 2"


def test_a_webhook_that_is_down_is_bounded_and_wakes_up_again():
    scheduler = simulated()
    hook = Webhook("http://127.0.0.1:9/", scheduler=scheduler, limit=10)
    for i in range(50): hook(f"news {i}")
    scheduler.run(3600)
    assert len(hook.waiting) == 10 and hook.outbox.dropped == 40 and 10 < hook.failures < 30
    with LocalServer({"*": (200, {}, b"")}) as server:
        hook.url = server.url
        scheduler.run(300)
        assert len(server.requests) == 10
        hook("late"); scheduler.run(1)
        assert len(server.requests) == 11
    hook("never"); hook.close(); scheduler.run(3600)
    assert scheduler.jobs == 0 and len(server.requests) == 11


def test_a_webhook_is_not_led_to_another_host():
    with LocalServer({"*": (200, {}, b"")}) as inner:
        leads = {"/hook": (307, {"Location": f"http://localhost:{inner.port}/"}, b"")}
        with LocalServer(leads) as server:
            scheduler = simulated()
            hook = Webhook(server.url + "/hook", scheduler=scheduler)
            hook("news"); scheduler.run(0)
        assert len(hook.waiting) == 1 and "another host" in str(hook.last_error) and not inner.requests


def test_a_webhook_may_be_called_by_a_model_that_may_not_go_there():
    scheduler = simulated()
    with LocalServer({"*": (200, {}, b"")}) as server, gate(ToolPolicy.web()):
        with pytest.raises(PermissionError): fetch(server.url)
        Webhook(server.url, scheduler=scheduler)("news")
        scheduler.run(1)
    assert len(server.requests) == 1


def test_apprise():
    pytest.importorskip("apprise")
    scheduler = simulated()
    with pytest.raises(ValueError, match="Address 2") as failed: Apprise("json://127.0.0.1:9", "nonsense://user:secret@x", scheduler=scheduler)
    assert "secret" not in str(failed.value)
    answers = iter([(500, {}, b"no")])
    with LocalServer({"*": lambda request: next(answers, (200, {}, b""))}) as server:
        send = Apprise(f"json://{server.host}/", scheduler=scheduler)
        send("The ferry is in.")
        scheduler.run(0); assert send.failures == 1
        scheduler.run(10)
    assert not send.waiting and server.requests[-1].json()["message"] == "The ferry is in."


def test_apprise_tells_what_has_lost_its_picture(tmp_path):
    pytest.importorskip("apprise")
    (tmp_path / "link.jpg").symlink_to("/etc/hostname")
    scheduler = simulated()
    with LocalServer({"*": (200, {}, b"")}) as server:
        send = Apprise(f"json://{server.host}/", scheduler=scheduler)
        for name in ("gone.jpg", "link.jpg"): send(Notification(f"Without {name}.", path=str(tmp_path / name)))
        scheduler.run(60)
    assert [r.json()["message"] for r in server.requests] == ["Without gone.jpg.", "Without link.jpg."] and not any(r.json()["attachments"] for r in server.requests)
