"Tools that come and go in the middle of a conversation."
import importlib, json, re, sys, threading, types
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmcam.core.fc import complete, fn_exec, form_msg
from llmcam.core.fn_to_schema import ArgumentError, Tool, function_schema
from llmcam.core.oas_to_schema import SpecError, load_oas
from llmcam.core.offline import ScriptedModel
from llmcam.core.policy import PolicyError, ToolPolicy, gate
from servers import LocalServer
from llmcam.utils import store
from llmcam.utils.file_manager import list_image_files
from llmcam.utils.store import *


def names(tools): return [t["function"]["name"] for t in tools]
def call(name, **arguments): return {"id": "1", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def document(*operations):
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"},
            "paths": {f"/{name}": {"get": {"operationId": name, "summary": f"Get {name}", "responses": {"200": {"description": "ok"}}}} for name in operations}}


@pytest.fixture
def api(tmp_path):
    def write(*operations):
        path = tmp_path / "api.json"
        path.write_text(json.dumps(document(*operations)))
        return str(path)
    return write


def test_api_tools(api):
    tools = []
    said = add_api_tools(tools, "ships", "https://ships.example", api("list_ships", "list_berths"))
    assert names(tools) == ["list_ships", "list_berths"] and "2 tools" in said and "list_berths" in said
    assert all(t["function"]["metadata"]["service"] == "ships" for t in tools)


def test_the_default_address_of_the_document(monkeypatch):
    seen = []
    monkeypatch.setattr(store, "load_oas", lambda url, destination=None: seen.append((url, destination)) or document("a"))
    add_api_tools([], "s", "https://ships.example/api/")
    add_api_tools([], "s", "https://ships.example", None, "copy.json")
    assert seen[0] == ("https://ships.example/api/swagger/openapi.json", None) and seen[1][1].endswith("copy.json")


def test_the_second_usual_address_of_the_document():
    tools = []
    with LocalServer({"/api/openapi.json": document("list_ships"), "/other/swagger/openapi.json": (500, {}, b"")}) as server:
        add_api_tools(tools, "ships", f"{server.url}/api/")
        assert names(tools) == ["list_ships"]
        assert [r.path for r in server.requests] == ["/api/swagger/openapi.json", "/api/openapi.json"]
        with pytest.raises(SpecError, match="oas_url="): add_api_tools(tools, "none", f"{server.url}/none")
        with pytest.raises(SpecError, match="answered 500"): add_api_tools(tools, "other", f"{server.url}/other")
        with pytest.raises(SpecError, match="answered 404"): add_api_tools(tools, "named", server.url, f"{server.url}/named.json")
    assert names(tools) == ["list_ships"]


def test_a_copy_goes_only_where_the_policy_allows(api, tmp_path):
    with gate(ToolPolicy.web()), pytest.raises(PolicyError): add_api_tools([], "s", "https://x.example", api("a"), str(tmp_path / "out.json"))


def test_same_service_replaces_other_service_is_renamed(api):
    tools = []
    add_api_tools(tools, "one", "https://one.example", api("status", "old"))
    add_api_tools(tools, "two", "https://two.example", api("status"))
    assert names(tools) == ["status", "old", "two_status"]
    add_api_tools(tools, "one", "https://one.example", api("status", "new"))
    assert sorted(names(tools)) == ["new", "status", "two_status"] and len(set(names(tools))) == 3
    assert "two.example" in str(next(t for t in tools if t["function"]["name"] == "two_status"))


def test_odd_service_names_give_valid_tool_names(api):
    tools = []
    for service in ("ä b/c" * 20, "日本", "", "x" * 200): add_api_tools(tools, service, "https://x.example", api("status"))
    assert len(set(names(tools))) == 4 and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", n) for n in names(tools))


def test_a_renamed_function_still_runs_and_survives_json():
    tools = []
    add_function_tools(tools, "a", ["textwrap.shorten"])
    add_function_tools(tools, "b", ["textwrap.shorten"])
    assert names(tools) == ["shorten", "b_shorten"]
    assert fn_exec(call("b_shorten", text="hello", width=8), tools) == "hello"
    stored = json.loads(json.dumps(tools))
    assert fn_exec(call("b_shorten", text="hello", width=8), stored, ToolPolicy.notebook()) == "hello"
    assert "error" in fn_exec(call("b_shorten", text="hello", width=8), stored)  # what comes out of a store names code, and may name too much


def test_a_renamed_function_takes_what_it_would_take_by_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "signals.py").write_text("""
def area(w, h=1, /, *more: int, unit: str = "m"): return [w, h, list(more), unit]
def search(q: str, limit: int = 10): return [q, limit]
def options(q: str, level: int = 0, **opts): return [q, level, opts]
""")
    monkeypatch.syspath_prepend(tmp_path)
    tools = []
    for service in "ab": add_function_tools(tools, service, [f"signals.{name}" for name in ("area", "search", "options")])
    for prefix in ("", "b_"):
        assert fn_exec(call(f"{prefix}area", w=1, h=2, more=[3], unit="km"), tools) == [1, 2, [3], "km"]
        assert "there is no parameter 'limti'" in fn_exec(call(f"{prefix}search", q="x", limti=3), tools)["error"]
        assert fn_exec(call(f"{prefix}options", q="x", page=2), tools) == ["x", 0, {"page": 2}]


def test_a_stored_tool_names_no_code_that_the_policy_forbids():
    for fixup, more in (("execute_renamed", {"known_as": "getoutput"}), ("execute_handler_core", {}), ("execute_operation", {"url": "file:///etc/passwd"})):
        forged = {"type": "function", "function": {"name": "getoutput", "parameters": {"type": "object", "properties": {"cmd": {}, "tools": {}}},
                  "metadata": {"module": "subprocess", "level": "read", **more}, "fixup": f"llmcam.utils.store.{fixup}"}}
        for policy in (ToolPolicy(), ToolPolicy.web(), ToolPolicy(allow=("read", "network", "write", "exec"))):
            assert "reached" not in str(fn_exec(call("getoutput", cmd="echo reached", tools="echo reached"), [forged], policy))
    with gate(ToolPolicy()), pytest.raises(PolicyError): store.execute_renamed("x", "subprocess", "getstatusoutput", cmd="id")
    assert store.execute_renamed("x", "subprocess", "getoutput", cmd="echo reached") == "reached"  # weak: nobody asks the policy


def test_a_renamed_function_runs_once_even_when_it_fails():
    module = types.ModuleType("counting_calls")
    exec("runs = []\ndef fail():\n    'Fail.'\n    runs.append(1)\n    raise ValueError('no')", module.__dict__)
    module.fail.__module__ = "counting_calls"
    sys.modules["counting_calls"] = module
    tools = []
    for service in "ab": add_function_tools(tools, service, ["counting_calls.fail"])
    for name in names(tools): assert fn_exec(call(name), tools) == {"error": "no"}
    assert module.runs == [1, 1]


def test_too_many_functions_say_what_to_do():
    tools = [function_schema(list_image_files, f"s{n}") for n in range(MAX_TOOLS)]
    with pytest.raises(ValueError, match="room for 0 more"): add_function_tools(tools, "x", ["textwrap.shorten"])
    assert len(tools) == MAX_TOOLS


def test_words_choose_what_fits(api):
    tools = []
    many = api(*(f"{'ship' if n % 10 else 'berth'}_{n}" for n in range(200)))
    add_api_tools(tools, "big", "https://x.example", many, only="berth")
    assert len(tools) == 20


def test_remove_tools(api):
    tools = []
    add_api_tools(tools, "one", "https://one.example", api("a", "b"))
    kept = tools
    assert "Removed 2" in remove_tools(tools, "one") and tools == [] and kept is tools
    assert "Nothing to remove" in remove_tools(tools, "one")

def test_built_in_tools_are_not_offered_for_removal(api):
    tools = [function_schema(load_oas, service_name="llmcam.core.oas_to_schema")]
    add_api_tools(tools, "one", "https://one.example", api("a"))
    assert remove_tools(tools, "two").endswith("llmcam.core.oas_to_schema, one")
    with gate(ToolPolicy()): assert remove_tools(tools, "two").endswith("are: one")

def manager_tools(tools):
    def fixup(function_name, module, **kwargs): return execute_handler_core(tools, function_name, module, **kwargs)
    globals()["_fixup"] = fixup
    fixup.__qualname__, fixup.__module__ = "_fixup", __name__
    tools += [handler_schema(f, fixup=fixup) for f in (add_api_tools, add_function_tools, remove_tools)]
    return tools


def test_handler_schema():
    tool = handler_schema(add_api_tools, extra="x")
    assert "tools" not in tool["function"]["parameters"]["properties"] and tool["function"]["parameters"]["required"] == ["service_name", "base_url"]
    assert tool["function"]["metadata"] == {"module": "llmcam.utils.store", "service": "toolbox_handler", "extra": "x", "level": "network", "untrusted": True}


def test_a_model_adds_tools_and_uses_them_in_the_same_turn():
    tools = manager_tools([])
    model = ScriptedModel([("add_function_tools", {"service_name": "files", "function_names": ["llmcam.utils.file_manager.list_plot_files"]})],
                          [("list_plot_files", {})], [("remove_tools", {"service_name": "files"})], "Done.")
    messages = [form_msg("user", "go")]
    complete(messages, tools, client=model)
    assert json.loads(messages[4]["content"]) == {"list_plot_files": ""} and len(tools) == 3


def test_manager_tools_stay():
    tools = manager_tools([])
    for service in ("toolbox_handler", "toolbox_manager"):
        assert "Nothing to remove" in fn_exec(call("remove_tools", service_name=service), tools)
        assert "error" in fn_exec(call("add_function_tools", service_name=service, function_names=["llmcam.utils.file_manager.list_plot_files"]), tools)
    assert names(tools) == ["add_api_tools", "add_function_tools", "remove_tools"]


def test_arguments_are_checked():
    tools = manager_tools([])
    wrong = fn_exec(call("add_function_tools", service_name="x"), tools)["error"]
    assert "function_names" in wrong and "tools" not in wrong.replace("_tools", "")
    with pytest.raises(ArgumentError): execute_handler_core([], "remove_tools", "llmcam.utils.store", wrong=1)


ATTACKS = ["os.system", "subprocess.run", "builtins.eval", "llmcam.core.fc.os.system", "llmcam.utils.store.import_module", "llmcam.utils.store.pkgutil.resolve_name",
           "llmcamevil.run", "llmcam", "", ".", "..os", "llmcam.", "os", "llmcam/../os.system"]


@pytest.mark.parametrize("dotted", ATTACKS)
def test_a_model_gets_no_other_module(dotted):
    tools = []
    with gate(ToolPolicy()), pytest.raises((PolicyError, LookupError, TypeError)): add_function_tools(tools, "x", [dotted])
    assert tools == []


HARMFUL = ["llmcam.core.policy.trust", "llmcam.core.policy:trust", "llmcam.core.policy.set_policy", "llmcam.core.fc.use_client", "llmcam.utils.store.execute_handler_core",
           "llmcam.utils.bash_command.execute_bash_command", "llmcam.application.session.retrieve_session_message",
           "llmcam.application.session.execute_bash_command", "llmcam.application.session.remove_session"]


@pytest.mark.parametrize("dotted", HARMFUL)
def test_what_llmcam_does_not_offer_is_not_run_for_a_model(dotted):
    tools = manager_tools([])
    fn_exec(call("add_function_tools", service_name="x", function_names=[dotted]), tools)
    for tool in tools[3:]:
        assert tool["function"]["metadata"]["level"] == "exec"
        parameters = tool["function"]["parameters"]
        arguments = {name: "x" for name in parameters.get("required", ())}
        assert "can run programs" in fn_exec(call(tool["function"]["name"], **arguments), tools)["error"]


def test_the_weak_variant_shows_that_the_attack_is_real():
    with gate(ToolPolicy.notebook()):
        tools = []
        add_function_tools(tools, "x", ["subprocess.getoutput"])
    assert fn_exec(call("getoutput", cmd="echo reached"), tools, ToolPolicy.notebook()) == "reached"


@pytest.mark.parametrize("given", [[], "", " , "])
def test_no_names_are_told(given):
    with pytest.raises(ValueError, match="function_names is empty"): add_function_tools([], "x", given)


def test_many_hands_lose_nothing(api):
    tools, threads = [], []
    def add(n): [add_function_tools(tools, f"s{n}_{k}", ["textwrap.shorten"]) for k in range(8)]
    threads = [threading.Thread(target=add, args=(n,)) for n in range(16)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(tools) == 128 and len(set(names(tools))) == 128


def test_sixty_four_hands_on_one_list(monkeypatch):
    "12,800 services come and go; those that shall stay are there, and nothing else."
    monkeypatch.setattr(store, "MAX_TOOLS", 1000)
    tools, failed = [function_schema(list_image_files, "first")], []
    def work(n):
        try:
            for k in range(200):
                add_function_tools(tools, f"s{n}_{k % 4}", ["textwrap.shorten"])
                if k % 4 != 3: remove_tools(tools, f"s{n}_{k % 4}")
        except Exception as e: failed.append(e)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
    for t in threads: t.start()
    for t in threads: t.join()
    services = [t["function"]["metadata"]["service"] for t in tools]
    assert not failed and sorted(services) == sorted(["first", *(f"s{n}_3" for n in range(64))]) and len(set(names(tools))) == len(tools)


def test_weak_a_list_without_a_lock_loses_tools():
    tools, barrier = [], threading.Barrier(8)
    def add(n):
        kept = [t for t in tools if t != n]
        barrier.wait()
        tools[:] = [*kept, n]
    threads = [threading.Thread(target=add, args=(n,)) for n in range(8)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(tools) == 1


# ---------------------------------------------------------------- catalogues

NOUNS = "issue repository branch commit release milestone label webhook gist team runner secret package workflow artifact deployment invitation project column card".split()
VERBS = {"get": "Get a", "post": "Create a", "put": "Replace the", "patch": "Update the", "delete": "Delete the"}

def big_document(count=1223):
    "A service with as many operations as one likes, of which one has a meaning."
    paths, n = {"/gates/{gate}/opening": {"post": {"operationId": "gates/open", "summary": "Open a gate of the harbour", "tags": ["gates"], "requestBody": {
        "required": True, "content": {"application/json": {"schema": {"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]}}}}}}}, 1
    while n < count:
        noun, verb = NOUNS[n % len(NOUNS)], list(VERBS)[n % 5]
        paths[f"/{noun}s/{n}/{{id}}"] = {verb: {"operationId": f"{noun}s/{verb}-{n}", "summary": f"{VERBS[verb]} {noun} by number {n}", "tags": [f"{noun}s"]}}
        n += 1
    return {"openapi": "3.1.0", "info": {"title": "Big", "version": "1"}, "paths": paths}


@pytest.fixture
def big():
    def answer(r): return {"asked": f"{r.method} {r.target}", "body": r.json() if r.body else None}
    with LocalServer({"/swagger/openapi.json": big_document(), "*": answer}) as server: yield server


def test_a_model_finds_activates_and_calls_one_of_1223_operations(big):
    tools = manager_tools([])
    home = ToolPolicy(trusted=(big.host,), allow=("read", "network", "write"), wary=False)
    model = ScriptedModel([("add_api_tools", {"service_name": "big", "base_url": big.url})], [("find_big_operations", {"query": "open the harbor gate"})],
                          [("gates_open", {"path": {"gate": "west/2"}, "body": {"minutes": "5"}})], "Opened.")
    messages = [form_msg("user", f"Open gate west/2 of {big.url} for five minutes.")]
    assert complete(messages, tools, client=model, policy=home)[1] == "Opened."
    told = [json.loads(m["content"]) for m in messages if m["role"] == "tool"]
    assert "1223 operations" in told[0]["add_api_tools"] and told[1]["find_big_operations"].startswith("These can be called from now on:\n- gates_open: Open a gate")
    assert told[2]["gates_open"] == {"asked": "POST /gates/west%2F2/opening", "body": {"minutes": 5}}
    assert len(tools) < 12 and "Removed 6 tools" in remove_tools(tools, "big") and len(tools) == 3


def test_a_catalogue_in_a_plain_list(big):
    tools = []
    add_api_tools(tools, "big", big.url)
    assert names(tools) == ["find_big_operations"]
    assert "gates_open" in fn_exec(call("find_big_operations", query="opn a gat", limit=1), tools) and names(tools)[1:] == ["gates_open"]
    assert "It is about: " in fn_exec(call("find_big_operations", query="zzzz"), tools) and len(tools) == 2
    assert "minutes" in str(fn_exec(call("gates_open", path={"gate": 1}, body={}), tools, ToolPolicy.notebook()))
    add_api_tools(tools, "big", big.url)  # again: takes its own place
    assert names(tools) == ["find_big_operations"]


def test_the_least_recently_used_leave_first(big):
    tools = []
    add_api_tools(tools, "big", big.url)
    source = tools[0]["function"]["metadata"]["catalogue"]
    find_operations(tools, source, "open gate", 1)
    for n in range(30): find_operations(tools, source, f"milestone number {n * 20 + 5}", 1)
    found = set(names(tools))
    fn_exec(call("gates_open", path={"gate": "1"}, body={"minutes": 1}), tools, ToolPolicy.notebook())
    for n in range(10): find_operations(tools, source, f"create a secret {n}", 16)
    assert "gates_open" in names(tools) and found - set(names(tools)), "what was used stays, of what was only found some is gone"
    assert len(tools) == 33 and len(set(names(tools))) == 33
    tools += [function_schema(list_image_files, f"s{n}") for n in range(MAX_TOOLS - len(tools))]
    add_function_tools(tools, "more", ["textwrap.shorten", "textwrap.dedent"])  # activated operations make room for what a person adds
    assert len(tools) == MAX_TOOLS and names(tools)[-2:] == ["shorten", "dedent"]


def test_use_keeps_an_operation(big):
    tools = []
    add_api_tools(tools, "big", big.url)
    source = tools[0]["function"]["metadata"]["catalogue"]
    find_operations(tools, source, "open gate", 1)
    for n in range(31): find_operations(tools, source, f"project number {n * 20 + 17}", 1)
    fn_exec(call("gates_open", path={"gate": "1"}, body={"minutes": 1}), tools, ToolPolicy.notebook())
    find_operations(tools, source, "delete a webhook", 10)
    assert "gates_open" in names(tools) and len(tools) == 33


def test_a_catalogue_survives_its_memory(big):
    tools = manager_tools([])
    add_api_tools(tools, "big", big.url)
    stored = json.loads(json.dumps(tools))
    tools[:] = [Tool(tool) for tool in stored]
    store._catalogues.clear()
    assert "gates_open" in fn_exec(call("find_big_operations", query="open a gate"), tools)
    assert [r.path for r in big.requests].count("/swagger/openapi.json") == 2


def test_a_catalogue_of_a_model_stays_a_models(big):
    "What a model added is not at home, after it was found as before."
    tools, home = manager_tools([]), ToolPolicy(trusted=(big.host,))
    fn_exec(call("add_api_tools", service_name="big", base_url=big.url), tools, home)
    store._catalogues.clear()
    assert "error" in fn_exec(call("find_big_operations", query="open a gate"), tools)  # may not even read the document again
    fn_exec(call("find_big_operations", query="get a label", limit=1), tools, home)
    assert "not on the public internet" in str(fn_exec(call(names(tools)[-1], path={"id": 1}), tools, replace(ToolPolicy(), allow=("read", "network", "write"))))


def test_a_model_cannot_name_another_function_of_the_store(big):
    tools = manager_tools([])
    for name in ("load_oas", "execute_handler_core", "api_schema"):
        assert "error" in fn_exec(call("add_api_tools", known_as=name, catalogue={"base_url": big.url}, function_name=name), tools)
    assert big.requests == []


# ---------------------------------------------------------------- over HTTP

@pytest.fixture
def service():
    "A REST service on loopback with its OpenAPI document."
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            answer = document("berths") if self.path == "/swagger/openapi.json" else {"free": [4, 7]}
            self.send_response(200); self.send_header("Content-Type", "application/json"); self.end_headers()
            self.wfile.write(json.dumps(answer).encode())
        def log_message(self, *args): pass
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_api_that_a_person_added_is_reached(service):
    tools = []
    add_api_tools(tools, "port", service)
    assert fn_exec(call("berths"), tools) == {"free": [4, 7]}


def test_an_api_that_a_model_adds_is_not_at_home(service):
    tools = manager_tools([])
    assert "error" in fn_exec(call("add_api_tools", service_name="port", base_url=service), tools) and len(tools) == 3
    home = ToolPolicy(trusted=(service.removeprefix("http://"),))
    fn_exec(call("add_api_tools", service_name="port", base_url=service), tools, home)
    assert fn_exec(call("berths"), tools, home) == {"free": [4, 7]}
    assert "not on the public internet" in str(fn_exec(call("berths"), tools))


# What a model may not put in place of what is there

@contextmanager
def served(doc):
    with LocalServer({"/api.json": doc}) as server: yield server.url


@pytest.mark.parametrize("policy", [ToolPolicy(), ToolPolicy.web()])
def test_a_model_keeps_documents_only_in_the_data_directory(tmp_path, own_data, policy):
    with served(document("a")) as url:
        for target in (tmp_path / "x.json", "../x.json", "~/x.json", "x.py", "", "deep/er/x.json"):
            with gate(replace(policy, trusted=(url.removeprefix("http://"), str(tmp_path)))):
                try: add_api_tools([], "s", url, f"{url}/api.json", str(target))
                except (PolicyError, OSError): pass
        assert not list(tmp_path.glob("x.*")) and not (own_data / "deep").exists() and not list(own_data.glob("*.py"))
        with gate(replace(policy, trusted=(url.removeprefix("http://"),))): add_api_tools([], "s", url, f"{url}/api.json", "x.json")
        assert json.loads((own_data / "x.json").read_text())["info"]["title"] == "t"
        add_api_tools([], "s", url, f"{url}/api.json", str(tmp_path / "deep" / "x.json"))  # a person writes where they like
        assert (tmp_path / "deep" / "x.json").exists()


def test_a_model_does_not_take_the_place_of_built_in_tools(api):
    def ring(): "Ring."
    tools = [function_schema(list_image_files), function_schema(ring)]
    with gate(ToolPolicy(files="any")):
        for service in ("llmcam.utils.file_manager", "llmcam.anything", __name__):
            with pytest.raises(PolicyError, match="built-in"): add_function_tools(tools, service, ["llmcam.utils.file_manager.list_plot_files"])
            with pytest.raises(PolicyError, match="built-in"): remove_tools(tools, service)
        with pytest.raises(PolicyError, match="built-in"): add_api_tools(tools, "llmcam.utils.file_manager", "https://x.example", api("list_image_files"))
    assert names(tools) == ["list_image_files", "ring"]
    add_api_tools(tools, "llmcam.utils.file_manager", "https://x.example", api("list_image_files"))  # a person may
    assert names(tools) == ["ring", "list_image_files"]


@pytest.mark.parametrize("most, kept", [(8, 8), (None, 15)], ids=["bounded", "weak"])
def test_a_host_that_wants_fewer_tools(api, most, kept):
    "Adding, the catalogue that stands for too many, and finding in it: nothing goes over the limit, and what was there stays."
    tools = []
    def run(name, **kwargs): return execute_handler_core(tools, name, "llmcam.utils.store", max_tools=most, **kwargs)
    run("add_function_tools", service_name="words", function_names=["textwrap.dedent", "textwrap.indent", "textwrap.shorten", "textwrap.wrap"])
    with_room = run("add_api_tools", service_name="ships", base_url="https://ships.example", oas_url=api(*(f"op{n}" for n in range(11))))
    if most:
        assert "more than fit" in with_room and names(tools)[4:] == ["find_ships_operations"]
        for query in ("op1", "op2 op3", "op4 op5 op6 op7"): assert "can be called" in run("find_ships_operations", query=query, limit=16) and len(tools) <= most
        with pytest.raises(ValueError, match="room for"): run("add_function_tools", service_name="more", function_names=["json.dumps", "json.loads", "json.dump", "json.load"])
    assert len(tools) == kept and names(tools)[:4] == ["dedent", "indent", "shorten", "wrap"]

def test_a_model_cannot_raise_the_limit():
    tools = [function_schema(list_image_files, f"s{n}") for n in range(MAX_TOOLS)]
    with pytest.raises(ValueError): execute_handler_core(tools, "add_function_tools", "llmcam.utils.store", max_tools=1000, service_name="x", function_names=["json.dumps"])
    assert len(tools) == MAX_TOOLS
