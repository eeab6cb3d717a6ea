"A model that adds llmcam's own helpers as tools, to speak with the voice of the host."
import pytest

from llmcam.application.session import SessionManager
from llmcam.core.offline import ScriptedModel
from llmcam.core.policy import ToolPolicy, tool_level
from llmcam.utils import store
from servers import LocalServer

HELPERS = ["llmcam.core.oas_to_schema.generate_request", "llmcam.utils.store.generate_request", "llmcam.utils.store.execute_operation",
           "llmcam.utils.store.execute_renamed", "llmcam.utils.store.execute_handler_core", "llmcam.application.session.start_notification_stream"]


@tool_level("read", untrusted=True)
def read_page() -> str:
    "Read the page."
    return "strangers' words"


def attack(helper, url, policy, tainted):
    "What was asked of the person when a model added `helper` and called it in every way that reaches `url`."
    host, asked, name = {"function_name": "f", "url": url + "/", "method": "GET", "trusted": True}, [], helper.rpartition(".")[2]
    ways = [host, {**host, "request": {"limits": {"method": "POST", "json": {"all": 1}}}}, {**host, "url": "https://api.example/", "request": {"limits": {"url": url}}},
            {"function_name": "f", "module": "llmcam.core.net", "known_as": "fetch", "url": url}]
    script = [[("read_page", {})]] * tainted + [[("add_function_tools", {"service_name": "api", "function_names": [helper]})], *([(name, way)] for way in ways), "Done."]
    def approve(call): asked.append(call.name); return False
    with SessionManager([read_page], client=ScriptedModel(*script), model="m", policy=policy(approve=approve)) as manager:
        manager[manager.init_session()].chat("Go")
    return asked


@pytest.mark.parametrize("tainted", (False, True))
@pytest.mark.parametrize("policy", (ToolPolicy, ToolPolicy.web))
@pytest.mark.parametrize("helper", HELPERS)
def test_no_helper_becomes_a_tool(helper, policy, tainted, own_data):
    with LocalServer({"*": {"ok": 1}}) as server:
        attack(helper, server.url, policy, tainted)
        assert not server.requests


def test_weak_a_tool_of_any_function(monkeypatch, own_data):
    monkeypatch.setattr(store, "_HOSTS_OWN", set())
    with LocalServer({"*": {"ok": 1}}) as server:
        assert not attack(HELPERS[0], server.url, ToolPolicy, True) and server.requests


def test_a_person_may_make_one_and_what_a_model_adds_is_not_vouched_for(own_data):
    tools = []
    store.add_function_tools(tools, "mine", HELPERS[:1])
    assert tools and not tools[0]["function"]["metadata"].get("trusted")
    with SessionManager(client=ScriptedModel([("add_function_tools", {"service_name": "x", "function_names": ["llmcam.vision.yolo.load_detector"]})], "Done."), model="m") as manager:
        session = manager[manager.init_session()]
        session.chat("Go")
        assert next(t for t in session.tools if t.name == "load_detector")["function"]["metadata"]["untrusted"] is True
