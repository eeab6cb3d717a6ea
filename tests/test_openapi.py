"REST APIs as tools, and classes as REST APIs: documents of every kind, requests as the document wants them, lessons instead of exceptions."
import copy, json, pickle, random, re, time
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import ClassVar, NamedTuple, Optional, TypedDict

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from llmcam.core.class_to_oas import class_to_oas
from llmcam.core.fc import fn_exec
from llmcam.core.fn_to_schema import SchemaError, public_tool
from llmcam.core.net import NetError
from llmcam.core.oas_to_schema import SpecError, api_schema, generate_request, load_oas, use_credentials
from llmcam.core.policy import PolicyError, ToolPolicy, gate
from servers import LocalServer

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def document(paths=None, components=None, version="3.1.0", **more):
    return {"openapi": version, "info": {"title": "Test", "version": "1"}, "paths": paths or {}, "components": components or {}, **more}

def one(operation, path="/things", method="get", item=None, **kwargs):
    "The tool of a document with one operation."
    tools = api_schema("http://127.0.0.1:1", document({path: {method: operation, **(item or {})}}, **kwargs))
    assert len(tools) == 1
    check(tools)
    return tools[0]["function"]

def query(*parameters): return {"parameters": [{"in": "query", **p} for p in parameters]}

def refs_in(schema):
    "What a schema refers to, values that only look like references aside."
    if isinstance(schema, list): return set().union(*map(refs_in, schema))
    if not isinstance(schema, dict): return set()
    here = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
    return here.union(*(refs_in(value) for key, value in schema.items() if key not in ("enum", "const", "default", "$defs")))

def check(tools):
    "What holds for the tools of every document."
    names, checked = [tool.name for tool in tools], {}
    assert len(set(names)) == len(names)
    for tool in tools:
        function = tool["function"]
        parameters, defs = {**function["parameters"]}, function["parameters"].get("$defs", {})
        parameters.pop("$defs", None)
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", function["name"])
        assert set(parameters["properties"]) <= {"path", "query", "header", "body"} and set(parameters["required"]) <= set(parameters["properties"])
        assert not {"metadata", "fixup"} & set(public_tool(tool)["function"])
        for schema in (parameters, *defs.values()):
            if id(schema) not in checked: Draft202012Validator.check_schema(schema); checked[id(schema)] = (schema, refs_in(schema))
        refs = set().union(*(checked[id(schema)][1] for schema in (parameters, *defs.values())))
        assert refs == {f"#/$defs/{name}" for name in defs}  # all that is referred to, and nothing else


# Documents of others

@pytest.mark.parametrize("name, count", [("petstore3", 19), ("marine_digitraffic", None), ("road_digitraffic", None), ("train_digitraffic", None), ("stripe", 416)])
def test_real_documents(shared_data, name, count):
    path = shared_data / "openapi" / f"{name}.json"
    oas = load_oas(path)
    tools = api_schema("https://api.example", oas, name)
    check(tools)
    operations = [operation for item in oas["paths"].values() for method, operation in item.items() if method in METHODS]
    assert len(tools) == len(operations) and (count is None or len(tools) == count)
    with_body = [operation for operation in operations if "requestBody" in operation]
    assert sum("body" in tool["function"]["parameters"]["properties"] for tool in tools) == len(with_body)
    assert all(tool["function"]["metadata"]["service"] == name for tool in tools)


# Parameters

def test_path_level_and_referenced_parameters():
    shared = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}, {"$ref": "#/components/parameters/page"}]
    function = one({"operationId": "read", "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}, "description": "Number"}]},
                   "/things/{id}", item={"parameters": shared},
                   components={"parameters": {"page": {"$ref": "#/components/parameters/page2"}, "page2": {"name": "page", "in": "query", "schema": {"type": "integer"}}}})
    assert function["parameters"] == {"type": "object", "required": ["path"], "properties": {
        "path": {"type": "object", "properties": {"id": {"type": "integer", "description": "Number"}}, "required": ["id"]},
        "query": {"type": "object", "properties": {"page": {"type": "integer"}}, "required": []}}}
    assert function["metadata"]["accepted_queries"] == ["page"]

def test_a_name_without_one_letter_gives_way_to_the_path():
    tools = api_schema("http://x", document({f"/{path}": {"get": {"operationId": name}} for path, name in (("cams", "中文"), ("ships", ""), ("données", "é"), ("ä", "x"))}))
    assert [tool.name for tool in tools] == ["get_cams", "get_ships", "get_donn_es", "x"]

def test_servers_of_one_path():
    paths = {"/a": {"get": {"servers": [{"url": "/files"}]}}, "/b": {"get": {}, "servers": [{"url": "https://y.org/q/"}]}, "/c": {"get": {}}}
    tools = api_schema(None, document(paths, servers=[{"url": "https://x.org/api"}]))
    assert [tool["function"]["metadata"]["url"] for tool in tools] == ["https://x.org/files/a", "https://y.org/q/b", "https://x.org/api/c"]
    with pytest.raises(SpecError, match="not an address"): api_schema(None, document(paths, servers=[{"url": "https://[[].org"}]))
    assert api_schema("http://z.org", document({"/a": {"get": {}}}, servers=[{"url": "./v3"}]))[0]["function"]["metadata"]["url"] == "http://z.org/v3/a"

def test_servers_of_one_operation_beside_a_given_address(echo):
    oas = document({"/a": {"get": {"servers": [{"url": echo.url}]}}, "/b": {"get": {}}, "/c": {"get": {"servers": [{"url": "/files"}]}}}, servers=[{"url": "https://x.org/"}])
    def places(base): return [(tool["function"]["metadata"]["url"], tool["function"]["metadata"]["trusted"]) for tool in api_schema(base, oas)]
    own = [(f"{echo.url}/a", False), ("https://x.org/b", True), ("https://x.org/files/c", True)]
    assert places("https://x.org") == places(None) == own and places("https://y.org") == [(f"https://y.org/{name}", True) for name in "abc"]
    tool = api_schema("https://x.org", oas)[0]
    with gate(ToolPolicy()): assert "not on the public internet" in generate_request(tool.name, **tool["function"]["metadata"])["message"]
    assert echo.requests == []

def test_an_address_with_a_login_or_a_query_is_refused():
    for base in ("http://u:SECRET@x.org", "http://x.org?key=1", "http://x.org#top"):
        with pytest.raises(SpecError) as caught: api_schema(base, document({"/a": {"get": {}}}))
        assert "SECRET" not in str(caught.value) and "Leave" in str(caught.value)

def test_errors_do_not_say_the_keys_of_an_address(echo):
    for path in ("broken", "text"):
        with pytest.raises(SpecError) as caught: load_oas(f"{echo.url.replace('//', '//u:SECRET@')}/{path}?key=SECRET")
        assert "SECRET" not in str(caught.value) and path in str(caught.value)

def test_path_parameters_that_nobody_declared():
    assert one({}, "/a/{b}/{c}")["parameters"]["properties"]["path"]["required"] == ["b", "c"]

def test_headers_cookies_and_what_is_not_ours():
    parameters = [{"name": name, "in": place, "schema": {"type": "string"}} for name, place in
                  (("X-Trace", "header"), ("Authorization", "header"), ("Accept", "header"), ("Content-Type", "header"), ("flavour", "cookie"))]
    function = one({"parameters": parameters})
    assert list(function["parameters"]["properties"]["header"]["properties"]) == ["X-Trace", "flavour"] and function["metadata"]["request"]["cookies"] == ["flavour"]

@pytest.mark.parametrize("given, expected", [
    ({"type": "string", "nullable": True}, {"type": ["string", "null"]}), ({"type": "string", "enum": ["a"], "nullable": True}, {"type": ["string", "null"], "enum": ["a", None]}),
    ({"type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"type": "integer", "exclusiveMinimum": 1}),
    ({"type": "integer", "minimum": 1, "exclusiveMinimum": False}, {"type": "integer", "minimum": 1}),
    ({"type": "string", "example": "x", "xml": {}, "x-odd": 1, "discriminator": {}, "format": "date"}, {"type": "string", "format": "date"}),
    ({"type": "strng"}, {}), ({"type": "string", "required": True}, {"type": "string"}), ({"type": "array", "items": [{"type": "string"}]}, {"type": "array", "prefixItems": [{"type": "string"}]}),
    ({"allOf": [{"type": "string"}], "nullable": True}, {"anyOf": [{"allOf": [{"type": "string"}]}, {"type": "null"}]}),
    ({"type": ["string", "null"], "const": "x"}, {"type": ["string", "null"], "const": "x"}), ({}, {}), (True, {}), (False, {"not": {}}),
    ({"type": "object", "additionalProperties": {"type": "integer", "example": 3}}, {"type": "object", "additionalProperties": {"type": "integer"}}),
    ({"oneOf": [{"type": "string"}, {"not": {"type": "null"}}]}, {"oneOf": [{"type": "string"}, {"not": {"type": "null"}}]}),
], ids=json.dumps)
def test_schemas_become_json_schema(given, expected):
    assert one(query({"name": "q", "schema": given}))["parameters"]["properties"]["query"]["properties"]["q"] == expected

def test_parameter_with_content():
    function = one(query({"name": "filter", "content": {"application/json": {"schema": {"type": "object"}}}}))
    assert function["parameters"]["properties"]["query"]["properties"]["filter"] == {"type": "object"} and function["metadata"]["request"]["encoding"] == {"query.filter": ["json", False]}


# Bodies and references

def body(schema, media_type="application/json", **more): return {"requestBody": {"content": {media_type: {"schema": schema}}, **more}}

def test_recursive_schemas_stay_recursive():
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}}, "leaf": {"$ref": "#/components/schemas/Leaf"}}}
    function = one(body({"$ref": "#/components/schemas/Tree"}, required=True), method="post",
                   components={"schemas": {"Tree": tree, "Leaf": {"type": "string"}, "Unused": {"$ref": "#/components/schemas/Tree"}}})
    assert set(function["parameters"]["$defs"]) == {"Tree", "Leaf"} and function["parameters"]["required"] == ["body"]
    Draft202012Validator(function["parameters"]).validate({"body": {"children": [{"children": [], "leaf": "x"}]}})
    assert not Draft202012Validator(function["parameters"]).is_valid({"body": {"children": [{"children": [{"leaf": 3}]}]}})

def test_references_into_paths_and_media_types():
    "Pointers with escapes: `~1` for `/`, `%7B` for a brace."
    items = {"/a/{id}": {"post": {**body({"type": "object", "properties": {"x": {"type": "integer"}}}, "application/vnd.cam+json"), "operationId": "a"}},
             "/b": {"post": {**body({"$ref": "#/paths/~1a~1%7Bid%7D/post/requestBody/content/application~1vnd.cam+json/schema/properties/x"}), "operationId": "b"}}}
    tools = api_schema("http://h", document(items))
    check(tools)
    assert tools[1]["function"]["parameters"]["$defs"] == {"x": {"type": "integer"}} and tools[0]["function"]["metadata"]["request"]["body_type"] == "application/vnd.cam+json"

def test_definitions_of_one_name_from_two_places():
    components = {"schemas": {"x": {"type": "string"}, "y": {"type": "object", "properties": {"x": {"type": "integer"}}}}}
    function = one(body({"type": "object", "properties": {"a": {"$ref": "#/components/schemas/x"}, "b": {"$ref": "#/components/schemas/y/properties/x"}}}), method="post", components=components)
    assert sorted(schema["type"] for schema in function["parameters"]["$defs"].values()) == ["integer", "string"]

def test_server_side_fields_are_not_asked_for():
    thing = {"type": "object", "required": ["id", "name"], "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string"}}}
    assert one(body(thing), method="post")["parameters"]["properties"]["body"] == {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}

def test_server_side_fields_of_other_parts_are_not_asked_for():
    base = {"type": "object", "required": ["id", "name"], "properties": {"id": {"type": "integer", "readOnly": True}, "name": {"type": "string"}}}
    part = {"type": "object", "required": ["id", "tag"], "properties": {"tag": {"type": "string"}}}
    asked = one(body({"allOf": [{"$ref": "#/components/schemas/Base"}, part], "required": ["id", "name"]}), method="post", components={"schemas": {"Base": base}})["parameters"]
    assert asked["properties"]["body"]["required"] == ["name"] and asked["properties"]["body"]["allOf"][1]["required"] == ["tag"] and asked["$defs"]["Base"]["required"] == ["name"]

@pytest.mark.parametrize("offered, chosen", [
    (["text/plain", "application/json"], "application/json"), (["multipart/form-data", "application/x-www-form-urlencoded"], "application/x-www-form-urlencoded"),
    (["application/xml", "application/vnd.x+json"], "application/vnd.x+json"), (["application/octet-stream"], "application/octet-stream"), (["application/json; charset=utf-8"],) * 2,
])
def test_choice_of_body(offered, chosen):
    chosen = chosen[0] if isinstance(chosen, list) else chosen
    assert one({"requestBody": {"content": {kind: {"schema": {"type": "object"}} for kind in offered}}}, method="post")["metadata"]["request"]["body_type"] == chosen


# Names, places, service

def test_names_are_unique_valid_and_short():
    items = {f"/{'x' * 80}/{n}": {"get": {"operationId": "a b/ä" * 30}, "post": {}} for n in range(3)} | {"/plain": {"get": {"operationId": "get_things"}, "put": {"operationId": "get things"}}}
    tools = api_schema("http://h", document(items))
    check(tools)
    assert {"get_things", "get_things_2"} < {tool.name for tool in tools} and max(len(tool.name) for tool in tools) == 64

@pytest.mark.parametrize("base, servers, expected", [
    ("http://h:8/", None, "http://h:8/t"), ("http://h", [{"url": "/api/v3"}], "http://h/api/v3/t"), ("http://h/api/v3", [{"url": "/api/v3"}], "http://h/api/v3/t"),
    ("http://h", [{"url": "http://other/v1"}], "http://h/t"), ("http://h", [{"url": "http://h/v1/"}], "http://h/v1/t"), (None, [{"url": "http://other/v1"}], "http://other/v1/t"),
    ("", [{"url": "http://{where}/v1", "variables": {"where": {"default": "fi"}}}], "http://fi/v1/t"),
])
def test_where_the_service_is(base, servers, expected):
    tools = api_schema(base, document({"/t": {"get": {}}}, **({"servers": servers} if servers else {})), "svc", "llmcam.core.oas_to_schema.generate_request")
    metadata = tools[0]["function"]["metadata"]
    assert metadata["url"] == expected and metadata["service"] == "svc" and metadata["method"] == "get" and "module" not in metadata

def test_only_what_a_person_adds_is_trusted():
    assert one({})["metadata"]["trusted"] is True
    with gate(ToolPolicy()): assert one({})["metadata"]["trusted"] is False


# Loading

YAML = """
openapi: 3.0.1
info: {title: T, version: 2026-11-23}
paths:
  /t:
    get:
      operationId: read
      parameters:
        - &limit {name: limit, in: query, schema: {type: integer, default: 010}}
        - {name: country, in: query, schema: {enum: [no, yes, on, true, ~]}}
      responses: {200: {description: ok}}
    post: {operationId: write, parameters: [*limit], responses: {201: {description: ok}}}
"""

def test_yaml_is_read_as_json(tmp_path):
    (tmp_path / "t.yaml").write_text(YAML)
    oas = load_oas(tmp_path / "t.yaml")
    assert json.loads(json.dumps(oas)) == oas and oas["info"]["version"] == "2026-11-23" and list(oas["paths"]["/t"]["get"]["responses"]) == ["200"]
    assert oas["paths"]["/t"]["get"]["parameters"][1]["schema"]["enum"] == ["no", "yes", "on", True, None]
    check(tools := api_schema("http://h", oas))
    assert [tool["function"]["metadata"]["accepted_queries"] for tool in tools] == [["limit", "country"], ["limit"]]

def test_loading_over_http_and_keeping(tmp_path):
    kept = tmp_path / "kept" / "oas.json"
    with LocalServer({"/a": document(), "/b": YAML.encode(), "/page": b"<html>Hello</html>", "/list": [1], "/cut": b'{"openapi": '}) as server:
        assert load_oas(f"{server.url}/a", kept) == document() == json.loads(kept.read_text())
        assert load_oas(f"{server.url}/b", kept) == document() and len(server.requests) == 1
        assert load_oas(f"{server.url}/b", kept, overwrite=True)["openapi"] == "3.0.1" == json.loads(kept.read_text())["openapi"]
        for path, told in (("page", "web page"), ("list", "not an OpenAPI document"), ("cut", "Neither JSON nor YAML"), ("gone", "answered 404")):
            with pytest.raises(SpecError, match=told): load_oas(f"{server.url}/{path}")
    with pytest.raises(NetError): load_oas(f"{server.url}/a")
    with pytest.raises(SpecError, match="cannot be read"): load_oas(tmp_path / "nowhere.json")

def test_a_model_loads_only_what_it_may(tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps(document()))
    with LocalServer({"/a": document()}) as server, gate(ToolPolicy.web()):
        with pytest.raises(PolicyError): load_oas(f"{server.url}/a")
        with pytest.raises(PolicyError): load_oas(str(tmp_path / "secret.json"))
        with pytest.raises(PolicyError): load_oas(f"{server.url}/a", str(tmp_path / "out.json"))
        assert server.requests == []

def test_yaml_bombs(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    for text, told in (("\n".join(lines), "values"), ("a: &a [*a]", "contains itself"), ("{" * 5000, "."), ("[" * 100_000, "nested too deeply"), ("- " * 40_000, "nested too deeply"), ("a: " + "{a: " * 5000, "nested too deeply")):
        (tmp_path / "bomb.yaml").write_text(text)
        started = time.perf_counter()
        with pytest.raises(SpecError, match=told): load_oas(tmp_path / "bomb.yaml")
        assert time.perf_counter() - started < 3

@pytest.mark.parametrize("change, told", [
    ({"openapi": "2.0"}, "#/openapi"), ({"openapi": None}, "#/openapi"), ({"swagger": "2.0"}, "Swagger 2.0"), ({"paths": []}, ""), ({"paths": [1]}, "#/paths"), ({"paths": {"/t": 3}}, "#/paths/~1t"),
    ({"paths": {"/t": {"get": "x"}}}, "#/paths/~1t/get"), ({"paths": {"/t": {"get": {"parameters": {"a": 1}}}}}, "#/paths/~1t/get/parameters"),
    ({"paths": {"/t": {"get": {"parameters": [{"name": "x"}]}}}}, "#/paths/~1t/get/parameters/0"), ({"paths": {"/t": {"get": query({"name": "x", "schema": {"$ref": "#/nowhere"}})}}}, "leads nowhere"),
    ({"paths": {"/t": {"get": query({"name": "x", "schema": {"$ref": "other.yaml#/X"}})}}}, "not in this document"), ({"paths": {"/t": {"get": query({"name": "x", "schema": {"$ref": 3}})}}}, "not in this document"),
    ({"paths": {"/t": {"get": query({"name": "x", "schema": {"$ref": "#/components/x"}})}}, "components": {"x": {"$ref": "#/components/x"}}}, "refers to itself"),
    ({"paths": {"/t": {"get": query({"name": "x", "schema": {"properties": [1]}})}}}, "schema/properties"), ({"paths": {"/t": {"post": {"requestBody": 3}}}}, "requestBody"),
], ids=str)
def test_what_is_broken_is_refused_with_its_place(change, told):
    broken = {**document({"/t": {"get": {}}}), **change}
    if told == "": assert api_schema("http://h", broken) == []; return
    with pytest.raises(SpecError) as caught: api_schema("http://h", broken)
    assert told in str(caught.value)

def test_deep_schemas_do_not_break_the_interpreter():
    deep = {"type": "string"}
    for _ in range(5000): deep = {"type": "array", "items": deep}
    with pytest.raises(SpecError, match="too deeply"): api_schema("http://h", document({"/t": {"get": query({"name": "x", "schema": deep})}}))

def test_mutated_documents_give_tools_or_a_spec_error():
    rng = random.Random(7)
    good = document({"/t/{id}": {"parameters": [{"$ref": "#/components/parameters/id"}], "post": {"operationId": "w", "summary": "S", "security": [{"k": []}], **body({"$ref": "#/components/schemas/T"})},
                     "get": query({"name": "q", "style": "deepObject", "schema": {"type": "array", "items": {"$ref": "#/components/schemas/T"}}})}},
                    {"parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "enum": ["a"]}}}, "securitySchemes": {"k": {"type": "apiKey", "in": "header", "name": "X"}},
                     "schemas": {"T": {"type": "object", "required": ["t"], "properties": {"t": {"anyOf": [{"$ref": "#/components/schemas/T"}, {"type": "null"}]}}}}}, servers=[{"url": "http://h/v1"}])
    def spots(node):
        found = []
        for key in (node if isinstance(node, dict) else range(len(node))):
            found.append((node, key))
            if isinstance(node[key], (dict, list)): found.extend(spots(node[key]))
        return found
    outcomes = set()
    for _ in range(1500):
        mutant = copy.deepcopy(good)
        for _ in range(rng.randint(1, 3)):
            node, key = rng.choice(spots(mutant))
            node[key] = rng.choice([None, 3, "x", [], {}, [None], {"$ref": "#/components/schemas/T"}, {"$ref": "#"}, True, 1e99, "", [{}], {"": None}, {"type": []}, node[key]])
        started = time.perf_counter()
        try: check(api_schema("http://h", mutant)); outcomes.add("tools")
        except SpecError as e: outcomes.add("refused"); assert str(e)
        assert time.perf_counter() - started < 1
    assert outcomes == {"tools", "refused"}


# Requests

@pytest.fixture
def echo():
    def answer(r): return {"asked": f"{r.method} {r.target}", "type": r.headers.get("Content-Type"), "body": r.body.decode("latin-1")}
    with LocalServer({"*": answer, "/text": (200, {"Content-Type": "text/plain"}, "grüß".encode()), "/nothing": (204, {}, b""), "/lost": (404, {}, b'{"error": "no such camera"}'),
                      "/broken": (500, {"Content-Type": "text/html"}, b"<h1>Oops</h1>"), "/frame": (200, {"Content-Type": "image/jpeg"}, b"\xff\xd8\xff\xe0" * 1000),
                      "/list": [1, 2], "/huge": (200, {}, bytes(5_000_000)), "/out": (302, {"Location": "http://10.0.0.1/"}, b"")}) as server: yield server

def call(server, operation, at="/t", method="get", components=None, version="3.1.0", **arguments):
    "Make a tool of one operation and call it as the tool loop does."
    tool, = api_schema(server.url, document({at: {method: operation}}, components, version))
    return generate_request(tool.name, **tool["function"]["metadata"], **arguments)

ARRAY, OBJECT, DEEP = ["a b", "c,d", "ä"], {"x": 1, "y": "z&"}, {"a": {"b": [1, True]}}

@pytest.mark.parametrize("how, value, expected", [
    ({}, "a/b?c&d=e#f ä", "q=a%2Fb%3Fc%26d%3De%23f%20%C3%A4"), ({}, True, "q=true"), ({}, 1.5, "q=1.5"), ({}, ARRAY, "q=a%20b&q=c%2Cd&q=%C3%A4"), ({}, OBJECT, "x=1&y=z%26"),
    ({"explode": False}, ARRAY, "q=a%20b,c%2Cd,%C3%A4"), ({"explode": False}, OBJECT, "q=x,1,y,z%26"), ({"style": "spaceDelimited", "explode": False}, [1, 2], "q=1%202"),
    ({"style": "pipeDelimited", "explode": False}, [1, 2], "q=1|2"), ({"style": "pipeDelimited", "explode": True}, [1, 2], "q=1&q=2"), ({"style": "deepObject", "explode": True}, DEEP, "q[a][b][0]=1&q[a][b][1]=true"),
    ({"allowReserved": True}, "a/b:c?d=e&f#g+h", "q=a/b:c?d=e%26f%23g%2Bh"), ({"allowReserved": True, "explode": False}, ["a,b", "c/d"], "q=a%2Cb,c/d"),
], ids=str)
def test_queries(echo, how, value, expected):
    asked = call(echo, query({"name": "q", "schema": {}, **how}), query={"q": value})["asked"]
    assert asked.replace("%7C", "|").replace("%5B", "[").replace("%5D", "]") == f"GET /t?{expected}"

def test_a_query_of_json(echo):
    assert call(echo, query({"name": "q", "content": {"application/json": {}}}), query={"q": {"a": 1}})["asked"] == "GET /t?q=%7B%22a%22%3A%201%7D"

@pytest.mark.parametrize("how, value, expected", [
    ({}, "a/../b?c#d", "a%2F..%2Fb%3Fc%23d"), ({}, "%2e%2e", "%252e%252e"), ({}, [3, "a,b"], "3,a%2Cb"), ({}, OBJECT, "x,1,y,z%26"), ({"explode": True}, OBJECT, "x=1,y=z%26"),
    ({"style": "label"}, 5, ".5"), ({"style": "label", "explode": True}, [3, 4], ".3.4"), ({"style": "label"}, [3, 4], ".3,4"), ({"style": "matrix"}, 5, ";id=5"), ({"style": "matrix"}, [3, 4], ";id=3,4"),
    ({"style": "matrix", "explode": True}, [3, 4], ";id=3;id=4"), ({"style": "matrix", "explode": True}, {"x": 1, "y": 2}, ";x=1;y=2"), ({"style": "label", "explode": True}, {"x": 1, "y": 2}, ".x=1.y=2"),
    ({}, 7, "7"), ({}, True, "true"),
], ids=str)
def test_paths(echo, how, value, expected):
    operation = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {}, **how}]}
    assert call(echo, operation, "/t/{id}/end", path={"id": value})["asked"] == f"GET /t/{expected}/end"

@pytest.mark.parametrize("value", ["..", ".", "", None, [], [".."], ["."], [""]])
@pytest.mark.parametrize("style", ["simple", "label", "matrix"])
def test_paths_never_step_up(echo, value, style):
    operation = {"parameters": [{"name": "id", "in": "path", "required": True, "schema": {}, "style": style}]}
    got = call(echo, operation, "/t/{id}/end", path={"id": value})
    if style == "simple" or not isinstance(value, list): assert "message" in got and echo.requests == []
    assert not {".", "..", ""} & set(r.target.split("/")[2] for r in echo.requests)

def test_a_path_of_json(echo):
    operation = {"parameters": [{"name": "id", "in": "path", "required": True, "content": {"application/json": {"schema": {}}}}]}
    assert [call(echo, operation, "/t/{id}", path={"id": value})["asked"] for value in ({"a": 1}, "x")] == ["GET /t/%7B%22a%22%3A%201%7D", "GET /t/%22x%22"]

@pytest.mark.parametrize("media_type, sent, expected", [
    ("application/json", {"a": ["ä"]}, ("application/json", {"a": ["ä"]})), ("application/json", [1, 2], ("application/json", [1, 2])),
    ("application/merge-patch+json", {"a": None}, ("application/merge-patch+json", {"a": None})), ("text/plain", "hello ä", ("text/plain", "hello ä")),
    ("application/x-www-form-urlencoded", {"a": "b&c", "d": [1, 2]}, ("application/x-www-form-urlencoded", "a=b%26c&d=1&d=2")), ("*/*", {"a": 1}, ("application/json", {"a": 1})),
])
def test_bodies(echo, media_type, sent, expected):
    got = call(echo, body({}, media_type), method="post", body=sent)
    text = got["body"].encode("latin-1").decode()
    assert (got["type"], json.loads(text) if "json" in got["type"] else text) == expected

def test_bodies_that_are_left_out_or_null(echo):
    thing = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for kind in ("application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert call(echo, body(thing, kind), method="post")["body"] == "" and echo.requests[-1].headers.get("Content-Type") is None
    assert call(echo, body({**thing, "required": ["a"]}), method="post", body={})["body"] == ""
    assert call(echo, body(thing), method="post", body={})["body"] == call(echo, body(thing, required=True), method="post")["body"] == "{}"
    nullable = body({"type": ["object", "null"]}, required=True)
    assert [call(echo, nullable, method="post", **given)["body"] for given in ({"body": None}, {})] == ["null", "{}"]
    patch = body({**thing, "properties": {"a": {"type": "integer"}, "b": thing}}, "application/merge-patch+json")
    assert json.loads(call(echo, patch, method="patch", body={"a": None, "b": {"a": None}})["body"]) == {"a": None, "b": {"a": None}}
    assert "body.a" in call(echo, patch, method="patch", body={"a": "x"})["message"]

def test_bodies_that_cannot_be_written(echo):
    asked = one(body({"type": "object"}, "application/xml", description="An order"), method="post")["parameters"]["properties"]["body"]
    assert asked == {"type": "string", "description": "XML text. An order"}
    assert call(echo, body({"type": "object"}, "application/xml"), method="post", body="<a/>")["body"] == "<a/>"
    for kind, sent in (("application/xml", {"a": 1}), ("multipart/related", {"a": 1}), ("application/x-www-form-urlencoded", [1])):
        assert "message" in call(echo, body({}, kind), method="post", body=sent)
    assert len(echo.requests) == 1

def test_stripe_like_forms(echo):
    operation = {"requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}, "encoding": {"card": {"style": "deepObject", "explode": True}}}}}}
    assert call(echo, operation, method="post", body={"card": {"n": 1, "tags": ["x"]}, "amount": 5})["body"] == "card[n]=1&card[tags][0]=x&amount=5"

def test_uploads_come_from_the_data_directory(echo, own_data, tmp_path):
    own_data.mkdir(); (own_data / "cap.jpg").write_bytes(b"JPEG"); (tmp_path / "secret").write_text("secret")
    operation = body({"type": "object", "properties": {"image": {"type": "string", "format": "binary"}, "note": {"type": "string"}}}, "multipart/form-data")
    with gate(ToolPolicy()):
        got = call_trusted(echo, operation, body={"image": str(own_data / "cap.jpg"), "note": "hi"})
        assert 'filename="cap.jpg"' in got["body"] and "JPEG" in got["body"] and 'name="note"' in got["body"]
        for path in (str(tmp_path / "secret"), "../secret", "/etc/passwd"): assert "outside the data directory" in call_trusted(echo, operation, body={"image": path})["message"]
        assert call_trusted(echo, body({"type": "string", "format": "binary"}, "image/jpeg"), body="cap.jpg")["body"] == "JPEG"

def call_trusted(server, operation, method="post", **arguments):
    "As when a person has added the service and a model calls it."
    tool, = api_schema(server.url, document({"/t": {method: operation}}))
    return generate_request(tool.name, **{**tool["function"]["metadata"], "trusted": True}, **arguments)

def test_headers_and_cookies(echo):
    operation = {"parameters": [{"name": "X-Ids", "in": "header", "schema": {"type": "array"}}, {"name": "flavour", "in": "cookie", "schema": {}}]}
    call(echo, operation, header={"X-Ids": [1, 2], "flavour": "oat; admin=1"})
    assert echo.requests[0].headers["X-Ids"] == "1,2" and echo.requests[0].headers["Cookie"] == "flavour=oat%3B%20admin%3D1"
    assert "message" in call(echo, operation, header={"X-Ids": "a\r\nX-Evil: 1"}) and len(echo.requests) == 1

def test_a_header_and_a_cookie_of_one_name_and_cookies_of_many_values(echo):
    cookies = [{"name": "x-id", "in": "cookie", "schema": {}}, {"name": "tags", "in": "cookie", "schema": {"type": "array"}}, {"name": "few", "in": "cookie", "explode": False, "schema": {"type": "array"}}]
    operation = {"parameters": [*cookies, {"name": "x-id", "in": "header", "schema": {}}]}
    call(echo, operation, header={"x-id": "5", "cookie x-id": "6", "tags": ["a", "b"], "few": ["c", "d"]})
    assert echo.requests[0].headers["x-id"] == "5" and echo.requests[0].headers["Cookie"] == "x-id=6; tags=a; tags=b; few=c,d"

def test_parameters_and_fields_with_a_media_type(echo):
    call(echo, {"parameters": [{"name": name, "in": "query", "content": {kind: {"schema": {}}}} for name, kind in (("plain", "text/plain"), ("deep", "application/json"))]},
         query={"plain": "a b", "deep": "a"})
    assert echo.requests[-1].target.endswith("?plain=a%20b&deep=%22a%22")
    def sent(kind, encoding, **fields):
        call(echo, {"requestBody": {"content": {kind: {"schema": {"type": "object"}, "encoding": encoding}}}}, method="post", body=fields)
        return echo.requests[-1].body.decode()
    assert sent("application/x-www-form-urlencoded", {"o": {"contentType": "application/json"}, "l": {"explode": False}}, o={"a": 1}, l=[1, 2]) == "o=%7B%22a%22%3A%201%7D&l=1,2"
    parts = sent("multipart/form-data", {"l": {"contentType": "application/json"}, "t": {"contentType": "text/csv"}, "w": {"contentType": "image/*, a/b"}}, l=[1, "x"], t="a,b", w="y")
    assert 'name="l"\r\nContent-Type: application/json\r\n\r\n[1, "x"]' in parts and 'name="t"\r\nContent-Type: text/csv\r\n\r\na,b' in parts and 'name="w"\r\n\r\ny' in parts

def test_answers(echo):
    def get(path): return generate_request("read", f"{echo.url}{path}", "get")
    assert get("/text") == {"message": "grüß"} and get("/list") == [1, 2] and "204" in get("/nothing")["message"]
    assert get("/lost") == {"message": 'The service answered 404: {"error": "no such camera"}', "status": 404}
    assert get("/broken") == {"message": "The service answered 500: <h1>Oops</h1>", "status": 500}
    assert get("/frame") == {"message": "image/jpeg, 4,000 bytes"}
    assert "more than the 4,194,304 bytes" in get("/huge")["message"]
    assert "Connection refused" in generate_request("read", "http://127.0.0.1:1/", "get")["message"]
    json.dumps([get(path) for path in ("/text", "/frame", "/lost")])

def test_lessons_for_the_model(echo):
    assert "missing" in call(echo, {}, "/t/{id}")["message"]
    assert "there are: limit" in call(echo, query({"name": "limit"}), query={"limti": 3})["message"]
    for odd in ({"path": "x"}, {"query": "x"}, {"body": object()}, {"header": 3}): assert "message" in call(echo, {"requestBody": body({})["requestBody"]}, method="post", **odd)

def test_arguments_beside_their_group(echo):
    assert call(echo, query({"name": "limit"}), "/t/{id}", limit=3, id="x")["asked"] == "GET /t/x?limit=3"
    thing = {"$ref": "#/components/schemas/T"}
    def post(**arguments): return call(echo, body(thing), "/t/{id}", "post", {"schemas": {"T": {"allOf": [{"properties": {"a": {"type": "integer"}, "id": {}}}], "properties": {"b": {}}}}}, **arguments)
    assert json.loads(post(id="x", a="1", b="y")["body"]) == json.loads(post(id="x", a="1", body={"b": "y"})["body"]) == {"a": 1, "b": "y"}

@pytest.mark.parametrize("arguments, told", [
    (dict(querry={"limit": 3}), "there is no argument 'querry'; there are path: id; query: limit, id"), (dict(path={"id": 1}, c=1, querry=2), "'c', 'querry'"),
    (dict(id=1), "'id' could be in path or query"), (dict(path={"id": 1}, body={"a": 1}), "there is no body"),
], ids=str)
def test_arguments_that_nobody_knows_are_refused(echo, arguments, told):
    got = call(echo, query({"name": "limit"}, {"name": "id"}), "/t/{id}", **arguments)
    assert all(part in got["message"] for part in told.split("; ")) and echo.requests == []

def test_a_model_reaches_only_the_service_that_a_person_added(echo):
    with gate(ToolPolicy()):
        assert "not on the public internet" in call(echo, {})["message"]  # added by a model
        assert call_trusted(echo, {}, "get")["asked"] == "GET /t"
        assert "another host" in generate_request("out", f"{echo.url}/out", "get", trusted=True)["message"]
    assert len(echo.requests) == 2

def test_a_model_cannot_claim_what_is_the_hosts(echo):
    "An argument that no parameter is named after never wins over metadata, or reaches the request at all."
    with gate(ToolPolicy()): tools = api_schema(echo.url, document({"/t": {"get": {}}}))
    evil = {"trusted": True, "url": f"{echo.url}/evil", "method": "delete", "accepted_queries": ["x"], "request": {"security": [["query", "k"]]}, "service": "mine"}
    call = {"id": "1", "type": "function", "function": {"name": tools[0].name, "arguments": json.dumps(evil)}}
    assert "not on the public internet" in fn_exec(call, tools, policy=ToolPolicy())["message"] and echo.requests == []

def test_credentials_are_for_the_host_only_and_never_shown(echo, monkeypatch):
    components = {"securitySchemes": {"key": {"type": "apiKey", "in": "query", "name": "api_key"}, "bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}}}
    operation = {"parameters": [{"name": "api_key", "in": "query", "schema": {}}, {"name": "limit", "in": "query", "schema": {}}]}
    monkeypatch.setenv("LLMCAM_API_KEYS", "other.example=wrong 127.0.0.1=canary")
    for scheme, place in (("key", "?api_key=canary"), ("bearer", "Bearer canary"), ("basic", "Basic Y2FuYXJ5")):
        tool, = api_schema(echo.url, document({"/t": {"get": {**operation, "security": [{scheme: []}]}}}, components))
        assert "api_key" not in json.dumps(public_tool(tool)) and "canary" not in json.dumps(tool)
        generate_request(tool.name, **tool["function"]["metadata"])
        assert place in echo.requests[-1].target + str(echo.requests[-1].headers.get("Authorization"))
    use_credentials("127.0.0.1", lambda: "fresh")
    try: generate_request(tool.name, **tool["function"]["metadata"]); assert "Basic ZnJlc2g=" == echo.requests[-1].headers["Authorization"]
    finally: use_credentials("127.0.0.1", None)
    failed = generate_request("t", **{**tool["function"]["metadata"], "url": "http://127.0.0.1:1/t", "request": {"security": [["query", "api_key"]]}})
    assert "canary" not in json.dumps(failed)


# Classes

class State(Enum):
    on, off = "on", "off"

@dataclass
class Place:
    name: str  # What people call it
    parent: Optional["Place"] = None

@dataclass
class RoadCamera:
    "A camera beside a road."
    uri: str                    # Where its picture comes from
    place: Place                # Where it stands
    id: int = 0
    state: State = State.on
    seen: datetime | None = None
    tags: list[str] = field(default_factory=list)
    kinds: ClassVar[int] = 3

class Model(BaseModel):
    name: str
    parts: list[Place] = []

class Options(TypedDict, total=False):
    night: bool

class Spot(NamedTuple):
    x: int
    y: int = 0

class Annotated_:
    name: str
    size: float = 1.0
    _secret: str = ""

class WithInit:
    def __init__(self, name: str,  # What it is called
                 size: "float" = 1.0, *args, **kwargs): pass

@dataclass
class Leaf: on: Optional["Branch"] = None

@dataclass
class Branch:
    "Part of a tree."
    name: str  # What it is called
    leaves: list[Leaf] = field(default_factory=list)
    below: list["Branch"] = field(default_factory=list)

@pytest.mark.parametrize("cls, required", [(RoadCamera, ["uri", "place"]), (Branch, ["name"]), (Model, ["name"]), (Options, []), (Spot, ["x"]), (Annotated_, ["name"]), (WithInit, ["name"])])
def test_classes(cls, required):
    oas = class_to_oas(cls)
    schema = oas["components"]["schemas"][cls.__name__]
    assert oas["openapi"] == "3.1.0" and schema.get("required", []) == required and json.loads(json.dumps(oas)) == oas
    for found in oas["components"]["schemas"].values(): Draft202012Validator.check_schema(found)
    tools = api_schema("http://h", oas)
    check(tools)
    assert [tool.name.split("_")[0] for tool in tools] == ["list", "create", "read", "update", "delete"]
    assert [tool["function"]["metadata"]["method"] for tool in tools] == ["get", "post", "get", "put", "delete"]
    assert class_to_oas(cls) == oas

def test_class_details():
    oas = class_to_oas(RoadCamera)
    props = oas["components"]["schemas"]["RoadCamera"]["properties"]
    assert set(oas["paths"]) == {"/road_cameras", "/road_cameras/{id}"} and oas["paths"]["/road_cameras/{id}"]["parameters"][0]["schema"] == {"type": "integer"}
    assert props["uri"]["description"] == "Where its picture comes from" and props["state"]["default"] == "on" and "kinds" not in props
    assert set(oas["components"]["schemas"]) == {"RoadCamera", "Place"} and "$defs" not in json.dumps(oas)
    assert class_to_oas(WithInit)["components"]["schemas"]["WithInit"]["properties"]["name"]["description"] == "What it is called"
    assert class_to_oas(Spot)["components"]["schemas"]["Spot"]["properties"]["id"]["readOnly"] is True

def test_a_class_that_refers_to_itself_keeps_its_comments():
    schemas = class_to_oas(Branch)["components"]["schemas"]
    assert list(schemas) == ["Branch", "Leaf"] and list(schemas["Branch"]["properties"]) == ["id", "name", "leaves", "below"]
    assert schemas["Branch"]["properties"]["name"]["description"] == "What it is called"
    assert schemas["Branch"]["properties"]["below"] == {"type": "array", "items": {"$ref": "#/components/schemas/Branch"}, "default": []}
    assert schemas["Branch"]["description"] == "Part of a tree." and schemas["Leaf"]["properties"]["on"]["anyOf"][0]["$ref"].endswith("/Branch")

@pytest.mark.parametrize("cls", [State, object, type("Empty", (), {}), "x", int, list[int]], ids=str)
def test_classes_without_fields(cls):
    with pytest.raises(SchemaError): class_to_oas(cls)

def test_a_field_that_json_cannot_hold_is_named():
    @dataclass
    class Lens: made_by: type(json)
    with pytest.raises(SchemaError, match="'made_by'"): class_to_oas(Lens)

def test_a_class_served(monkeypatch):
    "The document describes a service that works: create, list, read, update and delete through the tools."
    kept = {}
    def serve(r):
        key = r.path.removeprefix("/places").strip("/")
        if r.method == "POST": kept["0"] = {"id": "0", **r.json()}; return 201, {}, kept["0"]
        if not key: return list(kept.values())
        if key not in kept: return 404, {}, b"no such place"
        if r.method == "PUT": kept[key] = {"id": key, **r.json()}
        return (204, {}, b"") if r.method == "DELETE" and kept.pop(key) else kept[key]
    with LocalServer({"*": serve}) as server:
        tools = {tool.name: tool["function"]["metadata"] for tool in api_schema(server.url, class_to_oas(Place))}
        def use(name, **arguments): return generate_request(name, **tools[name], **arguments)
        assert use("create_place", body={"name": "gate"}) == {"id": "0", "name": "gate"} and use("list_places", query={"limit": 5}) == [{"id": "0", "name": "gate"}]
        assert use("update_place", path={"id": "0"}, body={"name": "door"})["name"] == "door" and use("read_place", path={"id": 0})["name"] == "door"
        assert "204" in use("delete_place", path={"id": "0"})["message"] and use("read_place", path={"id": "0"})["status"] == 404


# Arguments are checked before anything is sent

@pytest.fixture
def shop(echo):
    "A tool with a bit of everything, at a server that counts."
    operation = {"operationId": "order", "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 50}}, {"name": "tags", "in": "query", "explode": False, "schema": {"type": "array", "items": {"type": "string"}}},
                                                        {"name": "state", "in": "query", "schema": {"type": "string", "enum": ["open", "closed"]}}, {"name": "X-Trace", "in": "header", "schema": {"type": "string"}}],
                 **body({"$ref": "#/components/schemas/Order"}, required=True)}
    order = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "number"}, "paid": {"type": "boolean"}, "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Order"}}, "note": {"type": "string"}}}
    tool, = api_schema(echo.url, document({"/t/{id}": {"post": {**operation, "parameters": [*operation["parameters"], {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}]}}}, {"schemas": {"Order": order}}))
    check([tool])
    return lambda **arguments: generate_request(tool.name, **{**tool["function"]["metadata"], "request": {**tool["function"]["metadata"]["request"]}}, **arguments)

@pytest.mark.parametrize("sent, asked, arrived", [
    (dict(path={"id": "7"}, query={"limit": "5", "tags": "a", "state": "OPEN"}, body={"amount": "2.5", "paid": "true"}), "POST /t/7?limit=5&tags=a&state=open", {"amount": 2.5, "paid": True}),
    (dict(path='{"id": 7}', query='{"limit": 5}', body='{"amount": 1}'), "POST /t/7?limit=5", {"amount": 1}),
    (dict(path={"id": 7.0}, query={"limit": None}, body={"amount": 1, "note": None}), "POST /t/7", {"amount": 1}),
    (dict(path={"id": 7}, query={"tags": ["a", 3]}, body={"amount": 1, "parts": [{"amount": "2", "parts": {"amount": 3}}]}), "POST /t/7?tags=a,3", {"amount": 1, "parts": [{"amount": 2, "parts": [{"amount": 3}]}]}),
    (dict(id=7, limit=5, body={"amount": 1}), "POST /t/7?limit=5", {"amount": 1}), (dict(path={"id": 7}, query={"tags": "a, b"}, body={"amount": 1, "note": 5}), None, {"amount": 1, "note": "5"}),
], ids=str)
def test_small_slips_are_put_right(shop, sent, asked, arrived):
    got = shop(**copy.deepcopy(sent))
    assert json.loads(got["body"]) == arrived and (asked is None or got["asked"].replace("%2C", ",") == asked)

@pytest.mark.parametrize("sent, told", [
    (dict(path={"id": "seven"}, body={"amount": 1}), "path.id: \"seven\" does not fit; expected"), (dict(path={"id": 7}, query={"limit": 51}, body={"amount": 1}), "query.limit: 51"), (dict(path={"id": 7}, query={"state": "ajar"}, body={"amount": 1}), '["open", "closed"]'),
    (dict(path={"id": 7}, body={"paid": True}), "body: 'amount' is missing"), (dict(path={"id": 7}), "'amount' is missing"), (dict(body={"amount": 1}), "path: 'id' is missing"), (dict(path={"id": 7}, body={"amount": 1, "parts": [{"amount": "x"}]}), "body.parts.0.amount"),
    (dict(path={"id": 7}, query=[1], body={"amount": 1}), "query must be an object"), (dict(path={"id": 7}, query="limit=5", body={"amount": 1}), "query must be an object"), (dict(path={"id": 7}, header={"Authorization": "x"}, body={"amount": 1}), "there is no header parameter 'Authorization'; there are: X-Trace"),
    (dict(path={"id": 7}, body={"amount": 1}, amuont=2), "there is no argument 'amuont'; there are"), (dict(path={"id": 7, "file": "x"}, body={"amount": 1}), "there is no path parameter 'file'"), (dict(path={"id": 7}, body=[1]), "body"),
], ids=str)
def test_what_does_not_fit_is_not_sent(shop, echo, sent, told):
    got = shop(**sent)
    assert told in got["message"] and "order could not be called" in got["message"] and echo.requests == []

def test_schemas_of_strangers_cannot_keep_us_busy(echo):
    "A pattern that backtracks, references that double, a schema that is itself: answered at once."
    double = {f"A{n}": {"anyOf": [{"$ref": f"#/components/schemas/A{n + 1}"}, {"$ref": f"#/components/schemas/A{n + 1}"}]} for n in range(40)} | {"A40": {"type": "integer"}}
    self_ = {"B": {"allOf": [{"$ref": "#/components/schemas/B"}]}}
    for schema in ({"type": "string", "pattern": "^(a+)+$"}, {"$ref": "#/components/schemas/A0"}, {"$ref": "#/components/schemas/B"}, {"type": "object", "patternProperties": {"(a+)+$": False}, "additionalProperties": {"type": "string"}}):
        started = time.perf_counter()
        value = {"a" * 40 + "!": "x"} if schema.get("type") == "object" else "a" * 40 + "!"
        assert json.loads(call(echo, body(schema), method="post", components={"schemas": {**double, **self_}}, body=value)["body"]) == value
        assert time.perf_counter() - started < 2

def test_weak_the_pattern_really_keeps_a_processor_busy():
    started = time.perf_counter()
    re.search("^(a+)+$", "a" * 22 + "!")
    assert time.perf_counter() - started > 0.05

def test_metadata_is_no_argument(echo):
    "A parameter that happens to be called as something that the host keeps."
    assert call(echo, query({"name": "service"}, {"name": "level"}, {"name": "tags"}))["asked"] == "GET /t"
    assert call(echo, query({"name": "service"}), query={"service": "x"})["asked"] == "GET /t?service=x"


# Documents of strangers, in time

def within(seconds, work):
    started = time.perf_counter()
    found = work()
    assert time.perf_counter() - started < seconds
    return found

def test_300_mutated_texts(tmp_path):
    "Broken on the way to us: cut, doubled, bytes turned over, in JSON and in YAML."
    import yaml
    rng, outcomes, path = random.Random(3), set(), tmp_path / "doc"
    good = document({"/t/{id}": {"get": query({"name": "q", "schema": {"$ref": "#/components/schemas/T"}}), "post": body({"$ref": "#/components/schemas/T"})}}, {"schemas": {"T": {"type": "object", "properties": {"t": {"$ref": "#/components/schemas/T"}}}}})
    for n in range(300):
        raw = bytearray((json.dumps(good) if n % 2 else yaml.safe_dump(good)).encode())
        for _ in range(rng.randint(1, 4)):
            k, what = rng.randrange(len(raw)), rng.randrange(5)
            if what == 0: raw[k] = rng.randrange(256)
            elif what == 1: del raw[k:k + rng.randrange(1, 20)]
            elif what == 2: raw[k:k] = raw[k // 2:k]
            elif what == 3: raw[k:k] = rng.choice([b"{", b"[", b"NaN", b"*a", b"&a ", b"\x00", b"\xff", b"1e999", b"!!python/object:os.system ", b"<<: ", b"\n", b"9" * 5000])
            else: del raw[k:]
            raw = raw or bytearray(b"{")
        path.write_bytes(raw)
        def work():
            try: tools = api_schema("http://h", load_oas(path)); check(tools); json.dumps(tools, allow_nan=False); return "tools"
            except SpecError as e: assert str(e); return "refused"
        outcomes.add(within(1, work))
    assert outcomes == {"tools", "refused"}

def test_documents_that_are_too_much(tmp_path):
    def shared(levels, width):
        node = {"type": "string"}
        for _ in range(levels): node = {"type": "object", "properties": {f"p{k}": node for k in range(width)}}
        return node
    looped = {"type": "object"}; looped["properties"] = {"me": looped}
    huge = {"type": "string", "enum": [f"v{n}" for n in range(100_000)]}
    chain = {f"C{n}": {"type": "object", "properties": {"next": {"$ref": f"#/components/schemas/C{n + 1}"}}} for n in range(3000)} | {"C3000": {"type": "string"}}
    for schema, told in ((shared(40, 2), "all that repeats"), (looped, "nested too deeply"), (shared(110, 1), "nested too deeply")):
        with pytest.raises(SpecError, match=told): within(5, lambda: api_schema("http://h", document({"/t": {"post": body(schema)}})))
    assert len(within(1, lambda: api_schema("http://h", document({"/t": {"post": body(huge)}})))) == 1
    tool, = within(2, lambda: api_schema("http://h", document({"/t": {"post": body({"$ref": "#/components/schemas/C0"})}}, {"schemas": chain})))
    assert len(tool["function"]["parameters"]["$defs"]) == 3001

def test_documents_that_multiply():
    refs = {f"A{n}": {"$ref": f"#/components/schemas/A{n + 1}"} for n in range(1000)} | {"A1000": {"type": "string"}}
    objects = {f"A{n}": {"type": "object", "properties": {"n": {"$ref": f"#/components/schemas/A{n + 1}"}}} for n in range(4000)} | {"A4000": {"type": "string"}}
    wanted = lambda n: {"$ref": f"#/components/schemas/A{n}"}
    doubling = {f"v{n}": {"default": f"{{v{n + 1}}}{{v{n + 1}}}"} for n in range(40)}
    for paths, schemas, servers, told in (({"/a": {"post": body({"type": "object", "properties": {f"p{n}": wanted(n) for n in range(1000)}})}}, refs, None, "references"),
                                          ({f"/a{n}": {"get": query({"name": "n", "schema": wanted(n)})} for n in range(0, 4000, 3)}, objects, None, "definitions"),
                                          ({}, {}, [{"url": "http://" + "{a}" * 1000, "variables": {"a": {"default": "x" * 1000}}}], "characters")):
        with pytest.raises(SpecError, match=told): within(2, lambda: api_schema("http://h", document(paths, {"schemas": schemas}, **({"servers": servers} if servers else {}))))
    tool, = within(1, lambda: api_schema(None, document({"/a": {"get": {"summary": "x" + " " * 40_000 + "y\nz"}}}, servers=[{"url": "http://{v0}", "variables": doubling}])))
    assert tool["function"]["metadata"]["url"] == "http://{v1}{v1}/a"

def test_values_that_json_cannot_say_are_left_out():
    nan, inf = float("nan"), float("inf")
    function = one(query({"name": "q", "schema": {"type": "number", "default": nan, "maximum": inf, "enum": [1.5, nan], "const": {"a": [inf]}}}))
    assert function["parameters"]["properties"]["query"]["properties"]["q"] == {"type": "number"}

def test_more_yaml(tmp_path):
    path = tmp_path / "t.yaml"
    def read(text): path.write_text(text); return load_oas(path)
    assert read("a: [=, <, 12:30:45, 1_000, 0x1F, 1.5, -3, 1e3, 2026-11-23, yes, ~, '5']\nb: &x {c: 1}\nd: {<<: *x, e: 2}") == {
        "a": ["=", "<", "12:30:45", "1_000", "0x1F", 1.5, -3, 1000.0, "2026-11-23", "yes", None, "5"], "b": {"c": 1}, "d": {"c": 1, "e": 2}}
    merged = "a0: &a0 {" + ", ".join(f"k{n}: {n}" for n in range(10)) + "}\n" + "\n".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 9))
    with pytest.raises(SpecError, match="members"): within(1, lambda: read(merged))

def test_a_kept_copy_that_is_broken_is_fetched_again(tmp_path):
    kept = tmp_path / "kept.json"
    with LocalServer({"/a": document()}) as server:
        for broken in ("", "{", "[1]", '{"openapi": "3.1.0", "paths": {'):
            kept.write_text(broken)
            assert load_oas(f"{server.url}/a", kept) == document() == json.loads(kept.read_text())
        kept.write_bytes(b"\xff\xfe\x00")
        assert load_oas(f"{server.url}/a", kept) == document() and len(server.requests) == 5

def test_the_document_is_not_shared_with_the_tools(shared_data):
    oas = load_oas(shared_data / "openapi" / "petstore3.json")
    before = copy.deepcopy(oas)
    def spoil(node):
        for value in list(node.values() if isinstance(node, dict) else node):
            if isinstance(value, (dict, list)): spoil(value)
        node.clear()
    for tool in copy.deepcopy(api_schema("http://h", oas)): spoil(tool)
    for tool in api_schema("http://h", oas):
        tool["function"]["parameters"].pop("$defs", None)
        spoil(tool)
    assert oas == before

def test_no_change_of_a_tool_changes_another():
    node = {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/N"}, "kind": {"enum": ["a", "b"]}}, "required": ["kind"]}
    one, other = api_schema("http://h", document({"/a": {"post": body({"$ref": "#/components/schemas/N"})}, "/b": {"post": body({"$ref": "#/components/schemas/N"})}}, {"schemas": {"N": node}}))
    before, shared = json.dumps(other), one["function"]["parameters"]["$defs"]["N"]
    assert shared is other["function"]["parameters"]["$defs"]["N"] and shared == node | {"properties": {**node["properties"], "next": {"$ref": "#/$defs/N"}}}
    changes = [lambda d, l: d.update(x=1), lambda d, l: d.__setitem__("x", 1), lambda d, l: d.pop("type"), lambda d, l: d.popitem(), lambda d, l: d.setdefault("x", 1), lambda d, l: d.clear(),
               lambda d, l: d.__delitem__("type"), lambda d, l: d.__ior__({"x": 1}), lambda d, l: d["properties"]["kind"].clear(), lambda d, l: l.append(1), lambda d, l: l.extend([1]), lambda d, l: l.insert(0, 1),
               lambda d, l: l.remove("a"), lambda d, l: l.pop(), lambda d, l: l.clear(), lambda d, l: l.sort(), lambda d, l: l.reverse(), lambda d, l: l.__setitem__(0, 1), lambda d, l: l.__delitem__(0),
               lambda d, l: l.__iadd__([1]), lambda d, l: l.__imul__(2)]
    for change in changes:
        with pytest.raises(TypeError, match="deepcopy"): change(shared, shared["properties"]["kind"]["enum"])
        plain = copy.deepcopy(shared)
        change(plain, plain["properties"]["kind"]["enum"])  # the same on a copy works
    for again in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), json.loads(json.dumps(one))):
        assert again == one and type(again["function"]["parameters"]["$defs"]["N"]["properties"]) is dict
        again["function"]["parameters"]["$defs"]["N"]["properties"]["kind"]["enum"].append("c")
    assert type(copy.copy(shared)) is dict and type(shared | {}) is dict
    one["function"]["parameters"]["$defs"]["M"] = one["function"]["parameters"]["$defs"].pop("N")
    one["function"]["parameters"]["properties"]["body"].clear()
    assert json.dumps(other) == before

def test_where_the_service_is():
    get = {"get": {}}
    url = lambda *args: [tool["function"]["metadata"]["url"] for tool in api_schema(*args)]
    elsewhere = {"get": {"servers": [{"url": "https://two.example/v2"}]}, "put": {}, "servers": [{"url": "https://three.example"}]}
    assert url(None, document({"/t": get}, servers=[{"url": "https://one.example/v1/"}])) == ["https://one.example/v1/t"]
    assert url(None, document({"/t": elsewhere}, servers=[{"url": "https://one.example"}])) == url(None, document({"/t": elsewhere})) == ["https://two.example/v2/t", "https://three.example/t"]
    assert url("https://mine.example", document({"/t": elsewhere})) == ["https://mine.example/t"] * 2
    for servers in ({}, {"servers": []}, {"servers": [{"url": "/v1"}]}, {"servers": [{"url": "ftp://one.example"}]}, {"servers": 3}):
        with pytest.raises(SpecError, match="#/paths/~1t/get: nothing in the document says where the service is. Pass base_url"): api_schema(None, document({"/t": get}, **servers))
        with pytest.raises(SpecError, match="base_url"): api_schema("", document({"/t": get}, **servers))
    for base in ("one.example", "/v1", "file:///etc", "localhost:8000"):
        with pytest.raises(SpecError, match="starts with http"): api_schema(base, document({"/t": get}))
    assert api_schema(None, document()) == []

def test_what_is_beside_a_reference():
    props = {"a": {"$ref": "#/components/schemas/T", "description": "Which", "nullable": True}, "b": {"$ref": "#/components/schemas/T", "default": "x"}}
    got = one(body({"type": "object", "properties": props}), method="post", components={"schemas": {"T": {"type": "string"}}})["parameters"]["properties"]["body"]["properties"]
    assert got == {"a": {"anyOf": [{"$ref": "#/$defs/T", "description": "Which"}, {"type": "null"}]}, "b": {"$ref": "#/$defs/T", "default": "x"}}

def test_levels_as_the_gate_knows_them():
    tools = api_schema("http://h", document({"/t": {method: {} for method in METHODS}}))
    assert {tool["function"]["metadata"]["method"]: tool["function"]["metadata"]["level"] for tool in tools} == {**dict.fromkeys(METHODS, "write"), "get": "network", "head": "network"}
    assert all(tool["function"]["metadata"]["untrusted"] for tool in tools)


# Secrets

@pytest.mark.parametrize("scheme", [{"type": "apiKey", "in": "query", "name": "key"}, {"type": "apiKey", "in": "header", "name": "X-Key"}, {"type": "apiKey", "in": "cookie", "name": "k"}, {"type": "http", "scheme": "bearer"}, {"type": "http", "scheme": "basic"}], ids=str)
def test_a_service_that_repeats_the_secret(scheme):
    secret = "anna:canary/+ä 7" if scheme.get("scheme") == "basic" else "canary/+ 7"
    def echo_all(r): return (400 if "bad" in r.path else 200, {"Content-Type": "text/plain"}, f"{r.target}\n{r.headers}".encode())
    def echo_json(r): return {"asked": r.target, "headers": dict(r.headers), "again": [r.headers.get("Authorization"), r.query]}
    with LocalServer({"/bad": echo_all, "/text": echo_all, "/json": echo_json, "/away": lambda r: (302, {"Location": f"http://localhost:1/?{r.target}"}, b""), "/broken": lambda r: (302, {"Location": "http://["}, b"")}) as server:
        use_credentials("127.0.0.1", secret)
        try:
            for tool in api_schema(server.url, document({path: {"get": {"security": [{"s": []}]}} for path in ("/bad", "/text", "/json", "/away", "/broken")}, {"securitySchemes": {"s": scheme}})):
                said = json.dumps(generate_request(tool.name, **tool["function"]["metadata"]), ensure_ascii=False)
                assert "canary" not in said and "Y2FuYXJ5" not in said
        finally: use_credentials("127.0.0.1", None)
        assert len(server.requests) == 5

def test_credentials_from_everywhere(echo):
    tool, = api_schema(echo.url, document({"/t": {"get": {"security": [{"s": []}]}}}, {"securitySchemes": {"s": {"type": "http", "scheme": "bearer"}}}))
    class Expired(Exception): pass
    def fails(): raise Expired("canary has expired")
    try:
        for secret in ("canary\n", lambda: b"canary", lambda: " canary "):
            use_credentials("127.0.0.1", secret)
            generate_request(tool.name, **tool["function"]["metadata"])
            assert echo.requests[-1].headers["Authorization"] == "Bearer canary"
        use_credentials("127.0.0.1", fails)
        said = generate_request(tool.name, **tool["function"]["metadata"])["message"]
        assert "Expired" in said and "canary" not in said and len(echo.requests) == 3
    finally: use_credentials("127.0.0.1", None)

def test_credentials_stay_with_their_host():
    with LocalServer({"*": b"other"}) as other, LocalServer({"/t": lambda r: (302, {"Location": f"http://localhost:{other.port}/?x"}, b"")}) as home:
        use_credentials("127.0.0.1", "canary")
        try:
            tool, = api_schema(home.url, document({"/t": {"get": {"security": [{"s": []}]}}}, {"securitySchemes": {"s": {"type": "http", "scheme": "bearer"}}}))
            assert "another host" in generate_request(tool.name, **tool["function"]["metadata"])["message"]
        finally: use_credentials("127.0.0.1", None)
        assert home.requests[0].headers["Authorization"] == "Bearer canary" and other.requests == []


# What stands beside a reference, alternatives, parts, and records that say too little

def test_words_beside_a_reference_count_from_3_1_on():
    node = {"type": "object", "properties": {"n": {"$ref": "#/components/schemas/N", "minLength": 2, "description": "Name", "nullable": True}}}
    def schema(version): return one({"requestBody": {"content": {"application/json": {"schema": node}}}}, method="post", version=version, components={"schemas": {"N": {"type": "string"}}})["parameters"]["properties"]["body"]["properties"]["n"]["anyOf"][0]
    assert schema("3.1.0") == {"$ref": "#/$defs/N", "minLength": 2, "description": "Name"} and schema("3.0.3") == {"$ref": "#/$defs/N", "description": "Name"}

@pytest.fixture
def pets():
    "An operation that takes a cat or a dog."
    def kind(**properties): return {"type": "object", "properties": {"kind": {"type": "string"}, **properties}}
    either = {"discriminator": {"propertyName": "kind", "mapping": {"cat": "#/components/schemas/Cat", "hound": "Dog", "dog": "Dog"}}, "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": either}}}}, {"schemas": {"Cat": kind(indoors={"type": "boolean"}), "Dog": kind(weight={"type": "integer"})}}

def test_a_discriminator_tells_the_alternatives_apart(pets, echo):
    operation, components = pets
    choices = one(operation, method="post", components=components)["parameters"]["properties"]["body"]["oneOf"]
    assert [choice["properties"]["kind"]["enum"] for choice in choices] == [["cat"], ["hound", "dog"]]
    assert "message" not in call(echo, operation, method="post", components=components, body={"kind": "dog", "weight": 3})
    assert "does not fit" in call(echo, operation, method="post", components=components, body={"kind": "dog", "weight": "heavy"})["message"]
    assert "does not fit" in call(echo, operation, method="post", components=components, body={"kind": "cow"})["message"]

def test_what_fits_two_alternatives_is_for_the_service_to_judge(echo):
    operation = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}}}
    assert "message" not in call(echo, operation, method="post", body=3) and json.loads(echo.requests[0].body) == 3

def test_lists_in_multipart_bodies_are_several_parts(echo, own_data):
    own_data.mkdir()
    for name in ("a.jpg", "b.jpg"): (own_data / name).write_bytes(name.encode())
    schema = {"type": "object", "properties": {"pictures": {"type": "array", "items": {"type": "string", "format": "binary"}}, "tags": {"type": "array", "items": {"type": "string"}}, "about": {"type": "object"}}}
    operation = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
    with gate(ToolPolicy(trusted=("127.0.0.1",), allow=("network", "write"))):
        call(echo, operation, method="post", body={"pictures": ["a.jpg", "b.jpg"], "tags": ["x", "y"], "about": {"n": 1}})
    body = echo.requests[0].body
    assert body.count(b'name="pictures"; filename=') == 2 and body.count(b'name="tags"') == 2 and b'application/json\r\n\r\n{"n": 1}' in body

def test_headers_by_style(echo):
    operation = {"parameters": [{"name": "X-Point", "in": "header", "schema": {"type": "object"}}, {"name": "X-Open", "in": "header", "explode": True, "schema": {"type": "object"}}, {"name": "X-Name", "in": "header", "schema": {"type": "string"}}]}
    call(echo, operation, header={"X-Point": {"x": 1, "y": 2}, "X-Open": {"x": 1, "y": 2}, "X-Name": "Töölö"})
    assert [echo.requests[0].headers[name] for name in ("X-Point", "X-Open", "X-Name")] == ["x,1,y,2", "x=1,y=2", "T%C3%B6%C3%B6l%C3%B6"]

def test_a_record_that_says_too_little_is_refused(echo):
    "A record out of a store with a level below its method: nobody was asked, so nothing is sent."
    kill, = api_schema(echo.url, document({"/all": {"delete": {"operationId": "kill"}}}))
    asked = {"id": "1", "type": "function", "function": {"name": "kill", "arguments": "{}"}}
    policy = ToolPolicy(trusted=("127.0.0.1",), approve=lambda call: True)
    for level in ("network", "read", None, ["write"], "all"):
        kill["function"]["metadata"]["level"] = level
        stored = json.loads(json.dumps(kill))
        said = fn_exec(asked, [stored], ToolPolicy(trusted=("127.0.0.1",), allow=("read", "network"), ask=("exec",)))
        assert "message" in said or "error" in said
        assert not echo.requests
    kill["function"]["metadata"]["level"] = "write"
    assert "message" not in fn_exec(asked, [json.loads(json.dumps(kill))], policy) and len(echo.requests) == 1


def test_files_behind_references_and_in_parts():
    parts = {"allOf": [{"type": "object", "properties": {"a": {"$ref": "#/components/schemas/File"}, "note": {"type": "string"}}}, {"$ref": "#/components/schemas/More"}],
             "properties": {"c": {"type": "array", "items": {"$ref": "#/components/schemas/File"}}, "d": {"type": "string"}, "e": True}}
    more = {"properties": {"b": {"type": "string", "format": "binary"}}, "allOf": [{"$ref": "#/components/schemas/More"}] * 9}  # in circles
    function = one(body(parts, "multipart/form-data"), method="post", components={"schemas": {"File": {"type": "string", "format": "binary"}, "More": more}})
    assert sorted(function["metadata"]["request"]["files"]) == ["a", "b", "c"]
