"Sessions and their watches: the contract of the session notebook name by name, and many people at once."
import asyncio, gc, json, os, subprocess, sys, threading, time, tracemalloc, uuid
from pathlib import Path

import pytest

from llmcam.application import session as S
from llmcam.application.session import *
from llmcam.core import fc
from llmcam.core.fc import Allowance, fn_exec, form_msg
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import OfflineModel, OfflineServer, ScriptedModel, check_messages
from llmcam.core.policy import ToolPolicy
from llmcam.utils.notification import StreamThread

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = """session_messages session_tools session_notis retrieve_session_message retrieve_session_tools retrieve_session_notis
set_noti_sender prepare_handler_schemas execute_handler execute_send_notification execute_stopper prepare_sender_schema
prepare_stopper_schema start_notification_stream prepare_notification_schemas execute_start_notification_stream default_tools
init_session remove_session SessionManager""".split()


@pytest.fixture
def sid():
    session_id = init_session()
    yield session_id
    remove_session(session_id)


@pytest.fixture
def offline():
    "A manager whose model says what `script` says; its watches look every 20 ms."
    with SessionManager(client=ScriptedModel(*["Nothing new."] * 10_000), interval=0.02) as manager: yield manager


def script(manager, *steps): manager.client = ScriptedModel(*steps)
def named(tools, name): return next(t for t in tools if t["function"]["name"] == name)
def names(tools): return [t["function"]["name"] for t in tools]


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end: time.sleep(0.005)
    assert condition()


# ---------------------------------------------------------------- the contract, name by name

def test_every_name_is_there(): assert [n for n in CONTRACT if not hasattr(S, n)] == []


def test_ids_are_fresh_uuid4_unless_known(sid):
    assert uuid.UUID(sid).version == 4 and init_session(sid) == sid
    other = init_session("chosen-by-a-visitor")
    assert other != "chosen-by-a-visitor" and uuid.UUID(other).version == 4
    assert "chosen-by-a-visitor" not in session_messages
    remove_session(other)


def test_unknown_sessions(sid):
    assert retrieve_session_message("?") == [] and retrieve_session_tools("?") == [] and retrieve_session_notis("?") is None
    remove_session("?")
    with pytest.raises(KeyError, match="There is no session"): default_manager()["?"]
    with pytest.raises(KeyError): session_messages["?"]
    with pytest.raises(KeyError): del session_tools["?"]
    with pytest.raises(KeyError): execute_handler("remove_tools", "?", module="llmcam.utils.store", service_name="x")


def test_lists_are_live(sid):
    retrieve_session_message(sid).append(form_msg("user", "hello"))
    assert session_messages[sid] == [{"role": "user", "content": "hello"}]
    assert retrieve_session_tools(sid) is session_tools[sid] is default_manager()[sid].tools


def test_mappings_take_values(sid):
    mine = []
    session_messages[sid] = mine
    session_tools["by-hand"] = mine
    assert retrieve_session_message(sid) is mine and retrieve_session_tools("by-hand") is mine
    assert "by-hand" in session_tools and "by-hand" not in session_messages and sid in list(session_messages)
    assert len(session_tools) == len(list(session_tools))
    del session_tools["by-hand"]
    assert "by-hand" not in session_tools and "by-hand" not in default_manager()
    del session_messages[sid]
    assert retrieve_session_message(sid) == [] and init_session(sid) != sid


def test_tools_of_a_new_session(sid):
    assert names(session_tools[sid]) == ["add_api_tools", "add_function_tools", "remove_tools", *names(default_tools),
                                         "start_notification_stream", "stop_notification",
                                         "start_watch", "list_watches", "pause_watch", "resume_watch", "stop_watch", "backtest_watch"]
    assert names(default_tools)[:10] == ["select_youtube_live_url", "capture_youtube_live_frame", "ask_gpt4v_about_image_file", "detect_objects",
                                         "cap", "list_image_files", "list_detection_files", "plot_object", "execute_bash_command", "camera_address_book"]
    assert json.loads(json.dumps(session_tools[sid])) == session_tools[sid]
    for tool in session_tools[sid]:
        assert not {"session_id", "tools", "client", "model"} & set(tool["function"]["parameters"].get("properties", {}))


def test_schemas(sid):
    handlers = prepare_handler_schemas(sid, execute_handler)
    assert names(handlers) == ["add_api_tools", "add_function_tools", "remove_tools"]
    for tool in handlers:
        assert tool["function"]["metadata"]["session_id"] == sid and tool["function"]["fixup"] == "llmcam.application.session.execute_handler"
        assert tool["function"]["metadata"]["service"] == "toolbox_manager" and "tools" not in tool["function"]["parameters"]["properties"]
    assert "fixup" not in prepare_handler_schemas(sid)[0]["function"]
    sender, stopper = prepare_sender_schema(sid)["function"], prepare_stopper_schema(sid)["function"]
    assert (sender["name"], stopper["name"]) == ("send_notification", "stop_notification")
    assert sender["parameters"]["required"] == ["msg"] and stopper["parameters"]["required"] == ["noti_id"]
    assert "module" not in sender["metadata"] and sender["metadata"]["session_id"] == stopper["metadata"]["session_id"] == sid
    starter = prepare_notification_schemas(sid, execute_start_notification_stream)["function"]
    assert starter["metadata"]["session_id"] == sid and "session_id" not in starter["parameters"]["properties"]
    assert starter["parameters"]["properties"]["messages"]["items"]["properties"]["role"]["type"] == "string"


def test_handlers_change_the_list_in_place(sid):
    tools = session_tools[sid]
    before = len(tools)
    said = execute_handler("add_function_tools", sid, module="llmcam.utils.store", service="toolbox_manager", service_name="text", function_names=["textwrap.shorten"])
    assert "shorten" in said and len(tools) == before + 1 and tools is session_tools[sid]
    execute_handler("remove_tools", sid, module="llmcam.utils.store", service_name="text")
    assert len(tools) == before


def test_nothing_is_shared_between_sessions(sid):
    other = init_session()
    for tool in session_tools[sid]: tool["function"]["parameters"]["properties"]["evil"] = {"type": "string"}
    session_tools[sid].clear()
    assert "evil" not in json.dumps(session_tools[other]) + json.dumps(default_tools) + json.dumps(session_tools[init_session()])
    assert names(session_tools[other])[0] == "add_api_tools"


# ---------------------------------------------------------------- notifications

def test_sender_and_outbox(sid):
    execute_send_notification("send_notification", sid, "one")
    execute_send_notification("send_notification", sid, "two", module="x", service="y")
    assert default_manager()[sid].outbox == ["one", "two"]
    heard = []
    set_noti_sender(sid, heard.append)
    assert heard == ["one", "two"] and execute_send_notification("send_notification", sid, msg="three") == "Notification sent"
    assert heard[2:] == ["three"] and default_manager()[sid].outbox == []


def test_a_sender_that_fails_loses_nothing(sid):
    def broken(msg): raise ConnectionError("closed")
    set_noti_sender(sid, broken)
    for n in range(3): execute_send_notification("send_notification", sid, str(n))
    heard = []
    set_noti_sender(sid, heard.append)
    assert heard == ["0", "1", "2"]


def test_a_coroutine_sender_runs_in_its_loop(sid):
    heard = []
    async def sender(msg): heard.append((msg, threading.current_thread()))
    async def main():
        set_noti_sender(sid, sender)
        await asyncio.to_thread(execute_send_notification, "send_notification", sid, "from a thread")
        assert heard == [("from a thread", threading.current_thread())]
    asyncio.run(main())


def test_notis_view(sid):
    assert sid not in session_notis and retrieve_session_notis(sid) is None
    session_notis[sid] = (print, {})
    assert session_notis[sid] == (print, {}) == retrieve_session_notis(sid)
    del session_notis[sid]
    assert retrieve_session_notis(sid) is None and sid in session_messages


def test_stream_starts_and_speaks_before_a_sender(offline):
    s = offline[offline.init_session()]
    script(offline, [("send_notification", {"msg": "hi"}), ("stop_notification", {"noti_id": "wrong"})], "Done.")
    noti_id = s.start_stream([form_msg("user", "Say hi.")])
    s.streams[noti_id].join(10)
    assert s.outbox == ["hi"] and not s.streams[noti_id].is_alive()
    heard = []
    s.set_sender(heard.append)
    assert heard == ["hi"] and s.outbox == []


def test_set_sender_keeps_running_streams(offline):
    s = offline[offline.init_session()]
    noti_id = s.start_stream([form_msg("user", "Watch.")])
    for _ in range(3): s.set_sender(print)
    sender, streams = offline.session_notis[s.id]
    assert sender is print and list(streams) == [noti_id] and streams[noti_id].is_alive()
    assert execute_stopper("stop_notification", s.id, noti_id, manager=offline.name) == "Notification stream stopped"
    assert not streams[noti_id].is_alive()


def test_remove_session_stops_its_streams(offline):
    s = offline[offline.init_session()]
    streams = [s.streams[s.start_stream([form_msg("user", "Watch.")])] for _ in range(3)]
    offline.remove_session(s.id)
    assert not any(stream.is_alive() for stream in streams)
    for stream in streams: stream.join(10)
    assert s.id not in offline and offline.session_notis.get(s.id) is None


def test_stop_returns_at_once_and_then_silence(offline):
    in_tick, go = threading.Event(), threading.Event()

    class Slow:
        "Thinks until it is told to go on, then wants to speak."
        def __init__(self): self.chat = self.completions = self
        def create(self, **request):
            in_tick.set()
            go.wait(10)
            return ScriptedModel([("send_notification", {"msg": "too late"})]).chat.completions.create(**request)

    offline.client = Slow()
    s, heard = offline[offline.init_session()], []
    s.set_sender(heard.append)
    stream = s.streams[s.start_stream([form_msg("user", "Watch.")])]
    assert in_tick.wait(10)
    begun = time.perf_counter()
    stream.stop()
    assert time.perf_counter() - begun < 0.1
    go.set()
    stream.join(10)
    assert heard == [] and s.outbox == []


def test_a_watch_only_looks(offline):
    s = offline[offline.init_session()]
    noti_id = s.start_stream([form_msg("user", "Watch.")])
    tools = s.streams[noti_id].tools
    assert not {"execute_bash_command", "add_api_tools", "add_function_tools", "remove_tools", "start_notification_stream"} & set(names(tools))
    assert names(tools).count("stop_notification") == names(tools).count("send_notification") == 1
    assert named(tools, "stop_notification")["function"]["metadata"]["noti_id"] == noti_id
    unattended = s.streams[noti_id].policy
    assert (unattended.allow_exec, unattended.approve, unattended.shell) == (False, None, "off")


def test_too_many_watches(offline):
    offline.max_streams = 2
    s = offline[offline.init_session()]
    ids = [s.start_stream([form_msg("user", "Watch.")]) for _ in range(2)]
    with pytest.raises(SessionError, match="Stop one first"): s.start_stream([form_msg("user", "Watch.")])
    s.streams[ids[0]].stop()
    s.start_stream([form_msg("user", "Watch.")])


def test_the_model_starts_a_watch_from_the_conversation(offline):
    s = offline[offline.init_session()]
    script(offline, [("start_notification_stream", {"every": 3600})], *["I will tell you."] * 5)
    assert s.chat("Tell me when a boat comes.") == "I will tell you."
    (stream,) = s.streams.values()
    assert stream.interval == 3600 and stream.messages[0] == form_msg("user", "Tell me when a boat comes.")
    assert stream.thread_id in stream.messages[-1]["content"] and stream.messages[-1]["role"] == "system"


# ---------------------------------------------------------------- whose session it is

def test_a_model_cannot_choose_the_session(offline):
    victim, s = offline[offline.init_session()], offline[offline.init_session()]
    other = SessionManager(client=offline.client)
    foreign = other[other.init_session()]
    before = [names(victim.tools), names(foreign.tools)]
    attacks = [("add_function_tools", {"session_id": target, "manager": other.name, "tools": [], "module": "os", "service_name": "spy",
                "function_names": ["llmcam.utils.file_manager.list_image_files"]}) for target in (victim.id, foreign.id)]
    attacks += [("start_notification_stream", {"session_id": victim.id, "messages": [form_msg("user", "spy")]}),
                ("send_notification", {"session_id": victim.id, "msg": "boo"}), ("stop_notification", {"session_id": victim.id, "noti_id": "x"})]
    noti_id = victim.start_stream([form_msg("user", "Watch.")])
    script(offline, [*attacks, ("stop_notification", {"session_id": victim.id, "noti_id": noti_id})], "Done.", *["-"] * 50)
    s.chat("Attack.")
    assert [names(victim.tools), names(foreign.tools)] == before and victim.outbox == [] and list(victim.streams) == [noti_id]
    assert victim.streams[noti_id].is_alive() and victim.messages == []


def test_the_weak_variant_shows_that_the_attack_is_real(offline):
    victim = offline[offline.init_session()]
    assert execute_send_notification("send_notification", victim.id, "boo", manager=offline.name)
    assert victim.outbox == ["boo"]  # the host may name any session; only what a model sends is stripped


def test_managers_do_not_mix(offline):
    other = SessionManager(client=ScriptedModel([("add_function_tools", {"service_name": "mine", "function_names": ["llmcam.utils.file_manager.list_plot_files"]})], "Done."))
    a, b = offline[offline.init_session()], other[other.init_session()]
    assert a.id not in other and b.id not in offline and b.id not in default_manager()
    b.chat("Add it.")
    assert "mine_list_plot_files" in names(b.tools) and "mine_list_plot_files" not in names(a.tools)
    # the same id in two managers is two sessions
    other.session_messages[a.id] = []
    other.session_tools[a.id] = []
    assert offline[a.id] is not other[a.id] and len(offline[a.id].tools) > 10


# ---------------------------------------------------------------- turns

def test_chat_achat_and_stream(offline):
    s, seen = offline[offline.init_session()], []
    script(offline, [("list_plot_files", {})], "One.", "Two.", [("list_plot_files", {})], "Three.")
    assert s.chat("1", on_event=lambda e: seen.append(type(e).__name__)) == "One."
    assert "ToolStarted" in seen and "ToolFinished" in seen and seen[-1] == "Final"
    assert asyncio.run(s.achat("2")) == "Two."
    assert [type(e).__name__ for e in s.stream("3")][-1] == "Final"
    assert [m["content"] for m in s.messages if m["role"] == "user"] == ["1", "2", "3"]
    assert "**Session**" in s._repr_markdown_() and s.id not in s._repr_markdown_()


class Broken:
    def __init__(self): self.chat = self.completions = self
    def create(self, **request): raise ConnectionError("no route")


def test_a_failed_turn_leaves_no_trace(offline):
    s = offline[offline.init_session()]
    good, offline.client = offline.client, Broken()
    with pytest.raises(ConnectionError): s.chat("hello")
    with pytest.raises(ConnectionError): asyncio.run(s.achat("hello"))
    with pytest.raises(ConnectionError): list(s.stream("hello"))
    assert s.messages == []
    offline.client = good
    assert s.chat("hello") == "Nothing new."


def test_an_abandoned_stream_frees_the_session(offline):
    s = offline[offline.init_session()]
    events = s.stream("hello")
    next(events)
    events.close()
    assert s.chat("again")


def test_a_tool_cannot_take_a_turn_of_its_own_session(offline):
    s = offline[offline.init_session()]
    def nested() -> str:
        "Talk to yourself."
        return s.chat("hello me")
    s.tools.append(function_schema(nested))
    script(offline, [("nested", {})], "Done.")
    s.chat("go")
    assert "in the middle of a turn" in s.messages[2]["content"]


def test_one_turn_at_a_time_but_sessions_side_by_side(offline):
    active, most, together = {}, {}, threading.Barrier(4, timeout=20)

    class Counting:
        def __init__(self): self.chat = self.completions = self
        def create(self, **request):
            who = request["messages"][0]["content"]
            active[who] = active.get(who, 0) + 1
            most[who] = max(most.get(who, 0), active[who])
            together.wait()  # four sessions have to be here at once, or this breaks
            active[who] -= 1
            return ScriptedModel("ok").chat.completions.create(**request)

    offline.client = Counting()
    sessions = [offline[offline.init_session()] for _ in range(4)]
    for n, s in enumerate(sessions): s.messages.append(form_msg("system", f"s{n}"))
    threads = [threading.Thread(target=s.chat, args=(f"turn {k}",)) for k in range(3) for s in sessions]
    for t in threads: t.start()
    for t in threads: t.join(30)
    assert most == {f"s{n}": 1 for n in range(4)}
    for s in sessions: assert [m["role"] for m in s.messages] == ["system", *["user", "assistant"] * 3]


def test_many_threads_mix_nothing():
    manager = SessionManager(client=ScriptedModel(), tools=[])
    def person(n):
        for _ in range(20):
            s = manager[manager.init_session()]
            for k in range(5): s.messages.append(form_msg("user", f"{n} {s.id} {k}"))
            s.tools.append({"function": {"name": f"only_{n}", "metadata": {}}})
            assert all(m["content"].startswith(f"{n} {s.id}") for m in manager.session_messages[s.id])
            assert [t for t in names(s.tools) if t.startswith("only")] == [f"only_{n}"]
    errors = []
    def run(n):
        try: person(n)
        except BaseException as e: errors.append(e)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(32)]
    for t in threads: t.start()
    for t in threads: t.join(60)
    assert not errors and len(manager) == 640


def test_tools_are_made_once_even_in_a_race():
    manager = SessionManager(client=ScriptedModel())
    for _ in range(20):
        s, seen, gate = manager[manager.init_session()], [], threading.Barrier(8)
        def look(): gate.wait(); seen.append(s.tools)
        threads = [threading.Thread(target=look) for _ in range(8)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert all(tools is seen[0] for tools in seen) and len(seen) == 8


def test_the_real_client_against_a_strict_server():
    openai = pytest.importorskip("openai")
    with OfflineServer() as server, SessionManager(client=openai.OpenAI(base_url=server.base_url, api_key="none"), model="offline", interval=0.05) as manager:
        s, told = manager[manager.init_session()], threading.Event()
        s.set_sender(lambda msg: told.set())
        assert "no plot" in s.chat("List the plot files.").lower() or s.messages[2]["role"] == "tool"
        s.tools[:] = [tool for tool in s.tools if tool["function"]["metadata"].get("service") != "watch_manager"]  # a stream, not a rule
        s.tools.append(function_schema(count_objects, level="read"))
        s.chat("Notify me when there is at least 1 car at the gate.")
        assert told.wait(20) and [stream.is_alive() for stream in s.streams.values()] == [True]
        s.chat("Stop the notification stream.")
        assert [stream.is_alive() for stream in s.streams.values()] == [False]
        check_messages(s.messages)


def count_objects() -> dict:
    "Count the objects that the camera at the gate sees now."
    return {"car": 2}


# ---------------------------------------------------------------- figures

def test_new_sessions_are_cheap():
    def seconds(manager, n=5000):
        begun = time.thread_time()
        for _ in range(n): manager.init_session()
        return (time.thread_time() - begun) / n
    rate = 1 / min(seconds(SessionManager()) for _ in range(6))
    gc.collect(); tracemalloc.start()
    small = SessionManager()
    for _ in range(2000): small.init_session()
    size = tracemalloc.get_traced_memory()[0] / 2000
    tracemalloc.stop()
    assert size < 512
    assert rate > 20_000, f"{rate:.0f} a second"  # 250,000 on a quiet machine with two cores; a busy one may be slow


def test_the_program_ends_with_watches_running(tmp_path):
    code = ("from llmcam.application.session import *\nfrom llmcam.core.fc import form_msg\nfrom llmcam.core.offline import ScriptedModel\n"
            "m = SessionManager(client=ScriptedModel(*['-'] * 99), interval=0.01)\ns = m[m.init_session()]\n"
            "[s.start_stream([form_msg('user', 'watch')]) for _ in range(5)]\nprint('up')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0 and done.stdout == "up\n" and done.stderr == ""


def test_under_the_web_policy_each_session_has_files_of_its_own():
    manager = SessionManager(client=OfflineModel(), policy=ToolPolicy.web())
    anna, ben = (manager[manager.init_session()] for _ in range(2))
    anna.chat("Capture sample:harbour?t=30")
    call = {"id": "call_1", "type": "function", "function": {"name": "list_image_files", "arguments": "{}"}}
    assert ".jpg" in fn_exec(call, anna.tools, anna.policy) and ".jpg" not in fn_exec(call, ben.tools, ben.policy)
    assert anna.id not in anna.policy.data
    shared = SessionManager(client=OfflineModel(), policy=ToolPolicy())  # the weak variant: one folder for all
    assert shared[shared.init_session()].policy.data is None


# ---------------------------------------------------------------- what a model may not change

def test_the_tools_that_a_session_starts_with_stay_for_a_model():
    def ring(): "Ring."
    with SessionManager(tools=[function_schema(ring, service_name="bells")]) as manager:
        sid = manager.init_session()
        ask = lambda tool, **arguments: fn_exec({"id": "1", "type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}, manager[sid].tools, ToolPolicy())
        plots = ["llmcam.utils.file_manager.list_plot_files"]
        for service in ("bells", "llmcam.application.session"):
            assert "built-in" in ask("add_function_tools", service_name=service, function_names=plots)["error"]
            assert "built-in" in ask("remove_tools", service_name=service)["error"]
        assert "ring" in names(manager[sid].tools)
        assert "Added" in ask("add_function_tools", service_name="plots", function_names=plots) and "Removed" in ask("remove_tools", service_name="plots")
        execute_handler("add_function_tools", sid, manager=manager.name, service_name="bells", function_names=plots)  # a person may
        assert "ring" not in names(manager[sid].tools)


@pytest.mark.parametrize("every", [float("nan"), float("inf"), -float("inf"), "nan"])
def test_a_watch_needs_a_number_of_seconds(offline, every):
    sid = offline.init_session()
    with pytest.raises(ValueError, match="number of seconds"): S.execute_start_notification_stream("start_notification_stream", sid, every=every, manager=offline.name)
    assert not offline[sid].streams


# ---------------------------------------------------------------- whose turn it is

class Gate:
    "A model that answers when it is let go."
    def __init__(self): self.chat = self.completions = self; self.asked, self.go, self.order = threading.Semaphore(0), threading.Event(), []
    def create(self, messages, **request):
        self.order.append(messages[-1]["content"])
        self.asked.release()
        assert self.go.wait(20)
        return {"choices": [{"message": {"content": f"re {messages[-1]['content']}"}, "finish_reason": "stop"}]}


@pytest.fixture
def gated():
    with SessionManager([], client=Gate(), max_waiting=3, wait=20) as manager:
        yield manager, manager[manager.init_session()]
        manager.client.go.set()


def waiting(s, n): return lambda: len(s._queue._waiting) == n


def test_first_come_first_served_for_threads_and_tasks(gated):
    manager, s = gated
    first = threading.Thread(target=s.chat, args=("first",)); first.start()
    assert manager.client.asked.acquire(timeout=10)
    threads = [threading.Thread(target=s.chat, args=("thread",)), threading.Thread(target=lambda: asyncio.run(s.achat("task"))),
               threading.Thread(target=lambda: list(s.stream("stream")))]
    for n, thread in enumerate(threads): thread.start(); until(waiting(s, n + 1))
    with pytest.raises(SessionError, match="3 turns are waiting"): s.chat("one too many")
    manager.client.go.set()
    for thread in (first, *threads): thread.join(20)
    assert manager.client.order == ["first", "thread", "task", "stream"] == [m["content"] for m in s.messages if m["role"] == "user"]


def test_waiting_has_an_end(gated):
    manager, s = gated
    thread = threading.Thread(target=s.chat, args=("first",)); thread.start()
    assert manager.client.asked.acquire(timeout=10)
    manager.wait = 0.05
    with pytest.raises(SessionError, match="busy for 0.05 seconds"): s.chat("late")
    with pytest.raises(SessionError, match="busy for 0.05 seconds"): asyncio.run(s.achat("late"))
    assert waiting(s, 0)()
    manager.client.go.set(); thread.join(20)
    assert s.chat("now") == "re now"


def test_a_cancelled_task_frees_the_turn_and_leaves_nothing(gated):
    manager, s = gated
    async def main():
        turn = asyncio.create_task(s.achat("cancelled in its turn"))
        await asyncio.to_thread(manager.client.asked.acquire, timeout=10)
        queued = asyncio.create_task(s.achat("cancelled in the queue"))
        while not waiting(s, 1)(): await asyncio.sleep(0.005)
        queued.cancel(); turn.cancel()
        for task in (queued, turn):
            with pytest.raises(asyncio.CancelledError): await task
        manager.client.go.set()
        return await s.achat("next")
    assert asyncio.run(main()) == "re next" and [m["content"] for m in s.messages] == ["next", "re next"]


def test_astream_and_one_that_is_left_early(offline):
    s = offline[offline.init_session()]
    script(offline, [("list_plot_files", {})], "One.", "Two.", "Three.")
    async def main():
        kinds = [type(event).__name__ async for event in s.astream("1")]
        async for event in s.astream("2"): break
        events = s.astream("3")
        await events.__anext__()
        await events.aclose()
        return kinds
    kinds = asyncio.run(main())
    assert kinds[0] == "ToolStarted" and kinds[-1] == "Final" and s.messages[-1]["content"] == "One."
    assert s.chat("again") and len([m for m in s.messages if m["role"] == "user"]) == 2
    offline.client = Broken()
    async def fails(): return [event async for event in s.astream("x")]
    with pytest.raises(ConnectionError): asyncio.run(fails())


def test_whoever_hears_the_final_event_may_leave(offline):
    s = offline[offline.init_session()]
    for event in s.stream("hello"):
        if type(event).__name__ == "Final": break
    assert [m["role"] for m in s.messages] == ["user", "assistant"] == [m["role"] for _, m in s.history()]


def test_a_turn_that_is_interrupted_takes_its_tools_back(offline):
    s = offline[offline.init_session()]
    before = names(s.tools)
    script(offline, [("add_function_tools", {"service_name": "plots", "function_names": ["llmcam.utils.file_manager.list_plot_files"]})])
    seen = []
    def vanish(event):
        seen.append(names(s.tools))
        offline.client.chat = None  # the model is gone before its answer
    with pytest.raises(Exception): s.chat("Add it.", on_event=vanish)
    assert len(seen[-1]) == len(before) + 1
    assert names(s.tools) == before and s.messages == [] and offline.store.look(s.id).last == 0


def test_others_see_only_whole_turns(gated):
    manager, s = gated
    turn = threading.Thread(target=s.chat, args=("first",)); turn.start()
    assert manager.client.asked.acquire(timeout=10)
    assert s.messages == [] and manager.store.messages(s.id) == []
    s.append(form_msg("system", "meanwhile"))
    manager.client.go.set(); turn.join(20)
    assert [m["content"] for m in s.messages] == ["meanwhile", "first", "re first"] == [m["content"] for _, m in s.history()]


def test_close_ends_in_bounded_time(gated):
    manager, s = gated
    errors = []
    def talk():
        try: s.chat("x")
        except SessionError as e: errors.append(e)
    threads = [threading.Thread(target=talk, daemon=True) for _ in range(2)]
    threads[0].start()
    assert manager.client.asked.acquire(timeout=10)
    threads[1].start(); until(waiting(s, 1))
    begun = time.monotonic()
    manager.close(0.2)
    assert time.monotonic() - begun < 2
    manager.client.go.set()
    for thread in threads: thread.join(10)
    assert len(errors) == 1 and "closed" in str(errors[0])  # the one that waited; the other had its answer
    with pytest.raises(SessionError, match="closed"): s.chat("after")


# ---------------------------------------------------------------- limits

def test_limits_say_what_to_do(offline):
    small = SessionManager([], client=offline.client, max_sessions=2, max_chars=10, max_tools=13, allowance=Allowance(requests=1))
    s = small[small.init_session()]; small.init_session()
    with pytest.raises(SessionError, match="raise max_sessions"): small.init_session()
    with pytest.raises(SessionError, match="Say it shorter"): s.chat("x" * 11)
    execute_handler("add_function_tools", s.id, manager=small.name, service_name="one", function_names=["llmcam.utils.file_manager.list_plot_files", "textwrap.fill"])
    before = names(s.tools)
    with pytest.raises(ValueError, match="remove a service first"):
        execute_handler("add_function_tools", s.id, manager=small.name, service_name="two", function_names=["textwrap.shorten", "textwrap.dedent"])
    assert names(s.tools) == before
    s.chat("hello")
    with pytest.raises(SessionError, match="has used 1 requests"): s.chat("again")
    assert s.usage.requests == 1 and s.totals["turns"] == 1


def test_tools_that_were_touched_take_no_room_after_a_turn(offline):
    offline.client = Gate()  # keeps no requests
    offline.client.go.set()
    def grow(n):
        "Bytes a session, once the caches, which are bounded, are full."
        before = tracemalloc.get_traced_memory()[0]
        kept = [(s, s.chat("hello")) for s in (offline[offline.init_session()] for _ in range(n))]
        gc.collect()
        assert sum(isinstance(s._tools, S._Tools) for s in offline._sessions.values()) <= 96  # those few, and 64 that the loop has an index of
        fc._indexes.clear()
        for s in list(offline._sessions.values()): s._let_go()
        return (tracemalloc.get_traced_memory()[0] - before) / len(kept)
    tracemalloc.start()
    try:
        grow(80)
        assert grow(40) < 3072
    finally: tracemalloc.stop()


def test_tools_that_were_touched_are_let_go_unless_somebody_holds_or_changed_them():
    manager = SessionManager()
    held, holding, changed, plain = (manager[manager.init_session()] for _ in range(4))
    tools, function = held.tools, named(holding.tools, "cap")["function"]
    named(changed.tools, "cap")["function"]["description"] = "mine"
    assert len(plain.tools) > 20
    for _ in range(60): assert len(manager[manager.init_session()].tools) > 20
    assert held.tools is tools and plain._tools is S._LATER and sum(type(s._tools) is list or isinstance(s._tools, S._Tools) for s in manager._sessions.values()) < 30
    function["description"] = tools[0]["function"]["description"] = "late"
    assert named(holding.tools, "cap")["function"]["description"] == held.tools[0]["function"]["description"] == "late"
    assert named(changed.tools, "cap")["function"]["description"] == "mine" != named(plain.tools, "cap")["function"]["description"]


# ---------------------------------------------------------------- folders

def test_a_folder_goes_with_its_session_and_nothing_else(tmp_path, own_data):
    manager = SessionManager([], policy=ToolPolicy.web())
    s, other = (manager[manager.init_session()] for _ in range(2))
    outside = tmp_path / "outside"; outside.mkdir(); (outside / "precious.txt").write_text("mine")
    for each in (s, other): Path(each.policy.data).mkdir(parents=True); (Path(each.policy.data) / "cap.jpg").write_bytes(b"x")
    (Path(s.policy.data) / "link").symlink_to(outside)
    (Path(s.policy.data) / "deep" / "er").mkdir(parents=True)
    folder = Path(s.policy.data)
    manager.remove_session(s.id)
    assert not folder.exists() and (outside / "precious.txt").exists() and (Path(other.policy.data) / "cap.jpg").exists()
    linked = manager[manager.init_session()]
    Path(linked.policy.data).symlink_to(outside)
    manager.remove_session(linked.id); manager.remove_session("../../outside"); manager.remove_session(None)
    assert (outside / "precious.txt").exists() and own_data.exists()


def test_a_folder_that_the_person_chose_is_never_deleted(tmp_path):
    chosen = tmp_path / "chosen"; chosen.mkdir()
    manager = SessionManager([], policy=ToolPolicy.web(data=str(chosen)))
    manager.remove_session(manager.init_session())
    assert chosen.exists()


def count_gulls(): "Count the gulls."; return 7


def test_plain_functions_are_tools(offline):
    with SessionManager([count_gulls], client=offline.client) as manager:
        s = manager[manager.init_session()]
        s.tools.append(count_objects); s.tools.extend([count_gulls])
        assert names(s.tools)[3] == "count_gulls" and names(s.tools)[-2:] == ["count_objects", "count_gulls"]
        manager.client = ScriptedModel([("count_gulls", {})], "Seven.")
        assert s.chat("How many?") == "Seven." and "7" in s.messages[-2]["content"]


def test_a_store_says_once_which_tools_it_cannot_keep(tmp_path, caplog):
    with SessionManager([], store=f"sqlite:///{tmp_path}/x.db", client=ScriptedModel("a", "b")) as manager:
        s = manager[manager.init_session()]
        s.tools.append(count_gulls)
        s.chat("x"); s.chat("y")
    assert [r.getMessage() for r in caplog.records if "cannot keep count_gulls" in r.getMessage()][1:] == []
    assert any("cannot keep count_gulls" in r.getMessage() for r in caplog.records)


def test_the_interval_of_the_manager_is_that_of_its_rule_watches():
    with SessionManager([], interval=2.5) as manager:
        s = manager[manager.init_session()]
        said = S.execute_watch("start_watch", s.id, manager=manager.name, camera="sample:harbour?t=20", object="car", condition="at least", number=99)
        assert "every 2.5 s" in said
