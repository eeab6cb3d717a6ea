"What every test gets: a data directory of its own, no keys, no network but loopback, and tools that are found or missed aloud."
import ipaddress, os, shutil, signal, socket, sys, tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SWITCHES = ("LLMCAM_TEST_ALL", "LLMCAM_QUICK")

for name in list(os.environ):
    if name.startswith(("OPENAI_", "LLMCAM_")) and name not in SWITCHES: del os.environ[name]
os.environ.update(MPLBACKEND="agg", YOLO_OFFLINE="true", YOLO_VERBOSE="false", LLMCAM_QUICK="1",
                  YOLO_CONFIG_DIR=str(Path(tempfile.gettempdir()) / f"llmcam-tests-{os.getuid()}"))

# A shell lets its background jobs ignore Ctrl-C, and the programs that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN: signal.signal(signal.SIGINT, signal.default_int_handler)


def is_local(host):
    "Does `host`, a name or an address, stay on this machine?"
    if host in (None, "", b"", "localhost", b"localhost"): return True
    try: address = ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError: return False
    return address.is_loopback or address.is_unspecified


def pytest_configure(config):
    "From here on a connection that would leave this machine fails at once, and names fail to resolve, as if offline."
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
    def check(sock, address):
        if sock.family in (socket.AF_INET, socket.AF_INET6) and not is_local(address[0]):
            raise ConnectionRefusedError(f"tests stay on this machine: no connection to {address[0]}")
    def guarded_connect(self, address): check(self, address); return connect(self, address)
    def guarded_connect_ex(self, address): check(self, address); return connect_ex(self, address)
    def guarded_lookup(host, *args, **kwargs):
        literal = isinstance(host, (str, bytes)) and not any(c.isalpha() for c in (host.decode() if isinstance(host, bytes) else host))
        if not (is_local(host) or literal): raise socket.gaierror(socket.EAI_NONAME, f"tests stay on this machine: no look-up of {host}")
        return getaddrinfo(host, *args, **kwargs)
    socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo = guarded_connect, guarded_connect_ex, guarded_lookup


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    "Notebooks spread over the workers one by one; the tests of any other file stay together, so that its fixtures are made once."
    from xdist.scheduler import LoadScopeScheduling
    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid): return nodeid if "test_notebooks.py" in nodeid else nodeid.partition("::")[0]
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def own_data(tmp_path, monkeypatch):
    "A data directory for each test."
    monkeypatch.setenv("LLMCAM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def lacking(what):
    "Skip for want of `what`; fail where everything is expected to run (LLMCAM_TEST_ALL=1)."
    if os.environ.get("LLMCAM_TEST_ALL"): pytest.fail(f"{what} is missing, and LLMCAM_TEST_ALL is set", pytrace=False)
    pytest.skip(f"{what} is missing")


def program(*names):
    "The path of the first of the programs `names` that is installed."
    return next(filter(None, map(shutil.which, names)), None) or lacking(names[0])


@pytest.fixture(scope="session")
def chromium(): return program("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser(chromium):
    "Chromium, driven by Playwright."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def ffmpeg(): return program("ffmpeg")


@pytest.fixture(scope="session")
def shared_data():
    "Real frames, weights and API documents that development machines have beside the project."
    folder = ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else pytest.skip("../shared/data is not here: real frames and weights are not part of the project")
