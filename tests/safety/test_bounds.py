"""What is too much, too long or too big ends in time, and takes no more memory than it may.

Each case runs in a process of its own, which measures by how much its memory has grown at most: under 64 MiB."""
import json, os, subprocess, sys, textwrap
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent

BEGIN = """
import json, sys, threading, time, warnings
import conftest; conftest.pytest_configure(None)
from servers import LocalServer
from llmcam.core.fc import Budget, complete, fn_exec
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.offline import ScriptedModel
from llmcam.core.policy import ToolPolicy, data_dir, gate
from llmcam.core.net import fetch
import llmcam.utils.file_manager, llmcam.vision.camera, httpx2, httpcore2, PIL.Image, numpy, cv2
def messages(): return [{"role": "user", "content": "Go"}]
def call(name, **arguments): return (name, arguments)
def top(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024  # ru_maxrss would begin at what our parent has
with LocalServer({"/warm": b"x"}) as warm: fetch(warm.url + "/warm")
before, begun = top(), time.monotonic()
def end(said):
    print(json.dumps({"grown": top() - before, "seconds": time.monotonic() - begun, "said": str(said)[-400:]}), flush=True)
    import os; os._exit(0)  # hanging tools do not keep it
"""

CASES = {  # name: (code that ends in `end(...)`, most seconds on a quiet machine, a word of what is said)
    "endless calls": ("""
        class Endless(ScriptedModel):
            def reply(self, messages, tools=None, *args, **kwargs): return None, [{"name": "again", "arguments": "{}"}]
        def again() -> str:
            "Go on."
            return "x" * 1_000_000
        end(complete(messages(), [function_schema(again, level="read")], client=Endless(), budget=Budget(turns=12, calls=40, seconds=20))[1])""", 20, "stopped"),
    "wide fan-out": ("""
        made = []
        def again(n: int) -> str:
            "Go on."
            made.append(n)
            return "x" * 100_000
        model = ScriptedModel([call("again", n=n) for n in range(5000)], "Enough.")
        said = complete(messages(), [function_schema(again, level="read")], client=model, budget=Budget(calls=50))[1]
        end(f"{said} {len(made)} ran, {threading.active_count()} threads" if len(made) <= 50 else "TOO MANY")""", 20, "ran"),
    "a hanging tool": ("""
        stop = threading.Event()
        def hang() -> str:
            "Wait."
            stop.wait()
        end(complete(messages(), [function_schema(hang, level="read")], client=ScriptedModel([call("hang")] * 3, "It hangs."), budget=Budget(tool_seconds=1.0, seconds=60))[1])""", 8, "hang"),
    "an endless result": ("""
        def endless():
            "Count."
            n = 0
            while True: n += 1; yield n
        end(complete(messages(), [function_schema(endless, level="read")], client=ScriptedModel([call("endless")], "So many."), budget=Budget(tool_seconds=5))[1])""", 10, "many"),
    "a gzip bomb": ("""
        import gzip, io
        packed = io.BytesIO()
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as file:
            for _ in range(400): file.write(bytes(2**20))
        before = top()
        with LocalServer({"/a": (200, {"Content-Encoding": "gzip"}, packed.getvalue())}) as server, gate(ToolPolicy(trusted=server.host)):
            try: end(fetch(server.url + "/a"))
            except Exception as error: end(f"refused {error}")""", 20, "refused"),
    "a PNG bomb": ("""
        import struct, zlib
        def chunk(kind, body): return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        packer = zlib.compressobj(9); rows = b"".join([packer.compress(bytes(60001 * 100)) for _ in range(20)] + [packer.flush()])
        bomb = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        (data_dir() / "bomb.png").write_bytes(bomb); (data_dir() / "bomb.jpg").write_bytes(bomb)
        from llmcam.vision.yolo import detect_objects
        from llmcam.vision.gpt4v import ask_gpt4v_about_image_file
        before, said = top(), []
        with LocalServer({"/a.png": (200, {"Content-Type": "image/png"}, bomb)}) as server, gate(ToolPolicy(trusted=server.host)):
            for use in (lambda: llmcam.vision.camera.capture_frame(server.url + "/a.png"), lambda: llmcam.vision.camera.capture_frame(str(data_dir() / "bomb.png")),
                        lambda: detect_objects(str(data_dir() / "bomb.png")), lambda: detect_objects(str(data_dir() / "bomb.jpg")), lambda: ask_gpt4v_about_image_file(str(data_dir() / "bomb.png"), client=ScriptedModel("{}", "{}"))):
                try: said.append(use())
                except Exception as error: said.append("refused " + str(error))
            end(all(str(each).startswith("refused") for each in said) and "refused" or said)""", 30, "refused"),
    "a PNG bomb beside the talk": ("""
        import io
        from llmcam.application.chat_ui import picture_size
        packed = io.BytesIO(); PIL.Image.new("L", (9300, 9300)).save(packed, "PNG", compress_level=9)
        path = data_dir() / "bomb.png"; path.write_bytes(packed.getvalue()); del packed
        open("/proc/self/clear_refs", "w").write("5")  # what we took to make it does not count
        before = top()
        end(picture_size(path) is None and "no size")""", 10, "no size"),
    "words for patterns": ("""
        from llmcam.vision.gpt4v import parse_facts
        from llmcam.vision.watch import Rule
        said = []
        for every in ("1" * 100_000 + "x", "every " + " " * 100_000 + "x"):
            try: Rule("sample:harbour", "boat", every=every)
            except ValueError: said.append("refused")
        for text in ("```{" * 25_000 + '```{"car": 2}```', "```json {]" * 10_000 + '```{"car": 2}```', "{1," * 100_000 + '}```json {"car": 2} ```'): said.append(parse_facts(text).get("car"))
        end(said)""", 2, "'refused', 'refused', 2, 2, 2"),
    "JSON as deep as a well": ("""
        with LocalServer({"/a": (200, {"Content-Type": "application/json"}, b"[" * 2_000_000)}) as server, gate(ToolPolicy(trusted=server.host)):
            from llmcam.core.oas_to_schema import api_schema, load_oas
            try: end(load_oas(server.url + "/a"))
            except Exception as error: end("refused " + type(error).__name__)""", 20, "refused"),
    "Markdown without end": ("""
        from llmcam.application.chat_ui import render_markdown
        before = top()
        for text in ("x" * 5_000_000, "[" * 90_000, "*a " * 90_000, ">" * 90_000, "- " * 90_000, "![](" * 90_000, "`" * 90_000, "|a" * 90_000 + "\\n" + "|-" * 90_000, "[a](" * 99_999, "&" * 999_999, "<!--" * 99_999):
            render_markdown(text, {"cap_1.jpg": None})
        end("rendered")""", 15, "rendered"),
    "output without end": ("""
        from llmcam.utils.bash_command import execute_bash_command
        end(len(execute_bash_command("yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", timeout=2)) < 25_000 and "cut")""", 8, "cut"),
    "a feed without end": ("""
        from llmcam.application.chat_ui import ChatMessage, Feed
        feed, before = Feed(), top()
        for n in range(600): feed.post(f"i{n}", ChatMessage("x" * 30_000, False), "model")
        end(f"{len(feed.items)} kept")""", 60, "kept"),
}


HUGE = """
    def endless(request):
        request.handler.send_response(200); request.handler.send_header("Content-Type", "image/jpeg"); request.handler.end_headers()
        try:
            for _ in range(200): request.handler.wfile.write(bytes(2**20))
        except OSError: pass
    with LocalServer({"/a": endless}) as server, gate(ToolPolicy(trusted=server.host)):
        try: end(GET(server.url + "/a"))
        except Exception as error: end(f"refused {error}")"""
for get in ("fetch", "llmcam.utils.file_manager.download_file", "llmcam.vision.camera.capture_frame"):
    CASES[f"a body of 200 MiB, by {get.rpartition('.')[2]}"] = HUGE.replace("GET", get), 30, "refused"


def measure(code, tmp_path, seconds=100):
    "Run `code` in a process of its own; what it measured."
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "LLMCAM_DATA": str(tmp_path / "data")}
    done = subprocess.run([sys.executable, "-c", BEGIN + textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0 and done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_it_ends_within_its_budget(name, tmp_path):
    code, seconds, word = CASES[name]
    measured = measure(code, tmp_path)
    assert word in measured["said"] and measured["seconds"] < 5 * seconds and measured["grown"] < 64, measured


def test_weak_the_same_without_bounds(tmp_path):
    "What a plain client, a plain decoder and a plain reader take for the same."
    bomb = """
        import gzip, io
        packed = gzip.compress(bytes(150 * 2**20))
        before = top()
        with LocalServer({"/a": (200, {"Content-Encoding": "gzip"}, packed)}) as server: size = len(httpx2.get(server.url + "/a", trust_env=False).content)
        end(size)"""
    assert measure(bomb, tmp_path)["grown"] > 100
