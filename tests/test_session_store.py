"Stores: the same promises from memory, SQLite and PostgreSQL, kept through kills, torn files and several workers."
import asyncio, json, os, random, shutil, sqlite3, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, lacking
from postgres import find, postgres
from servers import LocalServer
from store_worker import Echo

from llmcam.application import session_store as store_module
from llmcam.application.session import *
from llmcam.application.session_store import *
from llmcam.core.fc import fn_exec, form_msg, to_plain
from llmcam.core.fn_to_schema import function_schema
from llmcam.core.oas_to_schema import api_schema
from llmcam.core.offline import OfflineModel, ScriptedModel, check_messages
from llmcam.core.policy import ToolPolicy
from llmcam.utils.notification import Notification
from llmcam.utils.store import add_function_tools
from llmcam.vision import watch as watch_module
from llmcam.vision.camera import Frame
from llmcam.vision.watch import Observations, Rule
from llmcam.vision.yolo import Detections

WORKER = Path(__file__).with_name("store_worker.py")


@pytest.fixture(scope="module")
def server():
    if not find("postgres") or not find("initdb"): lacking("postgresql")
    pytest.importorskip("sqlalchemy"), pytest.importorskip("psycopg")
    with postgres() as url: yield url


def address(kind, request, tmp_path):
    "The address of an empty store that several processes may share."
    if kind == "sqlite": return f"sqlite:///{tmp_path}/sessions.db"
    import psycopg
    server = request.getfixturevalue("server")
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS meta, sessions, messages, notifications, watches")
    return server


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path): return address(request.param, request, tmp_path)


@pytest.fixture
def two(url):
    "Two stores on the same address, as two workers have them."
    stores = open_store(url), open_store(url)
    yield stores
    for store in stores: store.close()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request, tmp_path):
    store = open_store(None if request.param == "memory" else address(request.param, request, tmp_path))
    yield store
    store.close()


class Pier:
    "A camera and a detector that always see two boats."
    def __enter__(self): return self
    def __exit__(self, *exc): pass
    def frame(self): return Frame(np.zeros((90, 160, 3), np.uint8), "pier", "Pier", datetime.now(timezone.utc))


def see(frame, conf, weights):
    return Detections(["boat"] * 2, np.array([[10, 30, 20, 50], [30, 30, 40, 50]], float), np.full(2, .9), frame.image, ("boat",))


@pytest.fixture
def pier(monkeypatch):
    "All watches of this process look at the pier."
    eyes = Observations(lambda uri: Pier(), see)
    monkeypatch.setattr(watch_module, "default_observations", lambda: eyes)


def say(text): return form_msg("user", text)
def texts(store, session_id): return [message["content"] for _, message in store.messages(session_id)]
def names_of(tools): return [tool["function"]["name"] for tool in tools]


def until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < end: time.sleep(0.01)
    assert met


def worker(*args):
    return subprocess.Popen([sys.executable, str(WORKER), *map(str, args)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


# ---------------------------------------------------------------- the protocol

def test_all_stores_have_the_protocol(store): assert isinstance(store, SessionStore)


def test_messages_are_numbered_and_only_appended(store):
    store.create("a"); store.create("b")
    assert [store.append("a", [say("1"), say("2")]), store.append("b", [say("x")]), store.append("a", [say("3")])] == [2, 1, 3]
    assert store.messages("a") == [(1, say("1")), (2, say("2")), (3, say("3"))] and store.messages("a", after=1, most=1) == [(3, say("3"))]
    assert store.append("a", [say("new")], restart=True) == 4 and store.look("a").first == 4 and len(store.messages("a")) == 4
    assert sorted(store.ids()) == ["a", "b"] and len(store) == 2 and "a" in store


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x00b", "a\nb", None, 7])
def test_an_impossible_id_is_an_unknown_session(store, name):
    assert store.look(name) is None
    with pytest.raises(UnknownSession): store.append(name, [say("1")])
    with pytest.raises(UnknownSession): store.begin(name, "w", 1)


def test_what_was_removed_is_gone(store):
    store.create("a"); store.append("a", [say("1")]); store.put("a", {"id": "n"})
    store.remove("a"); store.remove("a"); store.remove("never there")
    assert store.look("a") is None and store.messages("a") == [] if store.shared else store.look("a") is None
    with pytest.raises(UnknownSession): store.append("a", [say("2")])
    store.create("a")
    assert store.messages("a") == [] == store.notifications("a")


def test_a_limit_on_sessions(store):
    store.create("a", 1)
    with pytest.raises(SessionError, match="raise max_sessions"): store.create("b", 1)


def test_a_turn_is_held_by_one(store):
    store.create("a")
    first = store.begin("a", "w1", 60)
    assert store.begin("a", "w2", 60) is None
    store.release("a", first.fence)
    second = store.begin("a", "w2", 60)
    with pytest.raises(StaleTurn): store.commit("a", first.fence, [say("stale")], None, {})
    assert store.commit("a", second.fence, [say("q"), form_msg("assistant", "a")], [["x", "y"]], {"turns": 1}) == 2
    with pytest.raises(StaleTurn): store.commit("a", second.fence, [say("twice")], None, {})
    saved = store.look("a")
    assert (saved.last, saved.tools, saved.totals) == (2, [["x", "y"]], {"turns": 1}) and texts(store, "a") == ["q", "a"]


def test_notifications_are_put_once(store):
    store.create("a")
    assert [store.put("a", {"id": id, "text": id}) for id in ("n1", "n2", "n1")] == [1, 2, None]
    store.see("a", "n1"); store.see("a", "unknown")
    assert store.look("a").seen == 1 and [record["id"] for _, record in store.notifications("a", after=1)] == ["n2"]


def test_old_notifications_go(store, monkeypatch):
    monkeypatch.setattr(store_module, "KEPT_NOTIFICATIONS", 3)
    store.create("a")
    for n in range(6): store.put("a", {"id": str(n)})
    assert [number for number, _ in store.notifications("a")] == [4, 5, 6]


def test_a_turn_of_a_silent_worker_is_taken_over(two):
    first, second = two
    first.create("a")
    slow = first.begin("a", "w1", 0.05)
    until(lambda: (quick := second.begin("a", "w2", 60)) and quick.fence == slow.fence + 1)
    first.renew({"a": slow.fence}, "w1", 60)  # too late, and without effect on the other's turn
    with pytest.raises(StaleTurn): first.commit("a", slow.fence, [say("stale")], None, {})
    assert second.commit("a", slow.fence + 1, [say("fresh")], None, {}) == 1


def test_a_turn_that_is_renewed_is_not_taken_over(two):
    first, second = two
    first.create("a")
    held = first.begin("a", "w1", 1)
    first.renew({"a": held.fence}, "w1", 60)
    time.sleep(1.05)
    assert second.begin("a", "w2", 1) is None
    first.commit("a", held.fence, [], None, {})


def test_watches_have_one_holder(two):
    first, second = two
    first.create("a")
    first.save_watch("a", "w", {"id": "w", "n": 1}, "w1", 0.2)
    assert second.claim("w2", 60) == [] and first.renew({}, "w1", 0.2) == {("a", "w")}
    until(lambda: second.claim("w2", 60) == [("a", {"id": "w", "n": 1})])
    assert first.renew({}, "w1", 60) == set()
    first.save_watch("a", "w", {"id": "w", "n": "stale"}, "w1", 60)  # no longer the first's to change
    with pytest.raises(StaleTurn): first.put("a", {"id": "n"}, "w", "w1")
    assert second.put("a", {"id": "n"}, "w", "w2") == 1
    assert first.begin("a", "w1", 60).watches == ({"id": "w", "n": 1},)  # watches follow the turn
    first.save_watch("a", "w", None, "w1", 60)
    assert second.renew({}, "w2", 60) == set()


def test_no_number_is_given_twice(two):
    for store in two[:1]: store.create("a")
    with ThreadPoolExecutor(16) as pool: numbers = list(pool.map(lambda n: two[n % 2].append("a", [say(str(n)), say(str(n))]), range(120)))
    assert sorted(numbers) == list(range(2, 241, 2))
    said = texts(two[0], "a")
    assert [number for number, _ in two[1].messages("a")] == list(range(1, 241)) and all(said[i] == said[i + 1] for i in range(0, 240, 2))


# ---------------------------------------------------------------- what rows hold

def test_rows_hold_no_pictures_and_no_secrets(two, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    monkeypatch.setenv("LLMCAM_API_KEYS", "api.example=canary-token-42")
    store = two[0]
    store.create("a")
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + "A" * 9000}}]}
    held = store.begin("a", "w", 60)
    store.commit("a", held.fence, [picture, say("use sk-canary-0123456789 and canary-token-42 at rtsp://joe:hunter2@cam/1")], [{"x": "sk-canary-0123456789"}], {})
    store.put("a", {"id": "n", "text": "sk-canary-0123456789"})
    rows = json.dumps([store.messages("a"), store.notifications("a"), store.look("a").tools])
    assert not [secret for secret in ("canary", "hunter2", "AAAAAAAA") if secret in rows] and "[secret]" in rows and "[picture]" in rows


@pytest.mark.parametrize("text", ["\x00", "\ud800 half", "☃" * 1000, "'; DROP TABLE messages; --", ":name %s %(x)s", "{}"])
def test_any_text_comes_back(two, text):
    two[0].create("a"); two[0].append("a", [say(text)])
    assert texts(two[1], "a") == [text.encode("utf-8", "replace").decode()]


# ---------------------------------------------------------------- layouts

@pytest.mark.parametrize("version", range(len(store_module._MIGRATIONS)))
def test_an_older_layout_is_brought_up_to_date(url, version, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(store_module, "_MIGRATIONS", store_module._MIGRATIONS[:version])
        store = open_store(url)
        if version:
            store._write(lambda run: run("INSERT INTO sessions (id, last) VALUES ('a', 1)"))
            store._write(lambda run: run("INSERT INTO messages (session, seq, body) VALUES ('a', 1, :body)", body=json.dumps(say("from long ago"))))
        store.close()
    store = open_store(url)
    if version: assert texts(store, "a") == ["from long ago"] and store.put("a", {"id": "n"}) == 1
    else: store.create("a")
    assert store._read(lambda run: run("SELECT value FROM meta WHERE name = 'version'"))[0][0] == str(len(store_module._MIGRATIONS))
    store.close()


def test_a_newer_layout_is_refused(url):
    store = open_store(url)
    store._write(lambda run: run("UPDATE meta SET value = '99' WHERE name = 'version'"))
    store.close()
    with pytest.raises(StoreError, match="newer llmcam"): open_store(url)


def test_workers_that_start_together_migrate_once(url):
    with ThreadPoolExecutor(6) as pool: stores = list(pool.map(open_store, [url] * 6))
    stores[0].create("a")
    assert all("a" in store for store in stores)
    for store in stores: store.close()


@pytest.mark.parametrize("address", ["mysql://host/db", "sqlite://", "sessions", "sqlite:///"])
def test_an_address_that_says_nothing(address):
    with pytest.raises(StoreError, match="sqlite:///file.db"): open_store(address)


# ---------------------------------------------------------------- SQLite

@pytest.mark.parametrize("make, lesson", [
    (lambda path: path.write_bytes(b"no database" * 999), "damaged"), (lambda path: path.mkdir(), "folder"), (lambda path: path.parent.rmdir() or path.parent.write_text(""), "folder")])
def test_a_file_that_is_no_store_says_what_to_do(tmp_path, make, lesson):
    (tmp_path / "in").mkdir(); make(tmp_path / "in" / "x.db")
    with pytest.raises(StoreError, match=lesson): open_store(f"sqlite:///{tmp_path}/in/x.db")


def test_a_full_disk_loses_nothing_acknowledged_and_is_no_end(tmp_path):
    code = """if True:
        import resource, signal, sys
        from llmcam.application.session_store import *
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store, said = SQLiteStore(sys.argv[1]), []
        store.create("a")
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        try:
            while len(said) < 400: store.append("a", [{"content": f"{len(said)} {'x' * 3000}"}]); said.append(len(said))
        except StoreError as error: assert "Make room" in str(error), error
        assert 1 < len(said) < 400 and [int(m["content"].split()[0]) for _, m in store.messages("a")] == said
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(store.append("a", [{"content": "room"}]) == len(said) + 1)"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "full.db")], capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.strip() == "True", done.stderr


def test_a_server_that_is_gone_says_so():
    pytest.importorskip("sqlalchemy"), pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="See that the server runs"): open_store("postgresql+psycopg://llmcam:hunter22@127.0.0.1:1/x")


def test_a_password_with_an_at_sign_is_not_told_as_a_host():
    pytest.importorskip("sqlalchemy"), pytest.importorskip("psycopg")
    for make in (open_store, SQLAlchemyStore):
        with pytest.raises(StoreError, match="%40") as failed: make("postgresql+psycopg://llmcam:half@hunter22@127.0.0.1:1/x")
        assert "hunter22" not in str(failed.value)
    with pytest.raises(StoreError, match="See that the server runs"): open_store("postgresql+psycopg://llmcam:half%40hunter22@127.0.0.1:1/x")


def test_one_failure_in_a_batch_is_undone_alone(tmp_path):
    store = SQLiteStore(tmp_path / "x.db")
    store.create("a")
    def attempt(n):
        try: return store.append("a" if n % 3 else "unknown", [say(str(n))])
        except UnknownSession: return None
    with ThreadPoolExecutor(32) as pool: numbers = list(pool.map(attempt, range(300)))
    assert sorted(filter(None, numbers)) == list(range(1, 201)) and store.look("a").last == 200
    store.close()
    with pytest.raises(StoreError, match="closed"): store.append("a", [])


def test_commits_are_shared_by_those_who_wait(tmp_path):
    store, commits = SQLiteStore(tmp_path / "x.db"), []
    store.create("a")
    do = store._write._do
    store._write._do = lambda batch: (commits.append(len(batch)), do(batch))
    begun, gate = threading.Event(), threading.Event()
    blocker = threading.Thread(target=store._write, args=(lambda run: (begun.set(), gate.wait(10)),))
    blocker.start()
    begun.wait(10)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(store.append, "a", [say(str(n))]) for n in range(20)]
        until(lambda: store._write._work.qsize() == 20)
        gate.set()
        assert sorted(future.result() for future in waiting) == list(range(1, 21))
    assert commits == [1, 20]
    store.close()


def test_the_file_is_for_its_owner(tmp_path):
    store = SQLiteStore(tmp_path / "new" / "x.db")
    store.create("a")
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "new").iterdir()} == {"0o600"}
    mode = [store._read(lambda run: run(f"PRAGMA {name}"))[0][0] for name in ("journal_mode", "synchronous")]
    assert mode == ["wal", 2]
    store.close()


def test_a_store_does_not_outlive_a_fork(tmp_path):
    store = SQLiteStore(tmp_path / "x.db")
    store._write._pid += 1
    with pytest.raises(StoreError, match="in each process"): store.create("a")
    store._write._pid -= 1
    store.close()


def test_many_threads_many_sessions(tmp_path):
    "A small form of the figure; benchmarks/bench_sessions.py --full has the whole."
    manager = SessionManager([], store=f"sqlite:///{tmp_path}/x.db", max_live=50)
    ids = [manager.init_session() for _ in range(100)]
    def person(n):
        for k in range(40): manager.session_messages[ids[(n * 7 + k) % 100]].append(say(f"{ids[(n * 7 + k) % 100]} {n} {k}"))
    with ThreadPoolExecutor(32) as pool: list(pool.map(person, range(32)))
    rows = {id: manager.store.messages(id) for id in ids}
    assert sum(map(len, rows.values())) == 32 * 40
    for id, messages in rows.items():
        assert [number for number, _ in messages] == list(range(1, len(messages) + 1))
        said = [message["content"].split() for _, message in messages]
        assert {words[0] for words in said} <= {id}
        for n in {words[1] for words in said}:
            order = [int(words[2]) for words in said if words[1] == n]
            assert order == sorted(order)
        assert [message for _, message in messages] == list(manager.session_messages[id])
    assert len(manager._sessions) <= 51
    manager.close()


# ---------------------------------------------------------------- kills and torn files

def check_turns(store, session_id):
    "Every turn is whole, and none is there twice; gives the texts of the questions."
    messages = [message for _, message in store.messages(session_id)]
    assert len(messages) % 4 == 0
    asked = []
    for i in range(0, len(messages), 4):
        question, call, answer, final = messages[i:i + 4]
        assert (question["role"], call["role"], answer["role"], final["role"]) == ("user", "assistant", "tool", "assistant")
        assert final["content"] == f"re {question['content']}" and answer["tool_call_id"] == call["tool_calls"][0]["id"]
        asked.append(question["content"])
    assert len(asked) == len(set(asked))
    return asked


def kill_at_random(process, least, most):
    "Read what `process` says until it is killed in the midst of its work; the whole lines."
    said = [process.stdout.readline()]
    threading.Timer(random.uniform(least, most), process.kill).start()
    said += process.stdout.read().splitlines(keepends=True)
    process.wait(10)
    return [line.strip() for line in said if line.endswith("\n")]


def test_kill_9_loses_nothing_acknowledged_and_leaves_no_half_turn(tmp_path):
    url, sessions, acknowledged = f"sqlite:///{tmp_path}/x.db", ["a", "b"], set()
    store = open_store(url)
    for id in sessions: store.create(id)
    store.close()
    for mode in ("turns", *["commits"] * 5):
        pair = [worker(mode, url, *sessions) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool: heard = list(pool.map(lambda process: kill_at_random(process, 0.0, 0.2), pair))
        acknowledged |= {line for lines in heard for line in lines}
    store = open_store(url)
    kept = {text for id in sessions for text in check_turns(store, id)}
    assert acknowledged and acknowledged <= kept
    store.close()


def torn_copies(folder, copies):
    "Copies of a database whose write-ahead log was cut at a random place, as power failures leave it."
    wal = (folder / "x.db-wal").read_bytes()
    for n in range(copies):
        torn = folder / f"torn{n}.db"
        shutil.copy(folder / "x.db", torn)
        cut = random.randrange(32, len(wal))
        torn.with_name(torn.name + "-wal").write_bytes(wal[:cut] + random.choice([b"", bytes(4096), os.urandom(300)]))
        yield torn


def test_a_torn_log_leaves_a_clean_prefix(tmp_path):
    store = SQLiteStore(tmp_path / "x.db")
    store._write(lambda run: None)
    store.create("a")
    for n in range(1, 120):
        held = store.begin("a", "w", 60)
        store.commit("a", held.fence, [say(f"{n}"), form_msg("assistant", f"re {n}")], None, {"turns": n})
    lengths = set()
    for torn in torn_copies(tmp_path, 30):
        try: again = SQLiteStore(torn)
        except sqlite3.DatabaseError as e: pytest.fail(f"{torn.name}: {e}")
        saved = again.look("a")
        said = texts(again, "a") if saved else []
        assert said == [text for n in range(1, len(said) // 2 + 1) for text in (f"{n}", f"re {n}")]
        if saved: assert saved.last == len(said) and saved.totals.get("turns", 0) == len(said) // 2
        lengths.add(len(said))
        again.close()
    assert len(lengths) > 5  # the cuts did cut
    store.close()


def test_the_weak_variant_loses_a_half_turn(tmp_path):
    "Without transactions and numbers, a cut file shows half a turn: so the attack is real."
    log = tmp_path / "messages.jsonl"
    log.write_text("".join(json.dumps(say(f"{text}")) + "\n" for n in range(100) for text in (f"{n}", f"re {n}")))
    halves = 0
    for _ in range(30):
        whole = log.read_bytes()[:random.randrange(log.stat().st_size)].split(b"\n")[:-1]
        halves += len(whole) % 2
    assert halves > 3


def test_workers_on_postgres_and_one_is_killed(server):
    store = open_store(server)
    sessions = [f"shared{n}" for n in range(3)]
    for id in sessions: store.create(id)
    workers, acknowledged = [worker(mode, server, *sessions) for mode in ("turns", "commits") * 2], []
    heard = [process.stdout.readline() for process in workers]
    time.sleep(0.3)
    workers[0].kill()  # in mid-turn, as all its threads always are
    time.sleep(1.5)    # its leases run out, the others go on
    for process in workers[1:]: process.kill()
    for first, process in zip(heard, workers): acknowledged += [line.strip() for line in (first, *process.stdout.read().splitlines(keepends=True)) if line.endswith("\n")]
    asked = [text for id in sessions for text in check_turns(store, id)]
    assert len(acknowledged) == len(set(acknowledged)) and set(acknowledged) <= set(asked) and len({text.split("-")[0] for text in asked}) == 4
    store.close()


def test_a_worker_that_dies_in_mid_turn_frees_it(url):
    manager = SessionManager([], store=url, client=Echo(), lease=1.0)
    id = manager.init_session()
    process = worker("hang", url, id)
    assert process.stdout.readline() == "in turn\n"
    until(lambda: manager.store.begin(id, "probe", 0.01) is None)
    process.kill(); process.wait(10)
    begun = time.monotonic()
    assert manager[id].chat("next") == "re next" and time.monotonic() - begun < 20
    assert check_turns(manager.store, id) == ["next"]
    manager.close()


# ---------------------------------------------------------------- sessions that last

def test_a_session_comes_back(url):
    with SessionManager(store=url, client=ScriptedModel([("add_function_tools", {"service_name": "plots", "function_names": ["llmcam.utils.file_manager.list_plot_files"]})],
                                                        "Added.")) as manager:
        id = manager.init_session()
        assert manager[id].chat("Add it.") == "Added."
        said, tools = list(manager[id].messages), names_of(manager[id].tools)
    with SessionManager(store=url, client=ScriptedModel([("plots_list_plot_files", {})], "None yet.")) as manager:
        assert manager.init_session(id) == id and list(manager[id].messages) == said and names_of(manager[id].tools) == tools
        assert {tool["function"]["metadata"]["manager"] for tool in manager[id].tools if "manager" in tool["function"]["metadata"]} == {manager.name}
        assert manager[id].chat("Which?") == "None yet." and manager[id].messages[-2]["role"] == "tool"
        check_messages(manager[id].messages)
        assert manager[id].totals["turns"] == 2 and manager[id].totals["calls"] == 2


def test_a_change_of_a_tool_in_place_is_kept_for_its_session_alone(url):
    with SessionManager(store=url) as manager:
        id, other = manager.init_session(), manager.init_session()
        manager[id].tools[3]["function"]["description"] = "changed"
        del manager[id].tools[4]
    with SessionManager(store=url) as manager:
        assert manager[id].tools[3]["function"]["description"] == "changed" and len(manager[id].tools) == len(manager[other].tools) - 1
        assert "changed" not in str(manager[other].tools)


def test_a_stored_tool_runs_only_what_the_policy_allows(url):
    with SessionManager(store=url, policy=ToolPolicy(modules=("",))) as manager:
        id = manager.init_session()
        for module, fixup in (("os", None), ("llmcam.utils.file_manager", "os.system"), ("llmcam.utils.file_manager", None)):
            function = {"name": "list_plot_files" if module != "os" else "system", "description": "", "parameters": {"type": "object", "properties": {}},
                        "metadata": {"module": module, "service": f"s{module}{fixup}", "session_id": "another's"}}
            manager[id].tools.append({"type": "function", "function": {**function, **({"fixup": fixup} if fixup else {})}})
    with SessionManager(store=url, policy=ToolPolicy(modules=("",))) as weak:  # the weak variant restores all three
        assert len(weak[id].tools) == len(weak[weak.init_session()].tools) + 3
    with SessionManager(store=url, policy=ToolPolicy()) as manager:
        restored = manager[id].tools[len(manager[manager.init_session()].tools):]
        assert [tool["function"]["metadata"]["module"] for tool in restored] == ["llmcam.utils.file_manager"]
        assert restored[0]["function"]["metadata"]["session_id"] == id


def test_a_stored_tool_is_held_to_what_its_code_declares(url):
    with SessionManager(store=url) as manager:
        id, there = manager.init_session(), len(manager[manager.init_session()].tools)
        add_function_tools(manager[id].tools, "mine", ["llmcam.vision.yolo.detect_objects", "llmcam.utils.file_manager.unique_path"])  # the first by another name
        shell, = (tool for tool in manager[id].tools if tool["function"]["name"] == "execute_bash_command")
        shell["function"]["metadata"] |= {"level": "read", "untrusted": False}
        said = {name: tool["function"]["metadata"].get("level") for name, tool in zip(names_of(manager[id].tools), manager[id].tools)}
    assert (said["mine_detect_objects"], said["unique_path"], said["execute_bash_command"]) == ("read", None, "read")
    with SessionManager(store=url) as manager:
        held = {name: tool["function"]["metadata"] for name, tool in zip(names_of(manager[id].tools), manager[id].tools)}
    assert len(held) == there + 2 and (held["mine_detect_objects"]["level"], held["unique_path"]["level"]) == ("read", "exec")
    assert (held["execute_bash_command"]["level"], held["execute_bash_command"]["untrusted"], held["capture_frame"]["level"]) == ("exec", True, "network")


def test_an_api_tool_is_written_once_and_still_checks_its_arguments(url):
    kinds = {"type": "string", "enum": [f"a kind of ship, number {n}" for n in range(60)]}
    spec = {"openapi": "3.1.0", "info": {"title": "Pier", "version": "1"}, "paths": {"/ships": {"get": {"operationId": "get_ships", "summary": "Ships.",
            "parameters": [{"name": "kind", "in": "query", "required": True, "schema": kinds}], "responses": {"200": {"description": "ok"}}}}}}
    with LocalServer({"/ships": lambda request: {"ships": 3}}) as server:
        policy = ToolPolicy(trusted=(server.host,))
        with SessionManager([], store=url, policy=policy) as manager:
            id = manager.init_session()
            manager[id].tools.extend(api_schema(server.url, spec, "pier"))
            tool, note = manager[id].tools[-1], manager[id]._note()[-1]
            assert len(json.dumps(note)) < .6 * len(json.dumps(to_plain(tool))) and "schema" in tool["function"]["metadata"]["request"]
        with SessionManager([], store=url, policy=policy) as manager:
            back = manager[id].tools[-1]
            assert back == tool and manager[id]._note()[-1] == note
            def run(**arguments): return json.dumps(fn_exec({"id": "1", "type": "function", "function": {"name": "get_ships", "arguments": json.dumps(arguments)}}, [back], policy=policy), default=str)
            for bad in ({}, {"query": {"kind": "a submarine"}}): assert "could not be called" in run(**bad) and not server.requests
            assert "3" in run(query={"kind": kinds["enum"][7]}) and len(server.requests) == 1


@pytest.mark.parametrize("note", [[7], [{}], [["?", "?"]], [{"function": 3}], [{"function": {"name": 1, "metadata": {"module": 2}}}], [None]])
def test_a_broken_note_of_tools_breaks_nothing(tmp_path, note):
    with SessionManager(store=f"sqlite:///{tmp_path}/x.db", client=ScriptedModel("Fine.")) as manager:
        id = manager.init_session()
        held = manager.store.begin(id, "w", 60)
        manager.store.commit(id, held.fence, [], note, {})
        assert manager[id].tools == [] and manager[id].chat("hello") == "Fine."


def test_a_function_without_a_name_keeps_its_session_in_memory():
    manager = SessionManager(max_live=1)
    def local() -> str: "Say hello."; return "hello"
    id = manager.init_session()
    manager[id].tools.append(function_schema(local))
    for _ in range(5): manager.init_session()
    assert names_of(manager[id].tools)[-1] == "local" and manager[id].tools[-1].func is local


def test_idle_sessions_leave_memory_and_come_back(url):
    with SessionManager([], store=url, client=Echo(), max_live=3) as manager:
        ids = [manager.init_session() for _ in range(10)]
        for id in ids: manager[id].chat(f"I am {id}")
        assert len(manager._sessions) <= 3
        assert all(manager[id].messages[0]["content"] == f"I am {id}" for id in ids) and len(manager) == 10
        held = manager[ids[0]]
        for id in ids: manager[id]
        assert manager[ids[0]] is held  # never two of the same
        manager.idle = 0.0
        manager[manager.init_session()], manager[manager.init_session()]
        assert len(manager._sessions) <= 2


def test_two_workers_see_each_others_turns(url):
    with SessionManager(store=url, client=Echo()) as one, SessionManager(store=url, client=Echo()) as two:
        id = one.init_session()
        assert one[id].chat("1") == "re 1" and two[id].chat("2") == "re 2" and one[id].chat("3") == "re 3"
        assert check_turns(one.store, id) == ["1", "2", "3"] == [m["content"] for m in one[id].messages if m["role"] == "user"]
        two[id].refresh()
        assert list(two[id].messages) == list(one[id].messages)
        one[id].messages.append(form_msg("system", "by hand"))
        two[id].chat("4")
        assert [m["content"] for m in two[id].messages if m["role"] == "system"] == ["by hand"]
        two.remove_session(id)
        with pytest.raises(UnknownSession): one[id].chat("gone")


def test_a_list_that_was_changed_by_hand_begins_anew(url):
    with SessionManager([], store=url, client=Echo()) as manager:
        id = manager.init_session()
        manager[id].chat("1"); manager[id].chat("2")
        del manager[id].messages[:4]
        manager[id].chat("3")
        assert [m["content"] for m in manager[id].messages if m["role"] == "user"] == ["2", "3"]
        assert len(manager[id].history()) == 8 + 4 + 4
        mine = [form_msg("system", "mine")]
        manager.session_messages[id] = mine
        manager[id].chat("4")
        assert manager[id].messages is mine and len(mine) == 5
    with SessionManager([], store=url) as manager: assert [m["content"] for m in manager[id].messages][:2] == ["mine", "4"]


def test_only_the_last_messages_are_sent(tmp_path):
    model = ScriptedModel(*["ok"] * 30)
    with SessionManager([], store=f"sqlite:///{tmp_path}/x.db", client=model, max_messages=6) as manager:
        s = manager[manager.init_session()]
        s.append(form_msg("system", "You watch the quay."))
        for n in range(20): s.chat(str(n))
        sent = model.requests[-1][0] if isinstance(model.requests[-1], tuple) else model.requests[-1]["messages"]
        assert [m["content"] for m in sent if m.get("name") is None] == ["You watch the quay.", "16", "ok", "17", "ok", "18", "ok", "19"]
        assert "not shown" in sent[1]["content"] and sent[1]["name"]  # the program's words, which count as a stranger's
        assert len(s.history()) == 41
    with SessionManager([], store=f"sqlite:///{tmp_path}/x.db", max_messages=6) as manager:
        assert [m["content"] for m in manager[s.id].messages][:2] == ["You watch the quay.", "14"] and len(manager[s.id].messages) == 13


# ---------------------------------------------------------------- the outbox

def test_the_outbox_outlives_the_process(url):
    with SessionManager([], store=url) as manager:
        s, heard = manager[manager.init_session()], []
        s.set_sender(heard.append)
        s.notify(Notification("one", id="n1"))
        s.set_sender(None)
        s.notify(Notification("two", id="n2")); s.notify(Notification("two", id="n2"))
        assert heard == ["one"] and s.outbox == ["two"]
    with SessionManager([], store=url) as manager:
        s, heard = manager[s.id], []
        assert s.outbox == ["two"] and s.outbox.since("n1") == ["two"] and s.outbox.since() == ["one", "two"]
        s.set_sender(heard.append)
        assert heard == ["two"] and s.outbox == [] and s.outbox.since("n1")[0].id == "n2"


def test_news_from_another_worker_arrives(url):
    with SessionManager([], store=url, lease=0.2) as one, SessionManager([], store=url, lease=0.2) as two:
        id, heard = one.init_session(), []
        one[id].set_sender(heard.append)
        two[id].notify("from the other worker")
        until(lambda: heard == ["from the other worker"])


# ---------------------------------------------------------------- watches

def rule(): return Rule("pier", "boat", confirm="1 of 1", every=60)


def test_watches_go_on_after_a_restart(url, pier):
    looks = ScriptedModel(*[[("send_notification", {"msg": "A boat."})], "Told."] * 2, *["Nothing new."] * 20)
    with SessionManager(store=url, client=looks) as manager:
        s = manager[manager.init_session()]
        told, stopped = s.watches.start(rule()), s.watches.start(Rule("pier", "boat", "at least", 90, every=60))
        s.watches.stop(stopped.id)
        stream = s.start_stream([say("Tell me when a boat comes.")], every=3600)
        until(lambda: len(s.outbox) == 2 and s.streams[stream].ticks == 1)
        manager._keep()
    with SessionManager(store=url, client=looks) as manager:
        s = manager[s.id]
        until(lambda: [w.id for w in s.watches.running] == [told.id] and stream in s.streams and s.streams[stream].is_alive())
        assert s.watches[told.id].state.told == 1
        until(lambda: len(s.outbox) == 3)
        s.stop_stream(stream); s.watches.stop(told.id)
        said = len(s.outbox)
        assert len({note.id for note in s.outbox}) == said == 3  # the second look of the stream has a name of its own
    with SessionManager(store=url) as manager:
        manager._keep()
        assert not manager[s.id].streams and not manager[s.id].watches.running and len(manager[s.id].outbox) == said


def test_a_watch_runs_on_one_worker_and_follows_its_session(url, pier):
    with SessionManager(store=url, client=Echo(), lease=0.4) as one, SessionManager(store=url, client=Echo(), lease=0.4) as two:
        s = one[one.init_session()]
        watch = s.watches.start(rule())
        time.sleep(0.5)
        assert not two._mine and [w.id for w in s.watches.running] == [watch.id]
        two[s.id].chat("I am over here now.")
        assert [w.id for w in two[s.id].watches.running] == [watch.id]
        until(lambda: not s.watches.running)
        two[s.id].watches.stop(watch.id)
        assert two.store.claim("probe", 1) == []


def test_the_watch_of_a_dead_worker_is_taken_over(url, pier):
    code = ("import sys, time\nfrom llmcam.application.session import *\nfrom llmcam.vision.watch import Rule\n"
            "m = SessionManager(store=sys.argv[1], lease=0.5)\ns = m[m.init_session()]\n"
            "w = s.watches.start(Rule('pier', 'boat', every=60))\nprint(s.id, w.id, flush=True)\ntime.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    id, watch = process.stdout.readline().split()
    with SessionManager(store=url, lease=0.5) as manager:
        process.kill(); process.wait(10)
        until(lambda: [w.id for w in manager[id].watches.running] == [watch])


def test_a_session_that_another_worker_has_removed_is_not_given_out_again(url):
    with SessionManager([], store=url, client=Echo()) as one, SessionManager([], store=url, client=Echo()) as two:
        id = one.init_session()
        one[id].chat("1"); two[id].chat("2")
        assert two.init_session(id) == id
        one.remove_session(id)
        with pytest.raises(UnknownSession): two[id].chat("3")
        assert two.init_session(id) != id and id not in two


def test_without_resume_a_manager_only_looks(url, pier):
    with SessionManager(store=url) as manager:
        s = manager[manager.init_session()]
        s.watches.start(rule())
    with SessionManager(store=url, resume=False) as manager:
        manager._keep()
        assert not manager[s.id].watches.running
