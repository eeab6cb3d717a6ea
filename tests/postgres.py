"A PostgreSQL server in a temporary directory, for as long as a block lasts."
import glob, os, pwd, shutil, subprocess, tempfile
from contextlib import contextmanager
from pathlib import Path


def find(name):
    "The newest `name` that is installed, `None` if there is none."
    return shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: int(path.split("/")[4]), reverse=True)), None)


def unprivileged():
    "How to run a program as somebody else: PostgreSQL refuses to run as root."
    if os.getuid() != 0: return [], os.getuid()
    name = next(name for name in ("postgres", "nobody") if name in {user.pw_name for user in pwd.getpwall()})
    user = pwd.getpwnam(name)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"], user.pw_uid


@contextmanager
def postgres():
    "Start a server on a socket in a directory of its own; gives its address."
    prefix, uid = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="llmcam-pg-"))
    os.chown(folder, uid, -1)
    def run(*command): subprocess.run([*prefix, *map(str, command)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60, cwd="/")
    try:
        run(find("initdb"), "-D", folder / "data", "-U", "llmcam", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c max_connections=60 -c shared_buffers=16MB"
        run(find("pg_ctl"), "-D", folder / "data", "-w", "-t", "30", "-l", folder / "log", "-o", options, "start")
        yield f"postgresql+psycopg://llmcam@/postgres?host={folder}"
    finally:
        subprocess.run([*prefix, find("pg_ctl"), "-D", folder / "data", "-m", "immediate", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, cwd="/")
        shutil.rmtree(folder, ignore_errors=True)
