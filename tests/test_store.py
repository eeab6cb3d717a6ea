"Tools that come and go in the middle of a conversation."
import importlib, json, re, sys, threading, types
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmcam.core.fc import complete, fn_exec, form_msg
from llmcam.core.fn_to_schema import ArgumentError, function_schema
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
    for kept in (tools, json.loads(json.dumps(tools))):
        assert fn_exec(call("b_shorten", text="hello", width=8), kept) == "hello"


def test_a_renamed_function_runs_once_even_when_it_fails():
    module = types.ModuleType("counting_calls")
    exec("runs = []\ndef fail():\n    'Fail.'\n    runs.append(1)\n    raise ValueError('no')", module.__dict__)
    module.fail.__module__ = "counting_calls"
    sys.modules["counting_calls"] = module
    tools = []
    for service in "ab": add_function_tools(tools, service, ["counting_calls.fail"])
    for name in names(tools): assert fn_exec(call(name), tools) == {"error": "no"}
    assert module.runs == [1, 1]


def test_too_many_tools_say_what_to_do(api):
    tools = []
    many = api(*(f"{'ship' if n % 10 else 'berth'}_{n}" for n in range(200)))
    with pytest.raises(ValueError, match="only|remove"): add_api_tools(tools, "big", "https://x.example", many)
    assert tools == []
    add_api_tools(tools, "big", "https://x.example", many, only="berth")
    assert len(tools) == 20


def test_remove_tools(api):
    tools = []
    add_api_tools(tools, "one", "https://one.example", api("a", "b"))
    kept = tools
    assert "Removed 2" in remove_tools(tools, "one") and tools == [] and kept is tools
    assert "Nothing to remove" in remove_tools(tools, "one")


def manager_tools(tools):
    def fixup(function_name, module, **kwargs): return execute_handler_core(tools, function_name, module, **kwargs)
    globals()["_fixup"] = fixup
    fixup.__qualname__, fixup.__module__ = "_fixup", __name__
    tools += [handler_schema(f, fixup=fixup) for f in (add_api_tools, add_function_tools, remove_tools)]
    return tools


def test_handler_schema():
    tool = handler_schema(add_api_tools, extra="x")
    assert "tools" not in tool["function"]["parameters"]["properties"] and tool["function"]["parameters"]["required"] == ["service_name", "base_url"]
    assert tool["function"]["metadata"] == {"module": "llmcam.utils.store", "service": "toolbox_handler", "extra": "x"}


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
        assert "can run programs" in fn_exec(call(tool["function"]["name"], session_id="x", command="id", tools=[], function_name="system", module="os"), tools)["error"]


def test_the_weak_variant_shows_that_the_attack_is_real():
    with gate(ToolPolicy.notebook()):
        tools = []
        add_function_tools(tools, "x", ["subprocess.getoutput"])
    assert fn_exec(call("getoutput", cmd="echo reached"), tools) == "reached"


def test_offered_names_exist():
    for dotted in store._OFFERED:
        module, _, name = dotted.rpartition(".")
        func = getattr(importlib.import_module(module), name)
        assert f"{func.__module__}.{func.__qualname__}" == dotted


def test_many_hands_lose_nothing(api):
    tools, threads = [], []
    def add(n): [add_function_tools(tools, f"s{n}_{k}", ["textwrap.shorten"]) for k in range(8)]
    threads = [threading.Thread(target=add, args=(n,)) for n in range(16)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(tools) == 128 and len(set(names(tools))) == 128


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
