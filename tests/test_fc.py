"Whatever a model, a tool or a person does, every tool call gets one tool message and the history stays one that the API takes."
import asyncio, contextvars, dataclasses, datetime, decimal, enum, itertools, json, pathlib, random, subprocess, sys, threading, time, uuid
from types import SimpleNamespace as NS

import numpy as np
import pytest

import llmcam.core.fc as fc
from llmcam.core.fc import (Budget, Conversation, Final, ModelError, TextDelta, ToolFinished, ToolStarted, acomplete, astream, complete, default_client,
    fn_args, fn_exec, fn_metadata, fn_name, fn_result_content, form_msg, form_msgs, print_msgs, stream, to_plain, use_client)
from llmcam.core.fn_to_schema import Tool, function_schema, public_tool
from llmcam.core.offline import OfflineModel, OfflineServer, ScriptedModel, check_messages, check_request
from llmcam.core.policy import PolicyError, ToolPolicy, current_policy, gate


def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b

TOOLS = [function_schema(add)]
def call(name="add", arguments='{"a": 1, "b": 2}', id="c1"): return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
def user(text="hi"): return [form_msg("user", text)]

def take(*replies, tools=TOOLS, **kwargs):
    "Take a turn with a scripted model; the conversation, checked, and the model."
    msgs, model = user(), ScriptedModel(*replies)
    complete(msgs, tools, client=model, **kwargs)
    check_messages(msgs)
    for messages, sent in model.requests: check_request({"model": "m", "messages": messages, **({"tools": sent} if sent else {})})
    return msgs, model

def result(msg, name="add"): return json.loads(msg["content"])[name]


# Messages and calls

def test_messages():
    assert form_msg("tool", "5", "c1") == {"role": "tool", "content": "5", "tool_call_id": "c1"}
    assert form_msgs([("user", "a"), ("assistant", "b")])[1] == {"role": "assistant", "content": "b"}

def test_printing_hides_tools_and_control_codes(capsys):
    msgs, _ = take([("add", {"a": 1, "b": 2})], "Three\x1b]0;title\x07.")
    print_msgs(msgs)
    short = capsys.readouterr().out
    print_msgs(msgs, with_tool=True)
    long = capsys.readouterr().out
    assert "add" not in short and "\x1b" not in short and "Three" in short
    assert 'add({"a": 1, "b": 2})' in long and "\x1b" not in long

def test_a_conversation_shows_itself_without_html():
    shown = Conversation([*user("<script>alert(1)</script>"), form_msg("tool", "`x` <b>", "c")])._repr_markdown_()
    assert "<script" not in shown and "**User:**" in shown

def test_calls_of_the_openai_package_and_dicts():
    from openai.types.chat import ChatCompletionMessageFunctionToolCall as ToolCall
    for c in (call(), ToolCall.model_validate(call()), NS(function=NS(name="add", arguments='{"a": 1, "b": 2}'))):
        assert (fn_name(c), fn_args(c), fn_exec(c, TOOLS)) == ("add", {"a": 1, "b": 2}, 3)
    assert fn_metadata(TOOLS[0])["module"] == __name__

@pytest.mark.parametrize("arguments, wanted", [("", {}), ("null", {}), (None, {}), ({"a": 1}, {"a": 1}), ('"{\\"a\\": 1}"', {"a": 1})])
def test_arguments_that_can_be_read(arguments, wanted): assert fn_args(call(arguments=arguments)) == wanted

@pytest.mark.parametrize("arguments", ['{"a": 1', "[1, 2]", "7", "a=1", "{'a': 1}", "[" * 100_000, '{"a": 1}{"b": 2}'])
def test_arguments_that_cannot(arguments):
    with pytest.raises(ValueError): fn_args(call(arguments=arguments))
    assert "error" in fn_exec(call(arguments=arguments), TOOLS)


# Results

class Colour(enum.Enum): RED = "red"
class Number(enum.IntEnum): ONE = 1
@dataclasses.dataclass
class Box: corner: tuple; taken: datetime.datetime
class Mute:
    def __repr__(self): raise ValueError("no")
class Odd:
    @property
    def to_json(self): raise RuntimeError("no")
class Describes:
    def to_json(self): return '{"car": 2}'
cyclic = {}; cyclic["me"] = [cyclic, cyclic]

VALUES = [None, True, 7, -0.5, "text", "\ud800", b"bytes", b"\xff\xd8", bytearray(b"x"), memoryview(b"x"), float("nan"), float("inf"), 10 ** 5000, -(10 ** 400), 1 + 2j,
    datetime.datetime(2026, 1, 1), datetime.date(2026, 1, 1), datetime.timedelta(1), pathlib.Path("a/b"), decimal.Decimal("1.5"), uuid.UUID(int=1), Colour.RED, Number.ONE,
    Box((1, 2), datetime.datetime(2026, 1, 1)), {1, 2}, frozenset("a"), (1, "a"), range(3), {1: 2, (1, 2): 3, None: 4, "\ud800": 5}, [float("nan"), {"a": b"x"}],
    np.int64(3), np.float32("nan"), np.arange(3), np.zeros((500, 500, 3)), np.array(["a"]), np.datetime64("2026-01-01"), np.bool_(True), np.array(5),
    (i for i in range(3)), itertools.count(), map(str, [1]), cyclic, Mute(), Odd(), Describes(), object(), len, int, Box, ValueError("x"), lambda: 1, NS(a=1), threading.Lock(), ...]

@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_any_value_can_be_a_result(value):
    tool = Tool(function_schema(lambda: None), func=lambda: value)
    tool["function"]["name"] = "give"
    text = fn_result_content(call("give", ""), [tool])
    text.encode()
    assert "give" in json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON")) and len(text) < 30_000

def test_what_values_become():
    assert to_plain({"when": datetime.date(2026, 1, 2), "n": np.int64(3), "mask": np.eye(2), "p": pathlib.Path("a"), "c": Colour.RED, "d": Describes(), "x": float("nan"), "u": uuid.UUID(int=1), "m": decimal.Decimal("1.5")}) == {
        "when": "2026-01-02", "n": 3, "mask": [[1.0, 0.0], [0.0, 1.0]], "p": "a", "c": "red", "d": {"car": 2}, "x": "nan", "u": str(uuid.UUID(int=1)), "m": "1.5"}

def test_long_results_are_cut_and_say_so():
    tool = function_schema(lambda: "x" * 100_000); tool["function"]["name"] = "log"
    said = json.loads(fn_result_content(call("log", ""), [tool], limit=1000))["log"]
    assert len(said) < 1100 and "1000 of 100000 characters" in said

def test_results_repeat_the_arguments():
    assert json.loads(fn_result_content(call(), TOOLS)) == {"a": 1, "b": 2, "add": 3}


# The gate

def spare(function_name, **kwargs): return {"fixup": function_name, **kwargs}
SPARE = f"{__name__}.spare"

def test_fixup_gets_what_the_function_cannot_take():
    tool = function_schema(add, fixup=SPARE, session_id="s1")
    assert fn_exec(call(), [tool]) == 3
    got = fn_exec(call(arguments='{"a": 1, "session_id": "stolen", "module": "os"}'), [tool])
    assert (got["fixup"], got["a"], got["session_id"], got["module"]) == ("add", 1, "s1", __name__)

def test_fixup_follows_an_error_but_not_a_refusal():
    def fails(): raise RuntimeError("dark")
    def refused(): raise PolicyError("not yours")
    for func, wanted in ((fails, {"fixup"}), (refused, {"error"})):
        tool = function_schema(func, fixup=SPARE)
        assert wanted <= set(fn_exec(call(func.__name__, ""), [tool]))

def test_a_tool_that_is_plain_data():
    "A tool read from JSON has no function attached: its metadata names it, and the policy lets it be found, or not."
    tool = json.loads(json.dumps(TOOLS[0]))
    assert "not in a module" in fn_exec(call(), [tool])["error"]
    assert "can run programs" in fn_exec(call(), [tool], ToolPolicy(modules=(__name__,)))["error"]
    assert fn_exec(call(), [tool], ToolPolicy.notebook()) == 3
    tool["function"]["metadata"]["module"] = "no.such.module"
    assert "nothing to run" in fn_exec(call(), [tool], ToolPolicy.notebook())["error"]
    assert fn_exec(call(), [{**tool, "function": {**tool["function"], "fixup": SPARE}}], ToolPolicy.notebook())["fixup"] == "add"

@pytest.mark.parametrize("key", ["session_id", "tools", "module", "service", "fixup", "function_name", "url", "noti_id"])
def test_the_host_keys_are_the_hosts(key):
    "A model sets `key`; the metadata's value arrives. Declared by the tool and not in the metadata, it is an argument like any other (the weak variant)."
    tool = Tool({"type": "function", "function": {"name": "spare_tool", "parameters": {"type": "object", "properties": {key: {"type": "string"}}}, "fixup": SPARE, "metadata": {key: "host's"}}})
    said = json.dumps({key: "model's"})
    if key not in ("module", "service", "function_name"): assert fn_exec(call("spare_tool", said), [tool])[key] == "host's"
    if key not in ("function_name",):
        tool["function"]["metadata"] = {}
        assert fn_exec(call("spare_tool", said), [tool])[key] == "model's"

def test_undeclared_host_keys_are_dropped():
    def free(**kwargs): return kwargs
    assert fn_exec(call("free", '{"tools": [], "session_id": 1, "x": 2}'), [function_schema(free)]) == {"x": 2}

def exits(): raise SystemExit(3)
def stops(): raise StopIteration
def recurses(): return recurses()
@pytest.mark.parametrize("func", [exits, stops, recurses])
def test_errors_come_back_as_text(func): assert "error" in fn_exec(call(func.__name__, ""), [function_schema(func)])

def test_unknown_tools_are_pointed_to_the_known():
    assert "Did you mean add?" in fn_exec(call("ad"), TOOLS)["error"]
    assert "no tool" in fn_exec(call("x"), [])["error"]

def test_levels_and_the_policy_in_force():
    def policy(): return current_policy()
    tools = [function_schema(policy, level="exec")]
    c = call("policy", "")
    assert "llmcam.trust()" in fn_exec(c, tools, ToolPolicy())["error"]
    assert "error" in fn_exec(c, tools, ToolPolicy(approve=lambda c: False))
    allowed = ToolPolicy(allow=("read", "network", "exec"))
    assert fn_exec(c, tools, allowed) == allowed and current_policy() is None
    with gate(ToolPolicy()): assert "error" in fn_exec(c, tools)

def test_async_tools_in_and_out_of_a_loop():
    async def later(n: int): await asyncio.sleep(0); return current_policy() and n + 1
    c, tools = call("later", '{"n": 1}'), [function_schema(later)]
    assert fn_exec(c, tools) == 2
    async def inside(): return fn_exec(c, tools)
    assert asyncio.run(inside()) == 2


# The loop

def test_a_turn():
    msgs, model = take([("add", {"a": 1, "b": 2})], "Three.")
    assert [m["role"] for m in msgs] == ["user", "assistant", "tool", "assistant"]
    assert all(type(m) is dict for m in msgs) and result(msgs[2]) == 3
    assert set(model.requests[0][1][0]["function"]) <= {"name", "description", "parameters", "strict"}

def test_parallel_calls_keep_their_order_and_run_together():
    gate_all = threading.Barrier(8, timeout=10)
    def meet(n: int):
        gate_all.wait()
        time.sleep(0.02 * (8 - n))
        return n
    msgs, _ = take([("meet", {"n": i}) for i in range(8)], "Met.", tools=[function_schema(meet)])
    assert [result(m, "meet") for m in msgs[2:10]] == list(range(8))

def test_context_variables_reach_tools():
    var = contextvars.ContextVar("var", default="lost")
    def read(): return var.get()
    var.set("kept")
    assert result(take([("read", {})], "ok", tools=[function_schema(read)])[0][2], "read") == "kept"

def test_a_tool_added_in_mid_turn_is_there_in_the_next_request():
    tools = []
    def learn(): tools.append(TOOLS[0]); return "learnt"
    tools.append(function_schema(learn))
    msgs, _ = take([("learn", {})], [("add", {"a": 1, "b": 2})], "Three.", tools=tools)
    assert result(msgs[4]) == 3

def completion(**message):
    finish = message.pop("finish", "stop")
    return NS(choices=[NS(message=NS(**{"content": None, "tool_calls": None, "refusal": None, **message}), finish_reason=finish)])

class Replies:
    "A client that gives raw replies."
    def __init__(self, *replies): self.replies, self.chat = list(replies), NS(completions=self)
    def create(self, **kwargs):
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException): raise reply
        return reply

FAULTS = [  # (what, replies, text in the answer)
    ("tool_calls null", [completion(content="fine")], "fine"),
    ("tool_calls empty", [completion(content="fine", tool_calls=[])], "fine"),
    ("dict replies", [{"choices": [{"message": {"role": "assistant", "content": "fine"}}]}], "fine"),
    ("refusal", [completion(refusal="I can't help with that.")], "I can't help"),
    ("cut off", [completion(content="The harbour is", finish="length")], "[Cut off"),
    ("cut off in a call", [completion(tool_calls=[call(arguments='{"a": 1, "b')], finish="length"), completion(content="fine")], "fine"),
    ("filtered", [completion(finish="content_filter")], "[Stopped"),
    ("empty answer", [completion(content="")], ""),
    ("no ids", [completion(tool_calls=[call(id=None), call(id="")]), completion(content="fine")], "fine"),
    ("one id for all", [completion(tool_calls=[call(), call(), call()]), completion(tool_calls=[call()]), completion(content="fine")], "fine"),
    ("odd name", [completion(tool_calls=[call("no such tool! ü" * 20)]), completion(content="fine")], "fine"),
    ("no name", [completion(tool_calls=[call("")]), completion(content="fine")], "fine"),
    ("half characters", [completion(content="\ud83d fine", tool_calls=[call("\ud83d", '{"a": "\\ud83d"}')]), completion(content="fine \ud83d")], "fine"),
    ("arguments as an object", [completion(tool_calls=[call(arguments={"a": 1, "b": 2})]), completion(content="fine")], "fine"),
    ("text with calls", [completion(content="Let me add.", tool_calls=[call()]), completion(content="fine")], "fine"),
    ("finish says stop", [completion(tool_calls=[call()], finish="stop"), completion(content="fine")], "fine"),
    ("custom tool calls", [completion(content="fine", tool_calls=[NS(id="c", type="custom", custom=NS(name="x", input=""), function=None)])], "fine"),
]

@pytest.mark.parametrize("what, replies, text", FAULTS, ids=[f[0] for f in FAULTS])
def test_faults_of_a_model(what, replies, text):
    msgs = user()
    role, answer = complete(msgs, TOOLS, client=Replies(*replies))
    assert role == "assistant" and text in answer and msgs[-1]["content"] == answer
    check_messages(msgs)
    for c in (c for m in msgs for c in m.get("tool_calls", [])): assert isinstance(json.loads(c["function"]["arguments"]), dict)

@pytest.mark.parametrize("reply", [NS(choices=[]), NS(choices=None), None, NS(choices=[NS(message=None, delta=None, finish_reason=None)])])
def test_no_answer_is_an_error_and_leaves_the_history_alone(reply):
    msgs = user()
    with pytest.raises(ModelError): complete(msgs, TOOLS, client=Replies(reply))
    assert msgs == user()

def test_a_failing_client_leaves_a_valid_history():
    msgs = user()
    with pytest.raises(ConnectionError): complete(msgs, TOOLS, client=Replies(completion(tool_calls=[call()]), ConnectionError("down")))
    check_messages(msgs)
    assert [m["role"] for m in msgs] == ["user", "assistant", "tool"]

def test_interrupts_leave_a_valid_history():
    started, leave = threading.Event(), threading.Event()
    def slow(): started.set(); leave.wait(10)
    def quick(): return "done"
    def interrupt(event):
        if isinstance(event, ToolFinished): raise KeyboardInterrupt
    msgs = user()
    with pytest.raises(KeyboardInterrupt): complete(msgs, [*map(function_schema, (slow, quick))], client=ScriptedModel([("slow", {}), ("quick", {})]), on_event=interrupt)
    leave.set()
    check_messages(msgs)
    assert "interrupted" in msgs[2]["content"] and result(msgs[3], "quick") == "done"
    assert complete([*msgs, *user("go on")], TOOLS, client=ScriptedModel("On."))[1] == "On."

def test_a_real_ctrl_c():
    import signal
    def hang(): signal.raise_signal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else signal.pthread_kill(threading.main_thread().ident, signal.SIGINT); stay.wait(10)
    stay, msgs = threading.Event(), user()
    with pytest.raises(KeyboardInterrupt): complete(msgs, [function_schema(hang)], client=ScriptedModel([("hang", {})], "never"))
    stay.set()
    check_messages(msgs)

def test_leaving_a_stream_in_the_middle():
    leave, msgs = threading.Event(), user()
    def slow(): leave.wait(10)
    events = stream(msgs, [function_schema(slow)], client=ScriptedModel([("slow", {})]))
    assert isinstance(next(events), ToolStarted)
    events.close(); leave.set()
    check_messages(msgs)

def test_deadline_of_a_tool():
    leave = threading.Event()
    def slow(): leave.wait(10)
    begun = time.monotonic()
    msgs, _ = take([("slow", {}), ("add", {"a": 1, "b": 2})], "ok", tools=[function_schema(slow), *TOOLS], budget=Budget(tool_seconds=0.1))
    leave.set()
    assert time.monotonic() - begun < 3 and "no result within 0.1 seconds" in msgs[2]["content"] and result(msgs[3]) == 3

def test_budget_of_turns_calls_and_seconds():
    endless = [[("add", {"a": i, "b": 1})] * 3 for i in range(50)]
    msgs, model = take(*endless, max_turns=4)
    assert len(model.requests) == 5 and not model.requests[-1][1] and "4 rounds" in msgs[-1]["content"]
    msgs, model = take(*endless, budget=Budget(calls=4))
    assert len(model.requests) == 3 and "4 tool calls" in msgs[-1]["content"] and "budget of 4" in msgs[-2]["content"]
    msgs, model = take(*endless, budget=Budget(seconds=0))
    assert not model.requests and "0 seconds" in msgs[-1]["content"]
    msgs, _ = take(endless[0], "All I have is 1.", max_turns=1)
    assert msgs[-1]["content"] == "All I have is 1."

def test_more_than_128_tools():
    tools = [Tool(t := function_schema(add, service_name=f"s{i}")) for i in range(200)]
    for i, tool in enumerate(tools): tool["function"]["name"] = f"add{i}"
    assert len(take("ok", tools=tools)[1].requests[0][1]) == 128

def test_events():
    seen = []
    take([("add", {"a": 1, "b": 2}), ("nope", {})], "Three.", on_event=seen.append)
    assert [type(e) for e in seen] == [ToolStarted, ToolStarted, ToolFinished, ToolFinished, Final]
    done = {e.name: e for e in seen if isinstance(e, ToolFinished)}
    assert done["add"].result == 3 and done["add"].error is None and "no tool" in done["nope"].error

@pytest.mark.parametrize("order", ["by index", "no index", "one index"])
def test_streams_of_calls_in_pieces(order):
    def piece(i, id=None, name=None, arguments=None):
        index = {"by index": i, "no index": None, "one index": 0}[order]
        return NS(choices=[NS(delta=NS(content=None, tool_calls=[NS(index=index, id=id, function=NS(name=name, arguments=arguments))]), finish_reason=None)])
    whole = [piece(0, "c1", "add", '{"a": 1, "b": 2}'), piece(1, "c2", "add", '{"a": 3, "b": 4}')]
    split = [piece(0, "c1", "add", ""), piece(0, None, None, '{"a": 1,'), piece(0, None, None, '"b": 2}'), piece(1, "c2", "add", '{"a": 3, "b": 4}')]
    msgs = user()
    list(stream(msgs, TOOLS, client=Replies(iter(split if order == "by index" else whole), iter([NS(choices=[NS(delta=NS(content="ok", tool_calls=None), finish_reason="stop")]), NS(choices=[])]))))
    assert [result(m) for m in msgs[2:4]] == [3, 7] and msgs[-1]["content"] == "ok"

def test_stream_yields_text_as_it_comes():
    events = list(stream(user(), [], client=ScriptedModel("one two three")))
    assert [e.text for e in events[:-1]] == ["one ", "two ", "three"] and events[-1] == Final("assistant", "one two three")

def test_asynchronous_turns():
    async def later(n: int):
        await asyncio.sleep(0.05)
        return n
    def sync(n: int): time.sleep(0.05); return n
    async def hang(): await asyncio.sleep(60)
    async def cancels(): raise asyncio.CancelledError
    tools = [*map(function_schema, (later, sync, hang, cancels))]
    async def run():
        msgs, calls = user(), [*(("later", {"n": i}) for i in range(4)), *(("sync", {"n": i}) for i in range(4)), ("hang", {}), ("cancels", {}), ("nope", {})]
        begun = time.monotonic()
        assert await acomplete(msgs, tools, client=ScriptedModel(calls, "ok"), budget=Budget(tool_seconds=0.5)) == ("assistant", "ok")
        assert time.monotonic() - begun < 3
        return msgs
    msgs = asyncio.run(run())
    check_messages(msgs)
    assert [json.loads(m["content"]).get("later", json.loads(m["content"]).get("sync")) for m in msgs[2:10]] == [0, 1, 2, 3] * 2
    assert "no result within" in msgs[10]["content"] and "error" in msgs[11]["content"] and "no tool" in msgs[12]["content"]

def test_a_cancelled_task_leaves_a_valid_history():
    msgs = user()
    async def hang(): await asyncio.sleep(60)
    async def run():
        task = asyncio.create_task(acomplete(msgs, [function_schema(hang)], client=ScriptedModel([("hang", {})])))
        while not len(msgs) > 1 and not task.done():
            await asyncio.sleep(0.01)
            if any(t.get_coro().__name__ == "_awork" for t in asyncio.all_tasks()): task.cancel()
        with pytest.raises(asyncio.CancelledError): await task
    asyncio.run(run())
    check_messages(msgs)
    assert "interrupted" in msgs[-1]["content"]

def test_astream_and_complete_in_a_running_loop():
    async def run():
        events = [e async for e in astream(user(), TOOLS, client=ScriptedModel([("add", {"a": 1, "b": 2})], "Three it is."))]
        assert complete(user(), TOOLS, client=ScriptedModel([("add", {"a": 1, "b": 2})], "Three.")) == ("assistant", "Three.")
        return events
    events = asyncio.run(run())
    assert [type(e) for e in events] == [ToolStarted, ToolFinished, TextDelta, TextDelta, TextDelta, Final]

def test_the_wrong_kind_of_client_is_a_lesson():
    class Asynchronous:
        def __init__(self): self.chat = NS(completions=self)
        async def create(self, **kwargs): return completion(content="ok")
    with pytest.raises(ModelError, match="acomplete"): complete(user(), client=Asynchronous())
    assert asyncio.run(acomplete(user(), client=Asynchronous()))[1] == "ok"

def test_finding_a_client(monkeypatch):
    with pytest.raises(ModelError, match="OPENAI_BASE_URL"): default_client()
    monkeypatch.setenv("LLMCAM_MODEL", "offline")
    assert isinstance(default_client()[0], OfflineModel)
    with OfflineServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url); monkeypatch.setenv("LLMCAM_MODEL", "small")
        assert default_client()[1] == "small" and "3" in complete(user("add 1 and 2"), TOOLS)[1]
        assert server.requests[0]["model"] == "small"
    use_client(model := ScriptedModel("mine"), "my-model")
    try: assert default_client() == (model, "my-model") and complete(user())[1] == "mine"
    finally: use_client(None)

def test_retry_is_the_clients_work():
    from openai import OpenAI, RateLimitError
    with OfflineServer() as server, OpenAI(base_url=server.base_url, api_key="x") as client:
        assert client.max_retries >= 2


# Fuzz

def noise(rng, depth=0):
    "Something that a broken model could send."
    kinds = [lambda: rng.choice(["", "x", "\ud800", "null", "{", "\x00", "é" * 9, '{"a": 1}']), lambda: rng.randint(-10 ** 20, 10 ** 20), lambda: rng.random() * 1e308, lambda: None, lambda: True]
    if depth < 3: kinds += [lambda: [noise(rng, depth + 1) for _ in range(rng.randint(0, 3))], lambda: {rng.choice("abxtools"): noise(rng, depth + 1) for _ in range(rng.randint(0, 3))}]
    return rng.choice(kinds)()

def test_fuzzed_calls():
    "Thousands of broken calls: no exception out of the gate, no unpaired call."
    rng, made = random.Random(7), 0
    def odd(a: list[int] = [], b: dict = {}, **kwargs): return [a, b, kwargs][rng.randint(0, 2)]
    def fails(a: str = ""): raise rng.choice([KeyError(a), OSError(a), UnicodeDecodeError("utf-8", b"x", 0, 1, "x"), RuntimeError(), Exception({"a": object()})])
    tools = [*TOOLS, function_schema(odd), function_schema(fails, fixup="no.such.fixup"), function_schema(add, fixup=SPARE, service_name="x")]
    while made < 1500:
        calls = []
        for _ in range(rng.randint(1, 10)):
            text = json.dumps(noise(rng))
            arguments = rng.choice([text, text[:rng.randint(0, len(text))], noise(rng)])
            calls.append(call(rng.choice(["add", "odd", "fails", "", "x" * 100, "ädd"]), arguments, rng.choice(["c1", "c2", None, ""])))
        msgs = user()
        complete(msgs, tools, client=Replies(completion(tool_calls=calls), completion(content="ok")))
        check_messages(json.loads(json.dumps(msgs)))
        json.dumps(msgs, ensure_ascii=False).encode()
        made += len(calls)


def test_a_program_that_ends_lets_a_running_tool_end():
    "Python aborts the process when it stops a daemon thread inside a C++ library (the detector in a watch, say)."
    script = """
import threading, time
from llmcam.core import fc
begun = threading.Event()
def slow():
    begun.set(); time.sleep(0.5); print("ended", flush=True)
fc._in_thread(slow, lambda *outcome: None)
begun.wait()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
    weak = subprocess.run([sys.executable, "-c", script + "import atexit; atexit.unregister(fc._settle)"], capture_output=True, text=True, timeout=60)
    assert weak.stdout == ""


def test_a_history_that_was_left_unanswered_is_mended():
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    messages = [form_msg("user", "Add."), {"role": "assistant", "content": None, "tool_calls": [call]}, form_msg("user", "Are you there?")]
    with OfflineServer(ScriptedModel("Yes.")) as server:
        from openai import BadRequestError, OpenAI
        client = OpenAI(base_url=server.base_url, api_key="x", max_retries=0)
        with pytest.raises(BadRequestError): client.chat.completions.create(model="offline", messages=messages)
        assert complete(messages, client=client, model="offline") == ("assistant", "Yes.")
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "user", "assistant"]


def test_what_a_tool_raises_or_yields_stays_inside():
    def cancel(): raise asyncio.CancelledError("stopped")
    def lines(): return (f"line {i}" for i in range(5000))
    run = lambda f: {"id": "call_1", "type": "function", "function": {"name": f.__name__, "arguments": "{}"}}
    assert "stopped" in fc.fn_exec(run(cancel), [function_schema(cancel)])["error"]
    assert "line 7" in fc.fn_result_content(run(lines), [function_schema(lines)])
