"""The sandbox of `execute_bash_command`: attacks that start for certain, and end inside.

Each attack says STARTED, and ESCAPED if it gets out. Beside them stand the same attacks where there is no sandbox, or no watcher: there they work."""
import os, platform, pty, shutil, signal, socket, subprocess, sys, time
from contextlib import nullcontext, suppress

import pytest
from conftest import lacking

from llmcam.core.policy import ToolPolicy, data_dir, gate
from llmcam.utils import bash_command as B
from llmcam.utils.bash_command import execute_bash_command, sandbox_works

PYTHON = "/usr/bin/python3 -c"
_ATTACH = 'import ctypes; print("ESCAPED" if ctypes.CDLL(None).ptrace(16, {victim}, 0, 0) == 0 else "refused")'  # PTRACE_ATTACH
_SEND = 'import socket; s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + "{abstract}"); s.send(b"x"); print("ESCAPED")'

ESCAPES = {  # name: (command, does it work where there is no sandbox?)
    "call a port of the host": ("exec 3<>/dev/tcp/127.0.0.1/{port} && echo ESCAPED", True),
    "call a socket without a name in the file system": (f"{PYTHON} '{_SEND}'", True),
    "read the passwords": ("head -c 20 /etc/shadow && echo ESCAPED", True),
    "read the home": ("ls -A {home} && echo ESCAPED", True),
    "read beside the data": ("grep -q SECRET {out}/secret.txt && echo ESCAPED", True),
    "write to the system": ("touch /usr/lib/llmcam-escape && rm /usr/lib/llmcam-escape && echo ESCAPED", True),
    "write beside the data": ("touch {out}/mine && echo ESCAPED", True),
    "read the environment": ("env | grep -q LLMCAM_CANARY && echo ESCAPED", True),
    "read the environment of others": ("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep -q LLMCAM_CANARY && echo ESCAPED", True),
    "see processes of the host": ("test -e /proc/{victim}/stat && grep -q sleep /proc/{victim}/cmdline && echo ESCAPED", True),
    "attach to a process of the host": (f"{PYTHON} '{_ATTACH}'", False),
    "signal a process of the host": ("kill -0 {victim} && echo ESCAPED", True),
    "signal everybody": ("trap '' TERM; kill -TERM -1; sleep .2; kill -0 {victim} && echo ESCAPED", False),
    "mount": ("mount -t tmpfs none /mnt && echo ESCAPED", False),
    "make namespaces": ("unshare -Ur id -u | grep -qx 0 && echo ESCAPED", False),
    "change root": ("chroot / true && echo ESCAPED", False),
    "become root by a program": ("su -c 'echo ESCAPED' </dev/null; sudo -n echo ESCAPED", False),
    "make a device": ("mknod {data}/disk b 8 0 && head -c1 {data}/disk && echo ESCAPED; mknod {data}/mem c 1 1 && echo ESCAPED", False),
    "open a device": ("for d in /dev/mem /dev/kmsg /dev/sda /dev/vda /dev/kvm /dev/fuse; do head -c1 $d >/dev/null && echo ESCAPED; done", False),
    "write kernel settings": ("cat /proc/sys/kernel/core_pattern > /tmp/p; cat /tmp/p > /proc/sys/kernel/core_pattern && echo ESCAPED", False),
    "follow a link in the data": ("ln -sf {out}/secret.txt {data}/link; grep -q SECRET {data}/link && echo ESCAPED", True),
    "change the sandbox's own root": ("touch /here && echo ESCAPED; mkdir /proc/1/x && echo ESCAPED", False),
}


@pytest.fixture(autouse=True)
def sandbox():
    if not sandbox_works(): lacking("a working bubblewrap")


@pytest.fixture
def prey(tmp_path, monkeypatch):
    "What an attack is after: a secret file and variable, a process, a port, a socket."
    monkeypatch.setenv("LLMCAM_CANARY", "secret")
    out = tmp_path / "outside"; out.mkdir(); (out / "secret.txt").write_text("SECRET")
    abstract = f"llmcam-{os.getpid()}-{time.monotonic_ns()}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix, subprocess.Popen(["sleep", "593"]) as victim:
        unix.bind("\0" + abstract); unix.listen()
        yield dict(out=out, data=data_dir().resolve(), home=os.path.expanduser("~"), port=tcp.getsockname()[1], abstract=abstract, victim=victim.pid)
        assert victim.poll() is None, "the process of the host lives"
        victim.kill()


def boxed(command, timeout=20.0):
    with gate(ToolPolicy(shell="bwrap")): return execute_bash_command(command, timeout)


def survivors(mark):
    "Processes whose command line has `mark`, once they had the time to go."
    for _ in range(20):
        found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True).stdout.split()
        if not found: return []
        time.sleep(.05)
    return found


@pytest.mark.parametrize("name", ESCAPES)
def test_it_stays_inside(name, prey):
    said = boxed("echo STARTED; " + ESCAPES[name][0].format(**prey))
    assert "STARTED" in said and "ESCAPED" not in said, said


@pytest.mark.parametrize("name", [name for name, (_, works) in ESCAPES.items() if works])
def test_weak_without_a_sandbox_it_gets_out(name, prey):
    assert "ESCAPED" in execute_bash_command(ESCAPES[name][0].format(**prey))


_TYPE = """import fcntl, os
try:
    terminal = os.open("/dev/tty", os.O_RDWR)
    for c in "id": fcntl.ioctl(terminal, 0x5412, c.encode())  # TIOCSTI
    print("ESCAPED")
except OSError as error: print("REFUSED", error.strerror)
"""

def test_terminal_injection(own_data):
    "A command cannot type into the terminal that llmcam was started from."
    (data_dir() / "type.py").write_text(_TYPE)
    code = ("from llmcam.core.policy import *; from llmcam.utils.bash_command import execute_bash_command\n"
            f"with gate(ToolPolicy(shell='bwrap')): print(execute_bash_command('echo STARTED; /usr/bin/python3 {data_dir().resolve()}/type.py'))")
    pid, terminal = pty.fork()
    if pid == 0: os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    said = b""
    with suppress(OSError):
        while chunk := os.read(terminal, 4096): said += chunk
    os.waitpid(pid, 0); os.close(terminal)
    assert b"STARTED" in said and b"ESCAPED" not in said and b"REFUSED No such device" in said, said


def test_a_program_that_runs_as_its_owner_is_disarmed(own_data):
    said = boxed(f"cp /usr/bin/id {data_dir().resolve()}/id; chmod 6755 {own_data}/id; ls -l {own_data}/id")
    assert "rws" in said, "it was made"
    assert (own_data / "id").stat().st_mode & 0o6000 == 0


def test_a_program_in_a_folder_that_cannot_be_listed_is_disarmed(own_data):
    boxed(f"cd {data_dir().resolve()}; mkdir -p s/t; cp /usr/bin/id s/t/id; chmod 4755 s/t/id; chmod 311 s/t s .; ln -s /usr out")
    assert (own_data / "s/t/id").stat().st_mode & 0o6000 == 0
    for folder in (own_data, own_data / "s", own_data / "s/t"): assert folder.stat().st_mode & 0o500 == 0o500, "else another user than root could not have looked"


_CALL = "import ctypes, os; call = ctypes.CDLL(None).syscall; print('STARTED'); print('ESCAPED' if {} else 'refused')"
_SHMGET, _, _, _KEYCTL, *_ = B._CALLS.get(platform.machine(), (0, (0,) * 10))[1]
UNCOUNTED = {  # name: what reaches the keys of the person's login, or memory that no process has
    "the keys of a login": _CALL.format(f"call({_KEYCTL}, 0, -3, 0) > 0"),
    "memory in files that are nowhere": _CALL.format("call({}, b'x', 0) >= 0".format({"x86_64": 319, "aarch64": 279}.get(platform.machine(), 0))),
    "memory of the system": _CALL.format(f"call({_SHMGET}, 0, 4096, 0o1600) >= 0"),
    "requests in a ring": _CALL.format("call(425, 8, ctypes.create_string_buffer(256)) >= 0"),
}


@pytest.mark.parametrize("name", UNCOUNTED)
def test_the_kernel_refuses_what_nobody_could_count(name):
    if not B._filter(): lacking("a filter for this machine")
    said = boxed(f'{PYTHON} "{UNCOUNTED[name]}"')
    assert "STARTED" in said and "refused" in said, said


def test_weak_without_the_filter_the_kernel_lets_it(monkeypatch):
    monkeypatch.setattr(B, "_filter", lambda: b"")
    assert sum("ESCAPED" in boxed(f'{PYTHON} "{code}"') for code in UNCOUNTED.values()) >= 2, "a machine may forbid some of them by itself"


# -- what takes too much

BOMBS = {  # name: (command that goes on until it is stopped, why it is)
    "processes": ("echo STARTED; f() {{ f | f & }}; f; sleep 711.5", "processes"),
    "processes of their own sessions": ("echo STARTED; while true; do setsid sleep 712.5 & done", "processes"),
    "memory": ("echo STARTED; for i in 1 2 3; do (head -c 600m /dev/zero | tail -c 590m | sleep 713.5) & done; wait", "memory"),
    "shared memory": (f"{PYTHON} 'import mmap, os, time; print(\"STARTED\", flush=True); [os.fork() for _ in range(2)]; m = mmap.mmap(-1, 600 << 20); [m.__setitem__(k, 1) for k in range(0, 600 << 20, 4096)]; time.sleep(717.5)'", "memory"),
    "disk": ("echo STARTED; for i in $(seq 9); do head -c 200m /dev/zero > {data}/$i; done; sleep 714.5", "wrote"),
    "files": ("echo STARTED; cd {data}; while true; do touch $((++i))-{{1..2000}}; done", "files"),
    "output": ("echo STARTED; yes 715.5", "did not end"),
    "time": ("echo STARTED; trap '' TERM INT HUP; while true; do sleep 716.5; done", "did not end"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_takes_too_much_is_ended(name, own_data):
    command, wanted = BOMBS[name]
    begun = time.monotonic()
    said = boxed(command.format(data=data_dir().resolve()), timeout=2 if wanted == "did not end" else 15)
    took = time.monotonic() - begun
    shutil.rmtree(own_data)
    assert "STARTED" in said and "killed: " in said and wanted in said, said[-300:]
    assert took < 30 and len(said) < 25_000 and survivors(r"71[1-7]\.5") == []


@pytest.mark.parametrize("name", ["processes of their own sessions", "memory", "disk"])
def test_weak_without_the_watcher_it_goes_on(name, own_data, monkeypatch):
    monkeypatch.setattr(B, "_limits_of", lambda folder: lambda pid: None)
    monkeypatch.setattr(B, "_capped", lambda most: nullcontext([]))
    bounded = {"processes of their own sessions": "for i in $(seq 400); do setsid sleep 712.5 & done; ls -d /proc/[0-9]* | wc -l",
               "memory": "head -c 600m /dev/zero | tail -c 590m | wc -c; echo 600", "disk": f"for i in 1 2 3; do head -c 200m /dev/zero > {data_dir().resolve()}/$i; done; echo 600"}
    said = boxed(bounded[name])
    shutil.rmtree(own_data)
    assert "killed" not in said and int(said.split()[-1]) > 256 and survivors("712.5") == []


SURVIVORS = {
    "a child that ignores signals": "(trap '' HUP TERM INT; sleep 721.5) & echo STARTED",
    "a session of its own": "setsid sleep 721.5 & echo STARTED",
    "an orphan of an orphan": "(setsid bash -c '(sleep 721.5 &) & exit' &) ; echo STARTED",
    "closed files": "(setsid nohup sleep 721.5 >/dev/null 2>&1 </dev/null &) ; echo STARTED",
    "a child that was disowned": "sleep 721.5 & disown -a; echo STARTED",
}


@pytest.mark.parametrize("run", [boxed, execute_bash_command], ids=["sandbox", "host"])
@pytest.mark.parametrize("name", SURVIVORS)
def test_nothing_outlives_a_command(name, run):
    "Neither one that ended by itself nor one that was ended, in the sandbox or on the host."
    assert "STARTED" in run(SURVIVORS[name], timeout=10) and survivors(r"721\.5") == []
    assert "killed" in run(SURVIVORS[name] + "; sleep 721.5", timeout=.5) and survivors(r"721\.5") == []


def test_weak_a_process_group_is_not_enough():
    "What `subprocess` and a group can kill leaves the orphan alive: the attack works."
    command = SURVIVORS["an orphan of an orphan"].replace("721.5", "741.5")
    with subprocess.Popen(["bash", "-c", command], start_new_session=True, stdout=subprocess.DEVNULL) as process: process.wait()
    left = []
    for _ in range(40):
        left = left or subprocess.run(["pgrep", "-fx", r"sleep 741\.5"], capture_output=True, text=True).stdout.split()
        time.sleep(.02)
    with suppress(ProcessLookupError): os.killpg(process.pid, signal.SIGKILL)
    left = subprocess.run(["pgrep", "-fx", r"sleep 741\.5"], capture_output=True, text=True).stdout.split()
    for pid in left: os.kill(int(pid), signal.SIGKILL)
    assert left


def test_a_sandbox_ends_with_llmcam():
    "If the program is killed, so is what it started."
    for policy in ("shell='bwrap'", "shell='host'"):
        code = f"from llmcam.core.policy import *; from llmcam.utils.bash_command import *\nwith gate(ToolPolicy({policy})): execute_bash_command('sleep 731.5 & sleep 731.5')"
        with subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as program:
            for _ in range(200):
                if subprocess.run(["pgrep", "-fx", r"sleep 731\.5"], capture_output=True).stdout: break
                time.sleep(.05)
            program.kill()
        assert survivors(r"^sleep 731\.5") == []
