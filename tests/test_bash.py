"Shell commands: as they are for a person, boxed in or refused for a model."
import os, socket, threading, time

import pytest
from conftest import lacking

from llmcam.core.fc import fn_exec
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.policy import PolicyError, ToolPolicy, data_dir, gate
from llmcam.utils import bash_command as B
from llmcam.utils.bash_command import execute_bash_command, sandbox_works


@pytest.fixture
def boxed():
    "Run a command as a model would, in the sandbox."
    if not sandbox_works(): lacking("a working bubblewrap")
    def run(command, **kwargs):
        with gate(ToolPolicy(shell="bwrap")): return execute_bash_command(command, **kwargs)
    return run


def survivors(mark): return [p for p in os.listdir("/proc") if p.isdigit() and mark in _cmdline(p)]
def _cmdline(pid):
    try: return open(f"/proc/{pid}/cmdline").read()
    except OSError: return ""


def test_a_person_runs_anything():
    assert execute_bash_command("echo hello") == "hello\n"
    assert execute_bash_command("echo oops >&2; exit 3") == "oops\n[exit code 3]"
    assert "exit code 0" in execute_bash_command("true")
    assert os.getcwd() in execute_bash_command("pwd")


def test_the_deadline_kills_the_whole_group():
    begun = time.monotonic()
    said = execute_bash_command("sleep 98.7 & sleep 98.7; echo never", timeout=0.3)
    assert "killed" in said and time.monotonic() - begun < 5
    time.sleep(0.1)
    assert survivors("98.7") == []


def test_a_command_that_closed_its_output_still_ends(): assert "killed" in execute_bash_command("exec >&- 2>&-; sleep 97.6", timeout=0.3)
def test_a_background_job_does_not_hold_us(): assert execute_bash_command("sleep 2 & echo ready", timeout=20).startswith("ready")


def test_output_is_capped():
    said = execute_bash_command("head -c 50000000 /dev/zero | tr '\\0' x; echo end")
    assert len(said) < 21_000 and "left out" in said and said.rstrip().endswith("end")


def test_bytes_that_are_no_text(): assert "�" in execute_bash_command("printf '\\xff\\xfe'")
def test_nothing_to_read_from_the_keyboard(): assert "exit code" in execute_bash_command("read line", timeout=5)


def test_off():
    with gate(ToolPolicy.web()), pytest.raises(PolicyError, match="off here"): execute_bash_command("id")


def test_host_by_the_persons_word():
    with gate(ToolPolicy.notebook()): assert execute_bash_command("echo $HOME") == f"{os.environ['HOME']}\n"


def test_without_a_sandbox_nothing_runs(monkeypatch, own_data):
    monkeypatch.setattr(B, "sandbox_works", lambda: False)
    with gate(ToolPolicy()), pytest.raises(PolicyError, match="no command was run"): execute_bash_command(f"touch {own_data}/ran")
    assert not (own_data / "ran").exists()


def test_the_gate_refuses_it_by_its_level():
    tool = function_schema(execute_bash_command, level=execute_bash_command.tool_level)
    call = {"id": "1", "type": "function", "function": {"name": "execute_bash_command", "arguments": '{"command": "echo hi"}'}}
    assert "can run programs" in fn_exec(call, [tool], ToolPolicy())["error"]
    assert fn_exec(call, [tool], ToolPolicy.notebook()) == "hi\n"


# ---------------------------------------------------------------- the sandbox; each attack works outside of it

def test_data_is_writable_and_its_path_is_the_same(boxed, own_data):
    assert boxed(f"echo hello > {own_data}/note.txt; cat {own_data}/note.txt") == "hello\n"
    assert (own_data / "note.txt").read_text() == "hello\n"


def test_relative_paths_mean_the_same(boxed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLMCAM_DATA", "data")
    (data_dir() / "a.txt").write_text("a")
    assert boxed("cat data/a.txt") == "a" == execute_bash_command("cat data/a.txt")


ESCAPES = {
    "write to the system": ("touch /usr/mine && echo ESCAPED; rm -f /usr/mine", None),
    "write to /etc": ("echo x > /etc/llmcam_test && echo ESCAPED; rm -f /etc/llmcam_test", None),
    "write beside the data": ("touch {out}/file && echo ESCAPED", None),
    "read beside the data": ("cat {out}/secret.txt", "ESCAPED"),
    "follow a link out": ("ln -sf {out}/secret.txt {data}/link; cat {data}/link", "ESCAPED"),
    "read the home": ("ls ~root {home} && echo ESCAPED", None),
    "read the environment": ("echo $LLMCAM_SECRET", "ESCAPED"),
    "read the parent's environment": ("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep LLMCAM_SECRET", "ESCAPED"),
    "see other processes": ("test -d /proc/{pid} && echo ESCAPED", None),
    "read kernel messages": ("head -c1 /dev/kmsg && echo ESCAPED", None),
    "mount": ("mount -t tmpfs none /usr && echo ESCAPED", None),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_no_way_out(boxed, name, own_data, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCAM_SECRET", "ESCAPED")
    outside = tmp_path / "outside"; outside.mkdir()
    (outside / "secret.txt").write_text("ESCAPED")
    command = ESCAPES[name][0].format(out=outside, data=own_data, home=os.path.expanduser("~"), pid=os.getpid())
    said = boxed(f"echo STARTED; {command}")
    assert "STARTED" in said and "ESCAPED" not in said


@pytest.mark.parametrize("name", ["write beside the data", "read beside the data", "follow a link out", "read the environment", "see other processes",
                                  "read the parent's environment"])
def test_the_same_works_on_the_host(name, own_data, tmp_path, monkeypatch):
    monkeypatch.setenv("LLMCAM_SECRET", "ESCAPED")
    outside = tmp_path / "outside"; outside.mkdir(); data_dir()
    (outside / "secret.txt").write_text("ESCAPED")
    assert "ESCAPED" in execute_bash_command(ESCAPES[name][0].format(out=outside, data=own_data, home="/", pid=os.getpid()))


def test_no_network(boxed):
    with socket.create_server(("127.0.0.1", 0)) as server:
        attack = f"exec 3<>/dev/tcp/127.0.0.1/{server.getsockname()[1]} && echo CONNECTED"
        assert "CONNECTED" not in boxed(f"echo STARTED; {attack}")
        assert "CONNECTED" in execute_bash_command(attack)


def test_nothing_survives_the_sandbox(boxed):
    assert "killed" in boxed("(setsid nohup sleep 96.5 >/dev/null 2>&1 &); setsid sleep 96.5", timeout=1.0)
    boxed("(setsid nohup sleep 95.4 >/dev/null 2>&1 &); echo bye", timeout=5)
    time.sleep(0.2)
    assert survivors("96.5") == survivors("95.4") == []


def test_a_fork_bomb_ends_at_the_deadline(boxed):
    begun = time.monotonic()
    boxed("for i in $(seq 300); do sleep 94.3 & done; wait", timeout=1.5)
    assert time.monotonic() - begun < 10
    time.sleep(0.2)
    assert survivors("94.3") == []


def test_memory_and_files_are_limited(boxed, own_data):
    assert "exit code" in boxed("tail /dev/zero", timeout=60)
    boxed(f"head -c 400000000 /dev/zero > {own_data}/big", timeout=20)
    assert (own_data / "big").stat().st_size <= 2**28
    assert "exit code" in boxed("head -c 100000000 /dev/zero > /tmp/big")
