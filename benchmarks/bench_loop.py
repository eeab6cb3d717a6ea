"The tool loop: what one call through the gate costs, one request to the model, and a batch of slow tools. `--full` repeats more."
import argparse, json, re, socket, statistics, subprocess, sys, threading, time

from llmcam.core.fc import complete, fn_exec, form_msg
from llmcam.core.fn_to_schema import Tool, function_schema
from llmcam.core.policy import ToolPolicy

CALL = {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None,
        "tool_calls": [{"id": "call_%s", "type": "function", "function": {"name": "add", "arguments": '{"a": 2, "b": 3}'}}]}}
TEXT = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "It is five."}}


# The server: a process of its own that answers a question with a call, and a tool's result with an answer

def reply(choice):
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}}
    return json.dumps(body)

def answer_one(connection, calls=[0]):
    stream = connection.makefile("rb")
    while line := stream.readline():
        length = 0
        while line.strip():
            if line.lower().startswith(b"content-length:"): length = int(line.split(b":")[1])
            line = stream.readline()
        body = stream.read(length)
        calls[0] += 1
        asked = re.findall(rb'"role": ?"(\w+)"', body)[-1] == b"user"
        text = (reply(CALL).replace("%s", str(calls[0])) if asked else reply(TEXT)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

def serve():
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        connection = server.accept()[0]
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer_one, args=(connection,), daemon=True).start()


# The work

def add(
    a: int, # First number
    b: int, # Second number
) -> int:
    "Add two numbers."
    return a + b

def wait(n: int): "Wait."; time.sleep(0.5); return n

def history(turns):
    "A conversation of so many turns, each with a tool call."
    messages = []
    for i in range(turns):
        call = {"id": f"old_{i}", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
        messages += [form_msg("user", f"What is {i} plus two? Look at the harbour while you are at it, please."), {"role": "assistant", "content": None, "tool_calls": [call]},
                     form_msg("tool", '{"a": 1, "b": 2, "add": 3}', f"old_{i}"), form_msg("assistant", "It is three. The harbour is as it was when you asked before.")]
    return messages

def tools_of(n):
    "So many tools, of which the last is `add`."
    tools = [Tool(function_schema(add), func=add) for _ in range(n)]
    for i, tool in enumerate(tools[:-1]): tool["function"]["name"] = f"other_{i}"
    return tools

def naive(messages, tools, client):
    "The loop as a tutorial writes it."
    public = [{"type": "function", "function": {k: t["function"][k] for k in ("name", "description", "parameters")}} for t in tools]
    functions = {"add": add}
    while True:
        message = client.chat.completions.create(model="m", messages=messages, tools=public).choices[0].message
        messages.append(message.model_dump(exclude_none=True))
        if not message.tool_calls: return message.content
        for call in message.tool_calls:
            result = functions[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})

def agents_loop(port):
    "The loop of the OpenAI Agents SDK as a function, `None` if it is not installed."
    try: import agents, openai
    except ImportError: return None
    agents.set_tracing_disabled(True)
    model = agents.OpenAIChatCompletionsModel("m", openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x"))
    agent = agents.Agent(name="a", model=model, tools=[agents.function_tool(add)] + [agents.function_tool(add, name_override=f"other_{i}") for i in range(14)])
    return lambda messages: agents.Runner.run_sync(agent, [m for m in messages if m["role"] == "user" or m["role"] == "assistant" and m["content"]])

def posts(messages, tools, client):
    "The same two requests by the client alone."
    for more in ([], [form_msg("tool", "5", "c")]):
        client.post("/chat/completions", cast_to=object, body={"model": "m", "messages": messages + more, "tools": tools})

def wire(messages, tools, port):
    "The same two requests with nothing but a socket and JSON."
    from http.client import HTTPConnection
    if port not in _wires: _wires[port] = HTTPConnection("127.0.0.1", port)
    for more in ([], [form_msg("tool", "5", "c")]):
        _wires[port].request("POST", "/v1/chat/completions", json.dumps({"model": "m", "messages": messages + more, "tools": tools}))
        json.loads(_wires[port].getresponse().read())
_wires: dict = {}


# The tables

def medians(ways, times, warm=3):
    "Median seconds of each of `ways`, measured in turns, so that what else the machine does meets them all alike."
    for way in ways.values():
        for _ in range(warm): way()
    spent = {name: [] for name in ways}
    for _ in range(times):
        for name, way in ways.items():
            begun = time.perf_counter(); way(); spent[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}

def row(*cells): print("| " + " | ".join(cells) + " |")

def gate_table(times):
    policy, tools = ToolPolicy(), tools_of(100)
    functions = {t["function"]["name"]: t.func for t in tools}
    def bare(call): return functions[call["function"]["name"]](**json.loads(call["function"]["arguments"]))
    ways = {"llmcam: found, checked, allowed, run": lambda call: fn_exec(call, tools, policy), "a dict of functions, nothing checked": bare}
    def batch(way, name):
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": '{"a": 2, "b": 3}'}}
        return lambda: [way(call) for _ in range(1000)]
    spent = medians({(label, name): batch(way, name) for label, way in ways.items() for name in ("other_0", "add")}, times)
    row("one call through the gate", "1st of 100 tools", "100th of 100"); row("---", "---", "---")
    for label in ways: row(label, *(f"{spent[label, name] * 1e3:.2f} µs" for name in ("other_0", "add")))
    print()

def loop_table(port, times):
    from openai import OpenAI
    client, tools = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x"), tools_of(15)
    plain = [{"type": "function", "function": {k: t["function"][k] for k in ("name", "description", "parameters")}} for t in tools]
    theirs = agents_loop(port)
    ways = {"llmcam": lambda m: complete(m, tools, client=client, model="m"), "of that, the `openai` client": lambda m: posts(m, plain, client),
            "naive loop over `openai`": lambda m: naive(m, tools, client), **({"OpenAI Agents SDK": theirs} if theirs else {}),
            "socket and JSON alone": lambda m: wire(m, plain, port)}
    def turn(way, n): return lambda: way([*history(n), form_msg("user", "What is 2 plus 3?")])
    spent = medians({(name, n): turn(way, n) for name, way in ways.items() for n in (1, 10, 50)}, times)
    row("per request to the model", "1 turn", "10 turns", "50 turns"); row(*["---"] * 4)
    for name in ways: row(name, *(f"{spent[name, n] / 2 * 1e3:.2f} ms" for n in (1, 10, 50)))
    print()
    if not theirs: print("(The OpenAI Agents SDK stands in the table where it is installed.)\n")

def batch_table(port):
    class Batch:
        "A model that asks for eight waits."
        def __init__(self): self.chat = self.completions = self
        def create(self, messages, **options):
            if messages[-1]["role"] == "tool": return {"choices": [TEXT]}
            calls = [{"id": f"c{i}", "type": "function", "function": {"name": "wait", "arguments": json.dumps({"n": i})}} for i in range(8)]
            return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    tools = [function_schema(wait)]
    row("8 calls of 0.5 s in one turn", "time"); row("---", "---")
    ways = {"llmcam": lambda: complete([form_msg("user", "Wait.")], tools, client=Batch(), model="m"), "one after the other": lambda: [wait(i) for i in range(8)]}
    for name, seconds in medians(ways, 2, 0).items(): row(name, f"{seconds:.3f} s")

def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="repeat more")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve: return serve()
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        gate_table(50 if options.full else 15)
        loop_table(port, 300 if options.full else 60)
        batch_table(port)
    finally: server.kill()

if __name__ == "__main__": main()
