"Functions as tools: every kind of signature gets a right schema, and what a model sends becomes what the signature asks for."
import copy, functools, gc, inspect, json, pickle, random, subprocess, sys, weakref
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, Final, Generic, List, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union
from uuid import UUID

import pytest
import typing_extensions
from jsonschema import Draft202012Validator, ValidationError
from pydantic import BaseModel, Field

from llmcam.core import fn_to_schema
from llmcam.core.fn_to_schema import (ArgumentError, Hidden, SchemaError, Tool, bind_arguments, extract_parameter_comments, function_schema,
                                      param_converter, public_tool)


class Mode(Enum):
    fast, careful = "fast", "careful"

class Level(IntEnum):
    low, high = 1, 2

class Box(BaseModel):
    x: int = Field(ge=0, description="Left edge")
    title: str = "none"

@dataclass
class Zone:
    name: str
    boxes: list[Box] = field(default_factory=list)

@dataclass
class Node:
    value: int
    children: list["Node"] = field(default_factory=list)

class OldOptions(TypedDict, total=False):
    night: bool

class NewOptions(typing_extensions.TypedDict):
    night: bool
    zoom: typing_extensions.NotRequired[float]

class MixedOptions(TypedDict):
    night: bool
    zoom: typing_extensions.NotRequired[float]

class Point(NamedTuple):
    x: int
    y: int = 0

@dataclass
class Road:
    "A road, by its number."
    number: int                      # As on the signs
    options: OldOptions              # How to look at it
    names: list[str] = field(
        default_factory=list)        # What people call it

class Tree(TypedDict):
    value: int
    children: "list[Tree]"

class Shade(Enum): light, dark = (255, 255), (0, 0)

class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9

class Dog(BaseModel): kind: Literal["dog"]

T = TypeVar("T")
class Page(BaseModel, Generic[T]): items: list[T]

UserId = NewType("UserId", int)

S, I, N, B, NULL = ({"type": kind} for kind in ("string", "integer", "number", "boolean", "null"))

def nullable(schema): return {"anyOf": [schema, NULL]}

TYPES = [
    (str, S), (int, I), (float, N), (bool, B), (Any, {}), (list, {"type": "array", "items": {}}), (dict, {"type": "object", "additionalProperties": True}),
    (list[str], {"type": "array", "items": S}), (List[int], {"type": "array", "items": I}), (dict[str, float], {"type": "object", "additionalProperties": N}),
    (List, {"type": "array", "items": {}}), (Dict, {"type": "object", "additionalProperties": True}), (Optional[List], nullable({"type": "array", "items": {}})),
    (List[Dict], {"type": "array", "items": {"type": "object", "additionalProperties": True}}), (Dict[str, List], {"type": "object", "additionalProperties": {"type": "array", "items": {}}}),
    (Dict[str, List[int]], {"type": "object", "additionalProperties": {"type": "array", "items": I}}),
    (list[dict[str, list[float]]], {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "array", "items": N}}}),
    (Optional[int], nullable(I)), (int | None, nullable(I)), (Union[int, str], {"anyOf": [I, S]}), (int | str, {"anyOf": [I, S]}), (int | float, N),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}), (Literal[1, 2], {"type": "integer", "enum": [1, 2]}), (Literal["a", 1], {"enum": ["a", 1]}),
    (Literal["a", None], {"enum": ["a", None]}), (Mode, {"type": "string", "enum": ["fast", "careful"]}), (Level, {"type": "integer", "enum": [1, 2]}),
    (Path, {"type": "string", "format": "path"}), (datetime, {"type": "string", "format": "date-time"}), (date, {"type": "string", "format": "date"}),
    (UUID, {"type": "string", "format": "uuid"}), (set[str], {"type": "array", "items": S, "uniqueItems": True}),
    (tuple[int, str], {"type": "array", "prefixItems": [I, S], "minItems": 2, "maxItems": 2}), (tuple[int, ...], {"type": "array", "items": I}),
    (Annotated[int, Field(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}), (Annotated[int, "Just a note"], I),
    (Sequence[int], {"type": "array", "items": I}), (Iterable[int], {"type": "array", "items": I}), (typing.Iterable, {"type": "array", "items": {}}), (Mapping[str, int], {"type": "object", "additionalProperties": I}),
    (Iterator[int], {"type": "array", "items": I}), (frozenset[str], {"type": "array", "items": S, "uniqueItems": True}), (UserId, I), (T, {}), (Final[int], I), (timedelta, {"type": "string", "format": "duration"}),
    (time, {"type": "string", "format": "time"}), (bytes, {"type": "string", "format": "binary"}), (Shade, {"type": "string", "enum": ["light", "dark"]}), (list[Shade], {"type": "array", "items": {"type": "string", "enum": ["light", "dark"]}}),
    (Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)], {"type": "array", "items": {**I, "minimum": 1}, "minItems": 1}), (Optional[Literal["a", "b"]], nullable({"type": "string", "enum": ["a", "b"]})),
]


@pytest.mark.parametrize("tp, expected", TYPES, ids=[str(tp) for tp, _ in TYPES])
def test_type(tp, expected):
    schema = param_converter(tp, "What it is for")
    Draft202012Validator.check_schema(schema)
    assert schema == {**expected, "description": "What it is for"}


@pytest.mark.parametrize("tp, good, bad", [
    (Box, {"x": 1}, {"x": -1}), (Zone, {"name": "gate", "boxes": [{"x": 1}]}, {"name": "gate", "boxes": [{}]}), (list[Box], [{"x": 1}], [1]),
    (Node, {"value": 1, "children": [{"value": 2, "children": []}]}, {"value": 1, "children": [{}]}), (OldOptions, {}, {"night": "x"}),
    (NewOptions, {"night": True}, {"zoom": 1.0}), (MixedOptions, {"night": True}, {"zoom": 1.0}), (dict[str, Zone], {"a": {"name": "b"}}, {"a": {}}),
    (list[OldOptions], [{"night": True}], [{"night": "x"}]), (Annotated[OldOptions, "How"], {}, {"night": "x"}), (Optional[Road], {"number": 1, "options": {"night": True}}, {"number": 1, "options": {"night": "x"}}),
    (Tree, {"value": 1, "children": [{"value": 2, "children": []}]}, {"value": 1, "children": [{}]}), (Page[Box], {"items": [{"x": 1}]}, {"items": [1]}),
    (Annotated[Union[Cat, Dog], Field(discriminator="kind")], {"kind": "cat", "lives": 7}, {"kind": "cow"}), (dict[str, list[Zone]], {"a": [{"name": "b"}]}, {"a": [{}]}), (Union[Cat, Dog, None], {"kind": "dog"}, {"kind": "cow"}), (Optional[MixedOptions], None, {}), (Point, [1, 2], ["x", "y"]), (Decimal, 1.5, []),
])
def test_schema_of_objects_stands_in_the_tool(tp, good, bad):
    "References in the parameters lead to definitions at the root of the parameters."
    def tool(thing, other: str = "x"): pass
    tool.__annotations__["thing"] = tp
    schema = function_schema(tool)["function"]["parameters"]
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate({"thing": good})
    with pytest.raises(ValidationError): Draft202012Validator(schema).validate({"thing": bad})
    with pytest.raises(ArgumentError, match="thing"): bind_arguments(tool, {"thing": bad})
    assert bind_arguments(tool, {"thing": good})


def test_bare_typing_names_bind_like_plain_ones():
    def tool(many: List, named: Dict, maybe: Optional[List] = None): pass
    assert bind_arguments(tool, {"many": "[1]", "named": {"a": [1]}, "maybe": None}) == {"many": [1], "named": {"a": [1]}, "maybe": None}
    with pytest.raises(ArgumentError, match="named"): bind_arguments(tool, {"many": [], "named": 7})


def test_titles_go_and_a_property_called_title_stays():
    def draw(box: Box): pass
    schema = function_schema(draw)["function"]["parameters"]
    assert schema["$defs"]["Box"]["properties"] == {"x": {"type": "integer", "minimum": 0, "description": "Left edge"}, "title": {"type": "string", "default": "none"}}


def test_two_classes_of_one_name_do_not_mix():
    def make(kind):
        @dataclass
        class Thing: value: kind
        return Thing
    First, Second = make(int), make(str)
    def both(a: First, b: Second): pass
    schema = function_schema(both)["function"]["parameters"]
    Draft202012Validator(schema).validate({"a": {"value": 1}, "b": {"value": "x"}})
    with pytest.raises(ValidationError): Draft202012Validator(schema).validate({"a": {"value": "x"}, "b": {"value": "x"}})


class Socket: pass

@pytest.mark.parametrize("tp", [Socket, complex, typing.IO, slice, type[int], Exception, dict[str, complex], Callable[[int], int], type(json), list[Socket], Optional[Socket], dict[str, Socket], 3, type[int] | Socket,
                                Callable | None, Union[str, Callable[[], int]], list[Callable | int]],
                         ids=str)
def test_what_json_cannot_hold_is_refused_by_name(tp):
    def tool(good: int, odd=None): pass
    tool.__annotations__["odd"] = tp
    with pytest.raises(SchemaError, match="'odd'.*"): function_schema(tool)


@pytest.mark.parametrize("tp, value, expected", [(Iterable[int], ["1", 2], [1, 2]), (Shade, "dark", Shade.dark), (list[Shade], ["light"], [Shade.light]), (timedelta, "PT1H", timedelta(hours=1)),
    (frozenset[str], ["a", "a"], frozenset("a")), (tuple[int, ...], ["1"], (1,)), (UUID, "12345678-1234-5678-1234-567812345678", UUID("12345678-1234-5678-1234-567812345678")),
    (Literal[Mode.fast], "fast", Mode.fast), (Mode, "Careful", Mode.careful), (dict[str, list[int]], {"a": "[1]", "b": "2"}, {"a": [1], "b": [2]}), (Zone, {"name": "g", "boxes": '[{"x": 1}]'}, Zone("g", [Box(x=1)])),
    (Annotated[Union[Cat, Dog], Field(discriminator="kind")], {"kind": "dog"}, Dog(kind="dog")), (list[Road], [{"number": "1", "options": {}}], [Road(1, {})])], ids=str)
def test_values_become_what_the_hint_says(tp, value, expected):
    def tool(thing): pass
    tool.__annotations__["thing"] = tp
    assert bind_arguments(tool, {"thing": value})["thing"] == expected

def test_an_iterator_can_be_iterated():
    def tool(thing: Iterator[int]): return next(thing)
    assert tool(**bind_arguments(tool, {"thing": ["7"]})) == 7


# Signatures

def shape(func): return function_schema(func)["function"]["parameters"]

def test_defaults_and_required():
    def look(a, b: int, c: float = 0.25, d: Mode = Mode.fast, e: Path = Path("x.jpg"), f: Optional[str] = None, g: tuple = (1, 2),
             h: datetime = datetime(2026, 11, 23, tzinfo=timezone.utc), i: int = None, *, j: bool, k: object = object()): pass
    schema = shape(look)
    Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["a", "b", "j"]
    shown = {name: p["default"] for name, p in schema["properties"].items() if "default" in p}
    assert shown == {"c": 0.25, "d": "fast", "e": "x.jpg", "f": None, "g": [1, 2], "h": "2026-11-23T00:00:00Z", "i": None}
    assert schema["properties"]["i"]["anyOf"] == [I, NULL]  # `int = None` may be null, on every Python


def test_defaults_fit_their_own_schema():
    def look(a: int = 1, b: Mode = Mode.fast, c: tuple[int, int] = (1, 2), d: Optional[Box] = None, e: list[str] = ["x"], f: float = 1): pass
    schema = shape(look)
    Draft202012Validator(schema).validate({name: p["default"] for name, p in schema["properties"].items()})


def test_defaults_of_every_kind_are_shown():
    def look(zone: Zone = Zone("gate", [Box(x=1)]), shade: Shade = Shade.dark, age: timedelta = timedelta(hours=1), box: Box = Box(x=2), modes: tuple[Mode, ...] = (Mode.fast,), odd: float = float("nan")): pass
    props = shape(look)["properties"]
    assert {n: p["default"] for n, p in props.items() if "default" in p} == {"zone": {"name": "gate", "boxes": [{"x": 1, "title": "none"}]}, "shade": "dark", "age": "PT1H",
        "box": {"x": 2, "title": "none"}, "modes": ["fast"]}

def test_field_as_a_default():
    "As in web frameworks: the model sees the default, and the function gets it."
    def look(image: str = Field(description="Picture"), conf: float = Field(0.25, ge=0, le=1), tags: list[str] = Field(default_factory=list), n: Annotated[int, Field(default=5)] = ...): return image, conf, tags
    def near(n: Annotated[int, Field(default=5, ge=1)]): return n
    schema = shape(look)
    assert schema["required"] == ["image"] and schema["properties"]["image"] == {**S, "description": "Picture"}
    assert schema["properties"]["conf"] == {**N, "minimum": 0, "maximum": 1, "default": 0.25} and schema["properties"]["tags"]["default"] == []
    assert look(**bind_arguments(look, {"image": "x"})) == ("x", 0.25, []) and look(**bind_arguments(look, {"image": "x", "conf": "0.5"})) == ("x", 0.5, [])
    assert near(**bind_arguments(near, {})) == 5 and shape(near)["required"] == []
    with pytest.raises(ArgumentError, match="conf"): bind_arguments(look, {"image": "x", "conf": 2})

def test_unpacked_options():
    class Options(typing_extensions.TypedDict, total=False):
        night: typing_extensions.Required[bool]  # After dark
        zoom: float
    def look(image: str, **options: typing_extensions.Unpack[Options]): return image, options
    schema = shape(look)
    assert schema["required"] == ["image", "night"] and schema["properties"]["zoom"] == N and "additionalProperties" not in schema
    bound = bind_arguments(look, {"image": "x", "night": "true"})
    assert look(*bound.args, **bound.kwargs) == ("x", {"night": True})

def test_variable_arguments():
    def watch(place: str, *labels: str, limit: int = 3, **counts: int): return place, labels, limit, counts
    schema = shape(watch)
    assert schema["properties"]["labels"] == {"type": "array", "items": S, "default": []} and schema["additionalProperties"] == I
    assert schema["required"] == ["place"]
    for arguments in ({"place": "gate", "labels": ["a", "b"], "car": "2"}, {"place": "gate", "labels": ["a", "b"], "counts": {"car": 2}}):
        bound = bind_arguments(watch, arguments)
        assert watch(*bound.args, **bound.kwargs) == ("gate", ("a", "b"), 3, {"car": 2})
    with pytest.raises(ArgumentError, match="car"): bind_arguments(watch, {"place": "gate", "car": "many"})


def test_positional_only_arguments_fill_the_gap():
    def zoom(a: int, b: int = 2, c: int = 3, /, d: int = 4): return a, b, c, d
    bound = bind_arguments(zoom, {"a": 1, "c": 9, "d": 5})
    assert zoom(*bound.args, **bound.kwargs) == (1, 2, 9, 5)


class Camera:
    "A camera."
    def __init__(self, uri: str, place: str = "nowhere"):
        "Open a camera."
    def capture(self, seconds: float = 1.0) -> str:
        "Capture one frame."
    @classmethod
    def find(cls, place: str): "Find a camera."
    @staticmethod
    def near(latitude: float): "Cameras near a latitude."
    def __call__(self, times: int): "Capture several frames."

class Silent:
    "Says nothing of its call."
    def __call__(self, times: int): pass

def noisy(func):
    @functools.wraps(func)
    def wrapped(*args, **kwargs): return func(*args, **kwargs)
    return wrapped

@noisy
def decorated(
    image: str,  # Picture to look at
): "Look."

async def later(seconds: float): "Wait."

@pytest.mark.parametrize("func, name, description, props, required", [
    (Camera("x").capture, "capture", "Capture one frame.", {"seconds": {**N, "default": 1.0}}, []),
    (Camera.find, "find", "Find a camera.", {"place": S}, ["place"]),
    (Camera.near, "near", "Cameras near a latitude.", {"latitude": N}, ["latitude"]),
    (Camera("x"), "Camera", "Capture several frames.", {"times": I}, ["times"]), (Silent(), "Silent", "Says nothing of its call.", {"times": I}, ["times"]),
    (Camera, "Camera", "A camera.", {"uri": S, "place": {**S, "default": "nowhere"}}, ["uri"]),
    (decorated, "decorated", "Look.", {"image": {**S, "description": "Picture to look at"}}, ["image"]),
    (later, "later", "Wait.", {"seconds": N}, ["seconds"]),
    (lambda a, b=2: a, "lambda", "", {"a": {}, "b": {**N, "default": 2}}, ["a"]),
    (functools.partial(Camera.near), "near", "Cameras near a latitude.", {"latitude": N}, ["latitude"]),
    (functools.partial(decorated, "x.jpg"), "decorated", "Look.", {}, []),
    (functools.partial(Camera, place="gate"), "Camera", "A camera.", {"uri": S}, ["uri"]),
], ids=lambda value: value if isinstance(value, str) else "")
def test_kinds_of_callables(func, name, description, props, required):
    function = function_schema(func)["function"]
    assert (function["name"], function["description"]) == (name, description)
    assert function["parameters"] == {"type": "object", "properties": props, "required": required}


def test_a_method_without_its_object_is_refused():
    with pytest.raises(SchemaError, match="Pass the bound method"): function_schema(Camera.capture)
    for method in (str.upper, dict.get):
        with pytest.raises(SchemaError, match="Pass the bound method"): function_schema(method)

def test_two_objects_share_no_arguments():
    class Counter:
        def __init__(self, start): self.start = start
        def add(self, n: int): return self.start + n
    one, two = Counter(1), Counter(10)
    assert [function_schema(c.add).func(**bind_arguments(c.add, {"n": "2"})) for c in (one, two)] == [3, 12]

def test_functions_without_source():
    scope = {}
    exec('def made(a: int, b: "list[str]" = None):\n    """Made up.\n\n    Args:\n        a: The first\n    """', scope)
    schema = function_schema(scope["made"])
    assert schema["function"]["description"] == "Made up." and schema["function"]["parameters"]["properties"]["a"] == {**I, "description": "The first"}
    assert shape(len)["required"] == ["obj"]
    with pytest.raises(SchemaError, match="Wrap it"): function_schema(max)


def test_string_annotations():
    @dataclass
    class Here: value: int
    def look(a: "int | None", b: "Here", c: "list[Mode]" = ()): pass
    schema = shape(look)
    assert schema["properties"]["a"] == nullable(I) and schema["$defs"]["Here"]["properties"] == {"value": I}
    def lost(a: int, b: "Nowhere"): pass  # noqa: F821
    with pytest.raises(SchemaError, match="'b'.*Nowhere"): function_schema(lost)


def test_forward_references_among_local_classes():
    @dataclass
    class Left:
        right: "list[Right]"
    @dataclass
    class Right: n: int
    def look(left: "Left", rights: list["Right"] = (), more: Optional[list["Right"]] = None): pass
    schema = shape(look)
    assert set(schema["$defs"]) == {"Left", "Right"} and schema["properties"]["rights"]["items"] == {"$ref": "#/$defs/Right"}
    assert bind_arguments(look, {"left": {"right": [{"n": "1"}]}})["left"] == Left([Right(1)])

def test_future_annotations(tmp_path, monkeypatch):
    (tmp_path / "later_module.py").write_text("from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass Spot:\n    x: int\n"
                                              "def go(\n    spot: Spot,  # Where to\n    hurry: bool = False,\n): 'Go.'\n")
    monkeypatch.syspath_prepend(tmp_path)
    import later_module
    schema = shape(later_module.go)
    assert schema["properties"]["spot"] == {"$ref": "#/$defs/Spot", "description": "Where to"}
    assert bind_arguments(later_module.go, {"spot": {"x": 1}})["spot"] == later_module.Spot(1)


# Descriptions

def test_comments():
    def f(a, b: int = 3,  # Both, by the second
          # Above the next,
          # in two lines
          c: str = "# no comment",  # Issue #4 says more
          d: str = "',"  # After a tricky string
                         # and further below
          , e: dict = {"k": (1,  # first line of e
                             2)},  # outside
          f=lambda x, e=1: x,  # A function
          g: Literal["a",
                     "b"] = "a",  # type: ignore
          *args: int,  # Rest
          **kw: int,   # Named  # noqa: E501
          ) -> int:    # What comes back
        "Doc."
    assert extract_parameter_comments(f) == {"b": "Both, by the second", "c": "Above the next, in two lines Issue #4 says more",
                                             "d": "After a tricky string and further below", "e": "first line of e outside", "f": "A function",
                                             "args": "Rest", "kw": "Named"}

def test_comments_of_one_line_and_of_fields():
    def one(a: int, b: int = 2):  # The second
        "Doc."
    def two(a: int,   # First
            b: int):  # Second
        pass
    def three(a: int,
              b: int) -> int:  # What comes back
        pass
    assert [extract_parameter_comments(f) for f in (one, two, three)] == [{"b": "The second"}, {"a": "First", "b": "Second"}, {}]
    assert extract_parameter_comments(Road) == {"number": "As on the signs", "options": "How to look at it", "names": "What people call it"}
    def drive(road: Road): pass
    road = shape(drive)["$defs"]["Road"]
    assert road["description"] == "A road, by its number." and [p["description"] for p in road["properties"].values()] == ["As on the signs", "How to look at it", "What people call it"]

def test_a_class_is_documented_by_its_docstrings():
    class Lamp:
        "A lamp."
        def __init__(self, name: str, watts=60):
            """Make one.

            Args:
                name: What it is called
                watts: How bright
            """
    assert [p["description"] for p in shape(Lamp)["properties"].values()] == ["What it is called", "How bright"]

@dataclass
class Street(Road):
    lamps: int = 0  # How many

def test_comments_of_inherited_fields():
    def walk(street: Street): pass
    assert [p["description"] for p in shape(walk)["$defs"]["Street"]["properties"].values()] == ["As on the signs", "How to look at it", "What people call it", "How many"]
    assert extract_parameter_comments(Street)["number"] == "As on the signs"

def test_a_description_inside_of_a_union():
    def zoom(x: Optional[Annotated[int, "How far"]]): pass
    assert shape(zoom)["properties"]["x"]["description"] == "How far"

def test_comment_wins_over_docstring_and_annotated():
    def f(a: Annotated[int, "annotated"],  # comment
          b: Annotated[int, "annotated"], c: Annotated[int, Field(description="field")], d: int, e=1):
        """Do.

        Args:
            a: docstring
            b: docstring
            d (int, optional): docstring:
                with a colon
            e: untyped
        Raises:
            ValueError: if not
        """
    function = function_schema(f)["function"]
    assert {n: p["description"] for n, p in function["parameters"]["properties"].items()} == {
        "a": "comment", "b": "annotated", "c": "field", "d": "docstring: with a colon", "e": "untyped"}
    assert "Raises" in function["description"] and "Args" not in function["description"]

def test_numpy_and_sphinx():
    def f(x, y, *args):
        """Measure.

        Longer text.

        Parameters
        ----------
        x, y : float
            Where.

            Second paragraph.
        *args
            Rest

        Returns
        -------
        float
            How far
        """
    def g(a, b):
        """Do.

        :param int a: First,
            continued
        :type a: int
        :param b: Second
        :returns: nothing
        """
    function = function_schema(f)["function"]
    props = function["parameters"]["properties"]
    assert props["x"]["description"] == props["y"]["description"] == "Where. Second paragraph." and props["args"]["description"] == "Rest"
    assert function["description"] == "Measure.\n\nLonger text.\n\nReturns\n-------\nfloat\n    How far"
    assert {n: p["description"] for n, p in shape(g)["properties"].items()} == {"a": "First, continued", "b": "Second"}


# The tool

def test_tool_is_a_plain_dictionary():
    def look(image: str): "Look."
    tool = function_schema(look, "eyes", "llmcam.core.oas_to_schema.generate_request", session_id="s1")
    assert tool["function"]["metadata"] == {"module": __name__, "service": "eyes", "session_id": "s1"}
    assert tool["function"]["fixup"] == "llmcam.core.oas_to_schema.generate_request"
    assert json.loads(json.dumps(tool)) == tool and tool.func is look and tool.name == "look"
    for twin in (copy.copy(tool), copy.deepcopy(tool), tool.copy()): assert twin == tool and twin.func is look and isinstance(twin, Tool)
    assert pickle.loads(pickle.dumps(tool)) == tool and pickle.loads(pickle.dumps(tool)).func is None
    public = public_tool(tool)
    assert set(public) == {"type", "function"} and set(public["function"]) == {"name", "description", "parameters"}
    assert function_schema(look)["function"]["metadata"] == {"module": __name__, "service": __name__}
    assert function_schema(look, fixup=param_converter)["function"]["fixup"] == "llmcam.core.fn_to_schema.param_converter"
    with pytest.raises(SchemaError, match="found by name"): function_schema(look, fixup=lambda: 0)

def test_a_change_to_one_tool_is_not_seen_by_the_next():
    def look(image: str, box: Box): "Look."
    first = function_schema(look)
    first["function"]["parameters"]["properties"].pop("image")
    first["function"]["parameters"]["$defs"].clear()
    assert list(shape(look)["properties"]) == ["image", "box"] and shape(look)["$defs"]

def test_every_copy_is_its_own():
    "The first copy is read, later ones are compiled: no two share anything."
    def look(image: str, boxes: list[Box] = [], mode: Literal["a", "b"] = "a"): "Look."
    tools = [function_schema(look) for _ in range(5)]
    assert all(tool == tools[0] for tool in tools)
    def parts(thing): return [id(thing), *(i for v in (thing.values() if isinstance(thing, dict) else thing) for i in parts(v))] if isinstance(thing, (dict, list)) else []
    ids = [i for tool in tools for i in parts(tool)]
    assert len(ids) == len(set(ids))
    strict = [function_schema(look, strict=True) for _ in range(3)]
    assert strict[0] == strict[2] and "strict" not in function_schema(look)["function"]

def test_what_a_function_declares_goes_to_the_host():
    def wipe(path: str): "Wipe."
    assert "level" not in function_schema(wipe)["function"]["metadata"]
    wipe.tool_level, wipe.tool_untrusted = "exec", True  # as `tool_level` does, after a plan was made
    @functools.wraps(wipe)
    def wrapped(*args): pass
    for func in (wipe, wrapped, functools.partial(wipe), functools.partial(functools.partial(wipe), path="x")):
        told = function_schema(func)["function"]["metadata"]
        assert told["level"] == "exec" and told["untrusted"] is True
    assert function_schema(wipe, level="read")["function"]["metadata"]["level"] == "read"
    assert "metadata" not in public_tool(function_schema(wipe))["function"]

def test_plans_do_not_keep_functions_alive():
    class Holder:
        def look(self, image: str): "Look."
    holder = Holder()
    def local(image: str): return holder
    function_schema(local); function_schema(holder.look)
    seen = [weakref.ref(holder), weakref.ref(local)]
    del holder, local
    gc.collect()
    assert [ref() for ref in seen] == [None, None]

def test_hidden_parameters():
    def ask(image: str, *, client: Hidden = None, _clock=None, key: Annotated[str, Hidden.__metadata__[0]] = ""): pass
    assert list(shape(ask)["properties"]) == ["image"]
    with pytest.raises(ArgumentError, match="client"): bind_arguments(ask, {"image": "x", "client": "y"})

def gaps(a, _ctx=None, *args): return a, _ctx, args
def marked(a: int, tok: Hidden = "t", *rest: int): return a, tok, rest
def placed(a, _h=0, b=1, /): return a, _h, b
def named(a, _secret="s", conn: Hidden = None, **kw): return a, _secret, conn, kw
def keyed(a, token, **kw): return a, token, kw

@pytest.mark.parametrize("func, arguments, expected", [
    (gaps, {"a": 1, "args": [2, 3]}, (1, None, (2, 3))), (marked, {"a": 1, "rest": [9]}, (1, "t", (9,))), (placed, {"a": 1, "b": 2}, (1, 0, 2)), (named, {"a": 1, "x": 2}, (1, "s", None, {"x": 2})),
    (functools.partial(keyed, token="host"), {"a": 1}, (1, "host", {})),
], ids=["gaps", "marked", "placed", "named", "keyed"])
def test_values_of_a_model_stay_out_of_hidden_parameters(func, arguments, expected):
    bound = bind_arguments(func, arguments)
    assert func(*bound.args, **bound.kwargs) == expected
    for name in ("_ctx", "tok", "_h", "_secret", "conn", "token"):
        if name in inspect.signature(func).parameters:
            with pytest.raises(ArgumentError, match=f"no parameter '{name}'"): bind_arguments(func, {**arguments, name: "model"})
            with pytest.raises(ArgumentError, match=f"no parameter '({name}|kw)'"): bind_arguments(func, {**arguments, "kw": {name: "model"}})

def test_strict():
    def look(image: str, zone: Zone, mode: Mode = Mode.fast, tags: list[str] | None = None): "Look."
    function = function_schema(look, strict=True)["function"]
    assert function["strict"] is True and function["parameters"]["required"] == ["image", "zone", "mode", "tags"]
    assert function["parameters"]["additionalProperties"] is False and function["parameters"]["$defs"]["Zone"]["additionalProperties"] is False
    assert function["parameters"]["properties"]["mode"]["anyOf"][-1] == NULL
    def free(anything: dict): pass
    with pytest.raises(SchemaError, match="free.anything.*strict"): function_schema(free, strict=True)
    def pets(pet: Annotated[Union[Cat, Dog], Field(discriminator="kind", description="Whose")], when: datetime, name: Annotated[str, Field(min_length=1)] = "x"): pass
    parameters = function_schema(pets, strict=True)["function"]["parameters"]
    assert "oneOf" not in json.dumps(parameters) and "minLength" not in json.dumps(parameters) and parameters["properties"]["when"]["format"] == "date-time"
    assert parameters["properties"]["name"] == {"anyOf": [S, NULL]} and parameters["$defs"]["Cat"]["required"] == ["kind", "lives"]

@dataclass
class Panel:
    w: int
    h: int | str = 5
    tags: list[str] = field(default_factory=list)
    note: Optional[str] = "x"

class Knob(BaseModel):
    w: int
    h: int = 5

class Dial(TypedDict):
    w: int
    h: typing_extensions.NotRequired[int]

@pytest.mark.parametrize("tp, value, expected", [
    (Panel, {"w": 1, "h": None, "tags": None, "note": None}, Panel(1, note=None)), (Knob, {"w": "1", "h": None}, Knob(w=1)), (list[Dial], [{"w": 1, "h": None}], [{"w": 1}]), (Panel, {"w": 1, "note": 7}, Panel(1, note="7")),
], ids=["dataclass", "model", "TypedDict", "a number for text"])
def test_nulls_of_strict_form_are_left_out(tp, value, expected):
    def look(x: tp): pass
    function_schema(look, strict=True)
    assert bind_arguments(look, {"x": value})["x"] == expected
    with pytest.raises(ArgumentError, match="w"): bind_arguments(look, {"x": [{"w": None}] if isinstance(value, list) else {"w": None}})

class Side(Enum):
    left, right = (1, 2), (3, 4)

@dataclass
class Turn:
    mode: Literal[Mode.fast]
    side: Side = Side.left

def test_members_inside_of_dataclasses():
    def turn(x: Turn): pass
    assert bind_arguments(turn, {"x": {"mode": "fast", "side": [3, 4]}})["x"] == Turn(Mode.fast, Side.right)
    for wrong in ({"mode": "careful"}, {"mode": "fast", "side": [1, 3]}):
        with pytest.raises(ArgumentError): bind_arguments(turn, {"x": wrong})

V = TypeVar("V")

@pytest.mark.skipif(sys.version_info < (3, 11), reason="a TypedDict is generic from Python 3.11 on")
def test_generic_typed_dicts():
    class Pair(TypedDict, Generic[V]):
        one: V
        more: list[V]
    def pair(x: Pair[int], y: Pair[str]): pass
    assert bind_arguments(pair, {"x": {"one": "1", "more": ["2"]}, "y": {"one": 1, "more": [2]}}) == {"x": {"one": 1, "more": [2]}, "y": {"one": "1", "more": ["2"]}}

def test_keys_of_an_object_are_text():
    def count(places: dict[tuple[int, int], str]): pass
    with pytest.raises(SchemaError, match="'places'"): function_schema(count)
    def fine(places: dict[float, str]): pass
    assert bind_arguments(fine, {"places": {"1.5": "a"}}) == {"places": {1.5: "a"}}

def test_names_suit_every_model():
    def näkymä(x: int): pass
    assert function_schema(näkymä).name.isascii()


# Arguments

def look(image: Path, count: int = 1, conf: float = 0.5, on: bool = True, when: Optional[datetime] = None, mode: Mode = Mode.fast,
         zone: Optional[Zone] = None, tags: list[str] = (), kind: Literal["a", "b"] = "a", level: Level = Level.low, anything: Any = None): pass

@pytest.mark.parametrize("arguments, expected", [
    ({"image": "x.jpg"}, {"image": Path("x.jpg")}),
    ({"image": "x", "count": "7", "conf": "0.5", "on": "false"}, {"image": Path("x"), "count": 7, "conf": 0.5, "on": False}),
    ({"image": "x", "conf": 1, "count": 3.0}, {"image": Path("x"), "conf": 1.0, "count": 3}),
    ({"image": "x", "when": "2026-11-23T12:00:00Z"}, {"image": Path("x"), "when": datetime(2026, 11, 23, 12, tzinfo=timezone.utc)}),
    ({"image": "x", "mode": "careful", "level": 2}, {"image": Path("x"), "mode": Mode.careful, "level": Level.high}),
    ({"image": "x", "level": "high"}, {"image": Path("x"), "level": Level.high}),
    ({"image": "x", "zone": {"name": "g", "boxes": [{"x": "1"}]}}, {"image": Path("x"), "zone": Zone("g", [Box(x=1)])}),
    ({"image": "x", "zone": '{"name": "g"}', "tags": '["a", "b"]'}, {"image": Path("x"), "zone": Zone("g"), "tags": ["a", "b"]}),
    ({"image": "x", "tags": "car", "kind": " b "}, {"image": Path("x"), "tags": ["car"], "kind": "b"}),
    ({"image": "x", "count": None, "tags": None, "when": None}, {"image": Path("x"), "when": None}),
    ({"image": "x", "anything": {"deep": [1]}}, {"image": Path("x"), "anything": {"deep": [1]}}),
])
def test_arguments_become_what_the_signature_asks_for(arguments, expected):
    bound = bind_arguments(look, arguments)
    assert bound == expected and {n: type(v) for n, v in bound.items()} == {n: type(v) for n, v in expected.items()}
    look(*bound.args, **bound.kwargs)

@pytest.mark.parametrize("arguments, told", [
    ({}, "'image' is missing"), ({"image": "x", "cuont": 1}, "no parameter 'cuont'"), ({"image": None}, "image"), ({"image": "x", "count": "many"}, "valid integer"),
    ({"image": "x", "count": 1.5}, "count"), ({"image": "x", "mode": "slow"}, "'fast' or 'careful'"), ({"image": "x", "zone": {}}, "zone.name"),
    ({"image": "x", "when": "yesterday"}, "when"), ({"image": ["x"]}, "image"), (["x"], "JSON object"), ("x", "JSON object"), (None, "JSON object"),
    ({"image": "x", "self": 1}, "'self'"), ({"image": "x", "tags": [1, {}]}, "tags.1"), ({"image": "x", "zone": {"name": "g", "boxes": [{"x": -1}]}}, "greater than or equal to 0"),
])
def test_a_refusal_says_what_was_expected(arguments, told):
    with pytest.raises(ArgumentError) as caught: bind_arguments(look, arguments)
    assert told in str(caught.value) and "look takes image: string" in str(caught.value)

def test_fuzzed_arguments_bind_or_are_refused():
    rng = random.Random(3)
    def value(depth=0):
        kinds = [None, True, 0, -1, 10**400, 1.5, float("nan"), float("inf"), "", "x", "7", "null", "[" * 5000, "[1]", '{"name": "g"}', "2026-11-23", "\ud800", "a\0b"]
        if depth > 3 or rng.random() < 0.6: return rng.choice(kinds)
        return [value(depth + 1) for _ in range(rng.randint(0, 3))] if rng.random() < 0.5 else {rng.choice(["name", "boxes", "x", ""]): value(depth + 1) for _ in range(2)}
    names, outcomes = ["image", "count", "conf", "on", "when", "mode", "zone", "tags", "kind", "level", "anything", "odd", "args", "kwargs", "self", ""], set()
    def variable(image: str, /, *args: int, **kwargs: float): pass
    for _ in range(3000):
        func = rng.choice([look, variable])
        arguments = {"image": "x.jpg", **{rng.choice(names): value() for _ in range(rng.randint(0, 3))}}
        try: bound = bind_arguments(func, arguments)
        except ArgumentError as e: outcomes.add("refused"); assert len(str(e)) < 5000
        else: outcomes.add("bound"); func(*bound.args, **bound.kwargs)
    assert outcomes == {"bound", "refused"}

def test_numbers_for_text_are_text():
    def read(plate: str, note: Optional[str] = None): pass
    assert bind_arguments(read, {"plate": 123, "note": 4.5}) == {"plate": "123", "note": "4.5"}

def test_untyped_arguments_pass_as_they_are():
    def f(a, b=2, c="x"): pass
    assert bind_arguments(f, {"a": [1], "b": 0.5, "c": "y"}) == {"a": [1], "b": 0.5, "c": "y"}
    assert bind_arguments(f, {"a": 1, "b": "3"}) == {"a": 1, "b": 3}


def test_import_and_plain_schemas_need_no_pydantic():
    code = ("import sys\nfrom llmcam.core.fn_to_schema import function_schema, bind_arguments\n"
            "def f(a: str, b: int = 2, c: list[str] | None = None): 'Doc.'\nfunction_schema(f); bind_arguments(f, {'a': 'x', 'b': 1})\n"
            "print([m for m in ('pydantic', 'httpx2', 'numpy', 'openai') if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_annotated_and_none():
    def f(a: Annotated[int, Field(ge=1)] = None, b: Annotated[Optional[int], "Note"] = 3, c: Annotated[str, "Text"] = "x", d: Literal["a", None] = "a"): pass
    schema = shape(f)["properties"]
    assert Draft202012Validator(schema["a"]).is_valid(None) and not Draft202012Validator(schema["a"]).is_valid(0) and schema["b"]["description"] == "Note"
    assert bind_arguments(f, {"a": None, "b": None, "c": None, "d": None}) == {"a": None, "b": None, "d": None}
    with pytest.raises(ArgumentError): bind_arguments(f, {"a": 0})


def test_not_callable():
    with pytest.raises(SchemaError, match="cannot be called"): function_schema(3)
    for builtin in (type, dict, int):
        with pytest.raises(SchemaError, match="signature"): function_schema(builtin)


def test_names_in_generics_are_looked_up_where_the_function_is(monkeypatch):
    "Python 3.10 leaves `list['Spot']` as it is; nobody on the way here knows the name."
    import types
    module = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    exec("from dataclasses import dataclass\nfrom typing import *\n@dataclass\nclass Spot:\n    x: int\n"
         "def find(a: list['Spot'], b: Optional[list['Spot']] = None, c: \"dict[str, list['Spot']]\" = {}, d: Literal['Spot'] = 'Spot'): 'Find.'", vars(module))
    schema = function_schema(module.find)["function"]["parameters"]
    assert schema["properties"]["a"]["items"] == {"$ref": "#/$defs/Spot"} == schema["properties"]["c"]["additionalProperties"]["items"] and schema["properties"]["d"]["enum"] == ["Spot"]
    assert bind_arguments(module.find, {"a": [{"x": 1}], "b": [{"x": "2"}]}) == {"a": [module.Spot(1)], "b": [module.Spot(2)]}


def test_arguments_are_always_new_and_always_checked():
    def look(image: str, n: int = 1, /, *rest: str, zone: Zone | None = None, anything: Any = None, **more: int): pass
    assert bind_arguments(lambda: None, {}) == {}
    for sent in ({}, {"image": []}, {"image": "a", "cars": "many"}, [], None, "image"):
        with pytest.raises(ArgumentError): bind_arguments(look, sent)
    sent = {"image": "a"}
    bound = bind_arguments(look, sent)
    assert bound is not sent and bound == sent and bound.args == ("a",) and bound.kwargs == {}


def test_a_new_function_never_gets_the_plan_of_one_that_is_gone():
    "Python gives the place in memory, and so the identity, of the old one to the new one."
    places = set()
    for i in range(50):
        scope = {}
        exec(f"def f{i}(p{i}: int): pass", scope)
        func = scope.pop(f"f{i}")
        places.add(id(func))
        assert function_schema(func).name == f"f{i}" and bind_arguments(func, {f"p{i}": 1}) == {f"p{i}": 1}
        del func, scope
    assert len(places) < 50


HEADERS = """
def a(
    x: int,                         # One
    y: Literal["a, b", "#c"] = "#c",  # Two  # noqa: E501
    *,
    z: dict[str, int] = {},
    w=(1, 2),  #
    v: str = 'it"s'  # Last
): pass
def b(x: int,  # One
      # On its own
      y=3): pass
def c(
    x =
        3,  # One, not of a parameter called 3
    y=lambda a, x: a,  # Two
): pass
async def d(
    x: list[
        int],  # One
    # own
    y: str = '''t, # ''',  # Two
    **z: int  # Three
) -> "a # b": pass
def e(
    *x: int,  # One
    y: int = Field(default=[1], ge=0),  # Two
): pass  # Body
def f(x, y): return x  # Body
def g(
    x, y,  # Two
    z: int,  # Three (a, b
            # and more
):
    # Body
    return x
def h(  # Lead
    x: int,
): pass
"""

def test_quick_readings_agree_with_general_ones(tmp_path, monkeypatch):
    "Headers that are tables are read line by line, plain functions by their code; all else, and these too, can be read in general."
    (tmp_path / "headers_of_all_shapes.py").write_text("from typing import Literal\nfrom pydantic import Field\n" + HEADERS)
    monkeypatch.syspath_prepend(tmp_path)
    import headers_of_all_shapes as module
    functions = [getattr(module, name) for name in "abcdefgh"] + [f for f in (*vars(fn_to_schema).values(), *globals().values()) if inspect.isfunction(f)]
    quick = 0
    for func in functions:
        text = fn_to_schema._source(func.__code__, func.__globals__)
        assert fn_to_schema._read_comments(func) == fn_to_schema._pieced(func.__code__, text)
        quick += bool(fn_to_schema._TABLE.match(text))
        assert fn_to_schema._signature(func) == [(p.name, p.kind, p.annotation, p.default) for p in inspect.signature(func).parameters.values()]
    assert quick >= 5 and not fn_to_schema._TABLE.match(HEADERS[HEADERS.index("def c"):])
    assert extract_parameter_comments(module.a) == {"x": "One", "y": "Two", "v": "Last"} and extract_parameter_comments(module.c) == {"x": "One, not of a parameter called 3", "y": "Two"}


def test_copies_of_a_schema_are_equal_however_they_are_made():
    def look(image: Path, zone: Zone, mode: Mode = Mode.fast, limit: float = 1e300, *, note: str = "it's \"so\"\n\ud83d"): "Look \\ here."
    tools = [function_schema(look) for _ in range(5)]
    assert all(tool == tools[0] for tool in tools)
    tools[-1]["function"]["parameters"]["properties"]["mode"]["enum"].append("x")
    tools[-1]["function"]["metadata"]["service"] = "x"
    assert function_schema(look) == tools[0]


def test_signatures_that_were_set_win():
    def look(*args): pass
    look.__signature__ = inspect.signature(lambda image, n=1: None)
    assert list(shape(look)["properties"]) == ["image", "n"]
    look.note = "any other attribute changes nothing"
    assert list(shape(look)["properties"]) == ["image", "n"]

class Sides(Flag):
    LEFT = 1
    RIGHT = 2

def test_flags_add_up():
    def paint(sides: Sides = Sides.LEFT | Sides.RIGHT, also: list[Sides] = []): return sides, also
    tool = function_schema(paint)
    shape = tool["function"]["parameters"]["properties"]
    assert shape["sides"] == {"type": "integer", "minimum": 0, "maximum": 3, "description": "Sum of: 1 LEFT, 2 RIGHT", "default": 3} and shape["also"]["items"]["maximum"] == 3
    bound = bind_arguments(paint, {"sides": 3, "also": [2, "1"]})
    assert paint(*bound.args, **bound.kwargs) == (Sides.LEFT | Sides.RIGHT, [Sides.RIGHT, Sides.LEFT])
    with pytest.raises(ArgumentError): bind_arguments(paint, {"sides": 9})

@dataclass
class Counted:
    name: str
    seen: int = field(default=0, init=False)

def test_what_a_dataclass_sets_itself_is_not_asked_for():
    def count(thing: Counted): return thing
    assert list(function_schema(count, strict=True)["function"]["parameters"]["$defs"]["Counted"]["properties"]) == ["name"]
    assert count(**bind_arguments(count, {"thing": {"name": "x"}})) == Counted("x")

def test_classes_say_only_what_their_author_wrote():
    class Bare(BaseModel): x: int
    class Told(BaseModel):
        "A boat."
        x: int
    class Later(Told): y: int = 1
    class Plain:
        def __init__(self, x: int): "Make it."
    assert [function_schema(cls)["function"]["description"] for cls in (Bare, Told, Later, Plain, Counted)] == ["", "A boat.", "A boat.", "Make it.", ""]

def test_parameters_of_epydoc_and_all_words_of_sphinx():
    def move(a, b, c=1):
        """Move it.

        @param a: how far
        @type a: int
        :keyword c: how fast,
            in knots
        :arg int b: where to
        """
    function = function_schema(move)["function"]
    assert function["description"] == "Move it." and {name: p["description"] for name, p in function["parameters"]["properties"].items()} == {
        "a": "how far", "b": "where to", "c": "how fast, in knots"}
