"Files: no spelling of a path gets a browser or a model to one that is not theirs."
import json, os, tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pytest
from safety.helpers import answering, cookies, raw, visiting

from llmcam.core.fc import fn_exec
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.policy import PolicyError, ToolPolicy, confine, confine_write, data_dir, gate, read_own, write_over

SECRET = b"the secret of the house"

# {s} is the secret's absolute path, {up} the way up from the data directory to it
SPELLINGS = """../secret.jpg  ../../secret.jpg  {up}/secret.jpg  {s}  /{s}  //{s}  /./{s}  .//{up}/secret.jpg  ./../secret.jpg  mine/../{up}/secret.jpg
..%2fsecret.jpg  ..%2F..%2Fsecret.jpg  %2e%2e/secret.jpg  %2e%2e%2fsecret.jpg  .%2e/secret.jpg  %2E./secret.jpg  ..%252fsecret.jpg  %252e%252e%252fsecret.jpg  %2f{s}
....//secret.jpg  ..../secret.jpg  ...//secret.jpg  ..;/secret.jpg  ..%3b/secret.jpg  ..%00/secret.jpg  cap_1.jpg%00../secret.jpg  secret.jpg%00.jpg  %00  %00{s}
..%5csecret.jpg  ..\\secret.jpg  ..%5c..%5csecret.jpg  \\{s}  C:{s}  c:%5csecret.jpg  file:{s}  file://{s}  file:///{s}  \\\\localhost\\secret.jpg  ~/secret.jpg  ~root/.profile
%c0%ae%c0%ae/secret.jpg  %c0%ae%c0%ae%c0%afsecret.jpg  ..%c0%afsecret.jpg  ..%ef%bc%8fsecret.jpg  %ef%bc%8e%ef%bc%8e/secret.jpg  ..%u2215secret.jpg
link.jpg  folder/secret.jpg  folder/../../secret.jpg  ./link.jpg  link.jpg/  hard.txt  /etc/passwd  etc/passwd  /proc/self/environ  /dev/stdin
cap_1.jpg/../../secret.jpg  cap_1.jpg::$DATA/../secret.jpg  con  nul.jpg  aux/../secret.jpg  .  ..""".split()
assert len(SPELLINGS) >= 60


@pytest.fixture
def house(tmp_path, monkeypatch):
    "A data directory with a link and a linked folder that lead to a secret beside it."
    from PIL import Image
    home = tmp_path / "home"; home.mkdir()
    Image.new("RGB", (8, 8)).save(home / "secret.jpg", comment=SECRET)
    assert SECRET in (home / "secret.jpg").read_bytes()
    monkeypatch.setenv("LLMCAM_DATA", str(home / "data"))
    return home


def furnish(folder, home):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link.jpg").symlink_to(home / "secret.jpg")
    (folder / "folder").symlink_to(home)
    (folder / "hard.txt").write_bytes(SECRET)


def spelled(home, folder):
    up = "/".join([".."] * len(folder.relative_to(home).parts))
    return [path.format(s=home / "secret.jpg", up=up) for path in SPELLINGS]


@pytest.mark.parametrize("method, headers", [("GET", {}), ("HEAD", {}), ("GET", {"Range": "bytes=0-"})], ids=["GET", "HEAD", "Range"])
def test_the_page_serves_nothing_else(house, method, headers):
    with answering() as (url, manager), visiting(url) as client:
        [session_id] = manager
        folder = Path(manager[session_id].policy.data)
        furnish(folder, house)
        leaks, faults = [], []
        for path in spelled(house, folder):
            status, body = raw(url, method, "/data/" + path, {"Cookie": cookies(client), **headers})
            if SECRET in body or status in (200, 206): leaks.append((path, status))
            if status >= 500: faults.append((path, status))
        assert (leaks, faults) == ([], [])


def test_weak_a_path_that_is_joined_leaks(house):
    "The same spellings where the name is joined to the folder, as a handler might: many arrive."
    folder = house / "data"
    furnish(folder, house)
    def read(path):
        try: return (folder / unquote(path)).read_bytes()
        except (OSError, ValueError): return b""
    assert sum(SECRET in read(path) for path in spelled(house, folder)) >= 10


def reads(path: str) -> str:
    "Read a file as a tool does."
    return confine(path).read_bytes().decode("latin-1")

def writes(path: str) -> str:
    "Write a file as a tool does."
    where = confine_write(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text("written by a model")
    return "written"

reads.tool_level = writes.tool_level = "read"


def call(tool, **arguments):
    return {"id": "1", "type": "function", "function": {"name": tool["function"]["name"], "arguments": json.dumps(arguments)}}


@pytest.mark.parametrize("policy", [ToolPolicy(), ToolPolicy.web()], ids=["default", "web"])
def test_no_tool_reads_it(house, policy):
    "By the tools that take a picture or a camera, and by one that does nothing but read."
    from llmcam.vision.camera import capture_frame
    from llmcam.vision.yolo import detect_objects
    folder = data_dir().resolve()
    furnish(folder, house)
    tools = [function_schema(reads, level="read"), function_schema(detect_objects), function_schema(capture_frame)]
    for path in spelled(house, folder):
        for tool, name in zip(tools, ("path", "image_path", "camera")):
            arguments = {next(iter(tool["function"]["parameters"]["properties"])): unquote(path)}
            result = fn_exec(call(tool, **arguments), tools, policy)
            if unquote(path) == "hard.txt" and tool is tools[0]: continue  # a file of the folder itself
            assert set(result) == {"error"}, (path, tool["function"]["name"], result)
            assert SECRET.decode() not in result["error"]
    assert not [p for p in folder.iterdir() if p.name.startswith(("detection_", "cap_"))]


@pytest.mark.parametrize("policy", [ToolPolicy(), ToolPolicy.web()], ids=["default", "web"])
def test_no_tool_writes_over_it(house, policy):
    folder = data_dir().resolve()
    furnish(folder, house)
    tool, before = function_schema(writes, level="read"), (house / "secret.jpg").read_bytes()
    outside = lambda: sorted(str(p) for p in house.rglob("*") if not p.is_relative_to(folder))
    there = outside()
    for path in spelled(house, folder): fn_exec(call(tool, path=unquote(path)), [tool], policy)
    assert (house / "secret.jpg").read_bytes() == before and outside() == there


def test_weak_without_a_policy_the_tools_reach_it(house):
    "A person's own call goes where it is told: the same tools, the same paths."
    folder = data_dir().resolve()
    furnish(folder, house)
    def reached(path):
        try: return SECRET.decode() in reads(unquote(path))
        except (OSError, ValueError): return False
    assert sum(map(reached, spelled(house, folder))) >= 5


@pytest.mark.parametrize("name", ["CON", "nul.txt", "a:b", "x.", "trailing. . .", "COM¹", "a\u202egpj.exe", "..", ".", "\u2025", "⁄etc⁄passwd", "a\x00b", "a/b\\c", "-rf", "ﬁle", "ＣＯＮ", " ", "a" * 500])
def test_names_are_plain(name):
    "What a place, a title or an address says becomes a name that no system takes for anything else."
    import re
    from llmcam.utils.file_manager import capture_path, safe_name
    made = safe_name(name)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", made) and len(made) <= 61 and not made.endswith(".")
    assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", made, re.I)
    assert capture_path(name).parent == data_dir()


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "~/x.jpg", "CON.jpg", "a:b.jpg", "x.jpg. .", "x.py", "x.pt", ".bashrc", "sessions/x.jpg", "caches/x.jpg", "-caches/x.jpg", "cáches/x.jpg", ".sessions-/x.jpg", "own/x.jpg", "-own/x.jpg", "x.jpg\x00.py", "folder/x.jpg", "link.jpg"])
def test_downloads_stay_in_the_data(house, name):
    from servers import LocalServer
    from llmcam.utils.file_manager import download_file
    folder = data_dir().resolve()
    furnish(folder, house)
    (folder / "caches").mkdir(); (folder / "sessions").mkdir(); (folder / "own").symlink_to(folder / "caches")
    before = {p for p in house.rglob("*") if not p.is_relative_to(folder)}
    with LocalServer({"/a": (200, {"Content-Type": "image/jpeg"}, b"\xff\xd8\xff picture")}) as server, gate(ToolPolicy(trusted=server.host)):
        try: saved = Path(download_file(server.url + "/a", name))
        except PolicyError: saved = None
    assert {p for p in house.rglob("*") if not p.is_relative_to(folder)} == before
    assert saved is None or saved.resolve().is_relative_to(folder) and saved.suffix == ".jpg" and not saved.is_symlink() and ":" not in saved.name
    assert not [*(folder / "caches").iterdir(), *(folder / "sessions").iterdir()]


def planted(write, read):
    "Which of what a command left under names of llmcam leads out of the data directory, by what writes and reads it."
    with tempfile.TemporaryDirectory() as home, gate(ToolPolicy(data=f"{home}/data")):
        outside, folder = Path(home, "outside"), data_dir()
        outside.mkdir(); (outside / "1.jpg").write_bytes(SECRET)
        (folder / "watch_1.jpg").symlink_to(outside / "1.jpg"); (folder / "watch_2.jpg").symlink_to(outside / "new.jpg"); (folder / "view").symlink_to(outside)
        def leads(act, *args):
            with suppress(OSError): return SECRET in (act(*args) or b"")
        names = [name for name in ("watch_1.jpg", "view/1.jpg") if leads(read, folder / name)]
        for name in ("watch_1.jpg", "watch_2.jpg", "view/2.jpg"): leads(lambda: write(folder / name, b"a picture") and None)
        return names, sorted(p.name for p in outside.iterdir() if p.read_bytes() != SECRET)


def test_links_that_a_command_planted_lead_nowhere():
    assert planted(write_over, lambda path: read_own(path) if path.parent.name != "view" else b"") == ([], [])
    assert planted(Path.write_bytes, Path.read_bytes) == (["watch_1.jpg", "view/1.jpg"], ["1.jpg", "2.jpg", "new.jpg"]), "weak: plain reading and writing"


def test_only_plain_files_are_read(own_data):
    write_over(data_dir() / "a.jpg", b"12345")
    os.mkfifo(data_dir() / "pipe.jpg")
    assert read_own(data_dir() / "a.jpg", 5) == b"12345" and [p.name for p in data_dir().iterdir() if p.name.startswith(".")] == []
    for path, limit in (("pipe.jpg", 5), ("a.jpg", 4), ("gone.jpg", 5)):
        with pytest.raises(OSError): read_own(data_dir() / path, limit)
