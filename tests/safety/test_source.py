"A rule over the source: what reaches out, runs or revives code stands in the few modules that guard it. Each rule with a snippet that it catches."
import ast
from functools import lru_cache
from pathlib import Path

import pytest

import llmcam

PACKAGE = Path(llmcam.__file__).parent
HTTP = {"requests", "httpx", "httpx2", "httpcore2", "aiohttp", "urllib3", "pycurl", "http.client", "ftplib", "telnetlib", "websockets", "websocket"}
REVIVE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}


def dotted(node):
    "`a.b.c` of a name or an attribute; empty for anything else."
    if isinstance(node, ast.Name): return node.id
    return f"{base}.{node.attr}" if isinstance(node, ast.Attribute) and (base := dotted(node.value)) else getattr(node, "attr", "")


def imports(node):
    "Modules that a statement imports."
    if isinstance(node, ast.Import): return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom) and not node.level: return {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return set()


def calls(node, *names):
    "Is `node` a call of one of `names`, as a whole or as the end of a dotted name?"
    called = dotted(node.func) if isinstance(node, ast.Call) else ""
    return any(called == name or called.endswith("." + name) for name in names)


def keyword(node, name):
    "The value of a keyword of a call as source."
    return next((ast.unparse(k.value) for k in getattr(node, "keywords", ()) if k.arg == name), None)


def is_http(node):
    used = {name for module in imports(node) for name in HTTP if module == name or module.startswith(name + ".")}
    return bool(used) or calls(node, "urlopen", "urlretrieve", "create_connection", "open_connection") or "urllib.request" in imports(node)


RULES = {  # name: (what is looked for, modules that may, snippets that it catches)
    "raw HTTP": (is_http, {"core/net", "vision/stream", "vision/yolo"},  # the proxy before FFmpeg, and a look whether the weights' host can be reached
        ["import requests", "from httpx2 import Client", "from urllib.request import urlopen", "import http.client", "socket.create_connection(('h', 80))"]),
    "video": (lambda node: calls(node, "VideoCapture"), {"vision/stream", "vision/watch"}, ["cv2.VideoCapture('rtsp://h/x')", "from cv2 import VideoCapture\nVideoCapture(0)"]),
    "imports by name": (lambda node: calls(node, "import_module", "__import__", "run_module", "run_path", "spec_from_file_location"), {"core/fc", "utils/store", "vision/camera", "__init__"},  # which has a table of names
        ["importlib.import_module(name)", "__import__(name)", "runpy.run_path(name)"]),
    "programs": (lambda node: bool(imports(node) & {"subprocess", "pty", "pexpect"}) or calls(node, "os.system", "os.popen", "create_subprocess_exec", "create_subprocess_shell", "posix_spawn"),
        {"utils/bash_command", "vision/stream", "vision/yolo"}, ["import subprocess", "os.system(command)", "asyncio.create_subprocess_shell(command)"]),
    "a shell in between": (lambda node: isinstance(node, ast.Call) and keyword(node, "shell") == "True" or calls(node, "os.system", "os.popen", "getoutput"), set(),
        ["subprocess.run(command, shell=True)", "os.popen(command)"]),
    "text as code": (lambda node: isinstance(node, ast.Call) and (getattr(node.func, "id", "") in ("eval", "exec", "compile") or dotted(node.func) in ("builtins.eval", "builtins.exec")), {"core/fn_to_schema"}, ["builtins.eval(text)", "eval(text)", "exec(text)", "compile(text, '', 'exec')"]),
    "revived objects": (lambda node: bool({m.split(".")[0] for m in imports(node) if m} & REVIVE) or calls(node, "torch.load", "np.load") or keyword(node, "allow_pickle") == "True", {"core/fn_to_schema"},  # which copies what it has made itself
        ["import pickle", "from joblib import load", "torch.load(path)", "np.loadtxt(x); f(x, allow_pickle=True)"]),
    "YAML with types": (lambda node: calls(node, "yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all") and keyword(node, "Loader") not in ("yaml.CSafeLoader", "yaml.SafeLoader", "_yaml_loader()"), set(),
        ["yaml.load(text, Loader=yaml.Loader)", "yaml.unsafe_load(text)"]),
    "unchecked certificates": (lambda node: isinstance(node, ast.Call) and keyword(node, "verify") == "False" or calls(node, "_create_unverified_context"), set(), ["fetch(url, verify=False)"]),
    "files that others can guess": (lambda node: calls(node, "mktemp"), set(), ["tempfile.mktemp()"]),
    "secrets that others can guess": (lambda node: "random" in imports(node), {"vision/sample", "vision/camera"}, ["import random"]),
    "markup from text": (lambda node: calls(node, "NotStr"), {"application/chat_ui"}, ["NotStr(text)"]),
}


@lru_cache(None)
def nodes(source):
    "What of `source` the rules look at."
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Call, ast.Import, ast.ImportFrom))]


def found(rule, source):
    "Lines of `source` that break `rule`."
    return [node.lineno for node in nodes(source) if rule(node)]


@pytest.mark.parametrize("name", RULES)
def test_only_guarded_modules(name):
    rule, guarded, _ = RULES[name]
    sources = {path.relative_to(PACKAGE).with_suffix("").as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
    assert len(sources) > 20
    broken = {module: lines for module, source in sources.items() if module not in guarded and (lines := found(rule, source))}
    assert broken == {}


@pytest.mark.parametrize("name", RULES)
def test_weak_the_rule_catches_what_it_is_for(name):
    rule, _, snippets = RULES[name]
    assert [snippet for snippet in snippets if not found(rule, snippet)] == []


def test_pages_load_nothing_but_their_own():
    "No address of another host in what the page is made of, and no script or style inside its markup."
    import re
    for path in (PACKAGE / "application" / "static").iterdir():
        assert not re.search(r"""(?:src|href|url|import|fetch)\s*[=(]?\s*["'(]\s*(?:https?:)?//""", path.read_text()), path.name
    script = (PACKAGE / "application" / "static" / "chat.js").read_text()
    assert not re.search(r"\beval\b|new Function|document\.write|insertAdjacentHTML|outerHTML", script) and script.count("innerHTML") == 1
