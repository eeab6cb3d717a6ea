"""How right and how quick: `function_schema` and what else makes tools of Python functions, on the same functions in the same run.

    python benchmarks/bench_schemas.py [--full]

The other libraries take part where they are installed: openai-agents, fastmcp, langchain-core, toolslm; pydantic by itself always does."""
import argparse, asyncio, functools, gc, importlib.util, statistics, sys, tempfile, time, typing, warnings
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import typing_extensions
from jsonschema import Draft202012Validator, FormatChecker
from pydantic import BaseModel, Field


# The functions. Each comes with the parameters that it requires, arguments that fit, arguments that don't, and what is said of its parameters.

class Mode(Enum): fast, careful = "fast", "careful"

class Box(BaseModel):
    x: int
    y: int = 0

class Scene(BaseModel): boxes: list[Box]

@dataclass
class Zone:
    name: str
    corners: list[int] = field(default_factory=list)

class Options(typing.TypedDict, total=False): night: bool

class Lens(typing_extensions.TypedDict):
    zoom: float
    night: typing_extensions.NotRequired[bool]

class Camera:
    def capture(self, seconds: float): "Capture."
    @classmethod
    def find(cls, place: str): "Find."
    @staticmethod
    def near(latitude: float): "Near."
    def __call__(self, times: int): "Capture several."

class Socket: pass

def plain(text: str, n: int, share: float, on: bool, anything: Any): "Plain."
def choice(mode: Literal["yolo", "gpt"]): "Choose."
def member(mode: Mode): "Choose."
def maybe(a: Optional[int], b: int | None): "Maybe."
def either(a: Union[int, str], b: int | list[str]): "Either."
def nested(counts: dict[str, list[int]], rows: list[list[float]]): "Nested."
def model(box: Box): "A model."
def models(boxes: list[Box], scene: Scene): "Models."
def zoned(zone: Zone): "A dataclass."
def options(options: Options): "A typed dictionary."
def lens(lens: Lens): "A typed dictionary with keys that may be left out."
def defaults(a: int = 3, mode: Mode = Mode.fast, path: Path = Path("x.jpg"), note: str | None = None): "Defaults."
def variable(first: str, *labels: str, **counts: int): "Variable."
def limits(n: Annotated[int, Field(ge=1, le=9)]): "Limits."
def told(n: Annotated[int, "How many"]): "Told."
def moments(when: datetime, where: Path): "Moments."
def pairs(size: tuple[int, int], path: tuple[float, ...]): "Pairs."
def texts(a: "int | None", b: "list[Zone]"): "Hints as text."
def sockets(good: int, socket: Socket): "Nothing for JSON."
def one_comment(
    camera: str = "#1",  # Camera, as in issue #3
    *,
    n: int,              # How many
): "Comments."

def google(path, n: int = 1):
    """Look.

    Args:
        path: Picture to look at
        n (int, optional): How often:
            at least once
    """

def numpy(path, n: int = 1):
    """Look.

    Parameters
    ----------
    path : str
        Picture to look at
    n : int
        How often
    """

async def later(seconds: float): "Wait."

@functools.wraps(choice)
def wrapped(*args, **kwargs): return choice(*args, **kwargs)

SCOPE = {}
exec("def no_source(a: int, b: str = 'x'):\n    'Made.'", SCOPE)

KINDS = [  # (what, functions, required, fits, does not fit, descriptions)
    ("plain types, `Any`", [plain], "text n share on anything", [{"text": "a", "n": 1, "share": .5, "on": True, "anything": [1]}], [{"text": "a", "n": 1.5, "share": .5, "on": True, "anything": 1}], {}),
    ("`Literal`", [choice], "mode", [{"mode": "gpt"}], [{"mode": "x"}], {}),
    ("`Enum`", [member], "mode", [{"mode": "careful"}], [{"mode": "x"}], {}),
    ("`Optional`, `X | None`", [maybe], "a b", [{"a": None, "b": 1}], [{"a": "x", "b": 1}], {}),
    ("unions", [either], "a b", [{"a": "x", "b": ["y"]}, {"a": 1, "b": 1}], [{"a": [], "b": 1}], {}),
    ("nested lists and dicts", [nested], "counts rows", [{"counts": {"a": [1]}, "rows": [[.5]]}], [{"counts": {"a": ["x"]}, "rows": []}, {"counts": {}, "rows": [["x"]]}], {}),
    ("pydantic model", [model], "box", [{"box": {"x": 1}}], [{"box": {"x": "a"}}, {"box": {}}], {}),
    ("models in lists and in models", [models], "boxes scene", [{"boxes": [{"x": 1}], "scene": {"boxes": []}}], [{"boxes": [{}], "scene": {"boxes": []}}, {"boxes": [], "scene": {"boxes": [{}]}}], {}),
    ("dataclass", [zoned], "zone", [{"zone": {"name": "a"}}], [{"zone": {}}, {"zone": "a"}], {}),
    ("`TypedDict`", [options], "options", [{"options": {}}, {"options": {"night": True}}], [{"options": {"night": "x"}}], {}),
    ("`TypedDict`, `NotRequired`", [lens], "lens", [{"lens": {"zoom": 1.5}}], [{"lens": {}}, {"lens": {"zoom": 1, "night": "x"}}], {}),
    ("defaults, shown", [defaults], "", [{}, {"a": 1, "mode": "fast", "note": None}], [{"a": "x"}, {"note": 3}], {}),
    ("`*args`, `**kwargs`", [variable], "first", [{"first": "a", "labels": ["b"], "car": 3}], [{"first": "a", "labels": [1]}, {"first": "a", "car": "x"}], {}),
    ("Google docstring, also untyped", [google], "path", [{"path": "a"}], [{"path": "a", "n": "x"}], {"path": "Picture to look at", "n": "How often: at least once"}),
    ("NumPy docstring, also untyped", [numpy], "path", [{"path": "a"}], [{"path": "a", "n": "x"}], {"path": "Picture to look at", "n": "How often"}),
    ("comments, `#` inside", [one_comment], "n", [{"n": 1}], [{"n": "x"}], {"camera": "Camera, as in issue #3", "n": "How many"}),
    ("`async def`", [later], "seconds", [{"seconds": 1}], [{"seconds": "x"}], {}),
    ("bound, class and static method", [Camera().capture, Camera.find, Camera.near], None, [{}], [{"seconds": [], "place": [], "latitude": []}], {}),
    ("callable object", [Camera()], "times", [{"times": 1}], [{"times": "x"}], {}),
    ("`functools.partial`", [functools.partial(defaults, a=1), functools.partial(choice)], None, [{"mode": "fast"}, {"mode": "gpt"}], [{"mode": 3}], {}),
    ("`Annotated` with limits", [limits], "n", [{"n": 9}], [{"n": 0}], {}),
    ("`Annotated` with text", [told], "n", [{"n": 9}], [{"n": "x"}], {"n": "How many"}),
    ("`datetime`, `Path`", [moments], "when where", [{"when": "2026-11-23T12:00:00Z", "where": "a"}], [{"when": 1, "where": []}], {}),
    ("tuples", [pairs], "size path", [{"size": [1, 2], "path": [.5]}], [{"size": [1], "path": []}, {"size": [1, 2], "path": ["x"]}], {}),
    ("no source", [SCOPE["no_source"]], "a", [{"a": 1}], [{"a": "x"}], {}),
    ("hints as text", [texts], "a b", [{"a": None, "b": [{"name": "x"}]}], [{"a": "x", "b": []}, {"a": 1, "b": [{}]}], {}),
    ("lambda, `wraps`", [lambda a, b=2: a, wrapped], None, [{"a": 1, "mode": "gpt"}], [{"b": "x", "mode": "x"}], {}),
    ("what JSON cannot hold is refused", [sockets], None, [], [], {}),
]


# The makers: each gives the JSON Schema of the parameters.

def ours():
    from llmcam.core.fn_to_schema import function_schema
    return lambda func: function_schema(func)["function"]["parameters"]

def pydantic():
    from pydantic import TypeAdapter
    return lambda func: TypeAdapter(func).json_schema()

def openai_agents():
    from agents.function_schema import function_schema
    return lambda func: function_schema(func, strict_json_schema=False).params_json_schema

def fastmcp():
    from fastmcp.tools import Tool
    return lambda func: Tool.from_function(func, name="tool").parameters

def langchain():
    from langchain_core.utils.function_calling import convert_to_openai_function
    return lambda func: convert_to_openai_function(func)["parameters"]

def toolslm():
    from toolslm.funccall import get_schema
    return lambda func: get_schema(func)["input_schema"]

MAKERS = {"llmcam": ours, "pydantic": pydantic, "openai-agents": openai_agents, "fastmcp": fastmcp, "langchain-core": langchain, "toolslm": toolslm}

def makers():
    "Those that are installed, by name, and the names of the others."
    found, absent = {}, []
    for name, make in MAKERS.items():
        try: found[name] = make()
        except ImportError: absent.append(name)
    return found, absent


# Right?

def fault(schema, required, fits, misfits, told) -> str:
    "What is wrong with `schema`; empty if nothing is."
    Draft202012Validator.check_schema(schema)
    valid = Draft202012Validator(schema, format_checker=FormatChecker(())).is_valid
    if required is not None and set(schema.get("required", ())) != set(required.split()): return f"requires {schema.get('required')}"
    relevant = lambda arguments: {k: v for k, v in arguments.items() if required is not None or k in schema["properties"]}
    if required is not None and (wrong := [a for a in fits if not valid(a)]): return f"refuses {wrong[0]}"
    if wrong := [a for a in map(relevant, misfits) if valid(a)]: return f"accepts {wrong[0]}"
    said = {name: " ".join(str(schema["properties"][name].get("description", "")).split()) for name in told}
    return f"says {said}" if said != told else ""

def judged(make, kind) -> str:
    "`ok`, or what is wrong with what `make` makes of the functions of `kind`."
    what, functions, required, fits, misfits, told = kind
    try: schemas = [make(func) for func in functions]
    except Exception as e: return "ok" if not misfits else f"{type(e).__name__}"
    if not misfits: return "passes for something else"
    if what.startswith("defaults") and (lost := [n for n, v in {"a": 3, "mode": "fast", "path": "x.jpg", "note": None}.items() if schemas[0]["properties"].get(n, {}).get("default", ...) != v]):
        return f"default of {', '.join(lost)}"
    try: return next(filter(None, (fault(schema, required, fits, misfits, told) for schema in schemas)), "ok")
    except Exception as e: return type(e).__name__


# Quick?

SOURCE = '''
def look{i}(
    image: str,                              # Frame to look at
    wanted: list[str] | None = None,         # Classes to count, all if left out
    conf: float = 0.25,                      # Drop boxes less certain than this
    mode: Literal["fast", "careful"] = "fast",  # How hard to look
) -> dict[str, int]:                         # Objects by class name
    "Count the objects that the detector finds in `image`."
'''

def fresh_functions(n):
    "`n` functions that nobody has seen, in a file of their own."
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "looks.py")
        path.write_text("from typing import Literal\n" + "".join(SOURCE.format(i=i) for i in range(n)))
        spec = importlib.util.spec_from_file_location("looks", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield from (getattr(module, f"look{i}") for i in range(n))

def cpu(call, times=1) -> float:
    "Microseconds of this process that `call` takes."
    started = time.process_time_ns()
    for _ in range(times): call()
    return (time.process_time_ns() - started) / times / 1000

def speeds(make, n) -> tuple:
    "Median microseconds of the first schema of a function, and of the next ones."
    first, again = [], []
    for func in fresh_functions(n):
        first.append(cpu(lambda: make(func)))
        if len(first) % 10: continue
        make(func)  # the second time; what may be done once more is done now
        again.append(cpu(lambda: make(func), 100))
    return statistics.median(first), statistics.median(again)

def bind_speed(n) -> float:
    from llmcam.core.fn_to_schema import bind_arguments
    def add(a: int, b: int): return a + b
    arguments = {"a": 2, "b": 40}
    return statistics.median(cpu(lambda: bind_arguments(add, arguments), 1000) for _ in range(n))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="more functions for the medians")
    n = 400 if parser.parse_args().full else 100
    warnings.simplefilter("ignore")
    found, absent = makers()
    verdicts = {name: [judged(make, kind) for kind in KINDS] for name, make in found.items()}
    print(f"| kind of signature | {' | '.join(found)} |\n| --- |{' --- |' * len(found)}")
    for i, kind in enumerate(KINDS): print(f"| {kind[0].replace('|', chr(92) + '|')} | {' | '.join(v[i].replace('|', '/')[:60] for v in verdicts.values())} |")
    print(f"| **right, of {len(KINDS)}** | {' | '.join(str(v.count('ok')) for v in verdicts.values())} |")
    times = {name: speeds(make, n) for name, make in found.items()}
    print(f"\n| CPU time, median of {n}, µs | first time | again | first time, to ours |\n| --- | --- | --- | --- |")
    for name, (first, again) in times.items(): print(f"| {name} | {first:.0f} | {again:.2f} | {first / times['llmcam'][0]:.1f} × |")
    print(f"| `bind_arguments`, two plain parameters | | {bind_speed(n // 5):.2f} | |")
    if absent: print(f"\nNot installed here: {', '.join(absent)}.")

if __name__ == "__main__": main()
