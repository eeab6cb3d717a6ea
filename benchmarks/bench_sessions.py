"Sessions and stores: how fast, how small, and what is left after kills, cuts and the death of a worker."
import argparse, gc, os, random, shutil, statistics, subprocess, sys, tempfile, threading, time, tracemalloc, uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
WORKER = ROOT / "tests" / "store_worker.py"

from llmcam.application.session import *
from llmcam.application.session_store import *
from llmcam.core.fc import form_msg


def rate(make, n, rounds=5):
    "Calls of `make()` a second, the median of some rounds."
    def once():
        begun = time.perf_counter()
        for _ in range(n): make()
        return n / (time.perf_counter() - begun)
    return statistics.median(once() for _ in range(rounds))


def size(make, n):
    "Bytes that each of `n` calls leaves behind."
    gc.collect(); tracemalloc.start()
    kept = [make() for _ in range(n)]
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] / n
    tracemalloc.stop()
    return used, kept


class Echo:
    "A model that keeps nothing."
    def __init__(self): self.chat = self.completions = self
    def create(self, messages, **request): return {"choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}]}


class Eager:
    "Sessions in the eager way: dictionaries, and for each session its tools made at once."
    def __init__(self): self.messages, self.tools = {}, {}
    def init_session(self):
        id = str(uuid.uuid4())
        self.tools[id] = [*prepare_handler_schemas(id, execute_handler), *deepcopy(default_tools),
                          prepare_notification_schemas(id, execute_start_notification_stream), prepare_stopper_schema(id)]
        self.messages[id] = []
        return id


def bench_memory(full):
    n = 50_000 if full else 5_000
    manager, eager = SessionManager(), Eager()
    ours, theirs = rate(manager.init_session, n), rate(eager.init_session, 200)
    yield "`init_session`, a second", f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:,.0f} x"
    untouched, eager = SessionManager(max_live=10**9), Eager()
    small, _ = size(untouched.init_session, n)
    big, _ = size(eager.init_session, 200)
    yield "bytes a session", f"{small:,.0f}", f"{big:,.0f}", f"1/{big / small:,.0f}"
    talked = SessionManager(client=Echo(), max_live=10**9)
    def talk(): talked[talked.init_session()].chat("Good morning")
    def grown(n): used = tracemalloc.get_traced_memory()[0]; [talk() for _ in range(n)]; gc.collect(); return (tracemalloc.get_traced_memory()[0] - used) / n
    tracemalloc.start(); grown(150); spoken = grown(200); tracemalloc.stop()  # the first fill caches, which are bounded
    yield "bytes a session after a turn with all tools", f"{spoken:,.0f}", f"{big:,.0f}", f"1/{big / spoken:,.0f}"


def bench_appends(full, folder):
    "Many threads append to many sessions of one SQLite file; beside it, a commit for each append."
    sessions, threads, appends = (10_000, 64, 50_000) if full else (500, 64, 5_000)
    store = SQLiteStore(folder / "appends.db")
    ids = [f"s{n}" for n in range(sessions)]
    with ThreadPoolExecutor(threads) as pool: list(pool.map(store.create, ids))
    def person(n):
        for k in range(n, appends, threads): store.append(ids[k % sessions], [form_msg("user", f"{ids[k % sessions]} {n} {k}")])
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool: list(pool.map(person, range(threads)))
    grouped = appends / (time.perf_counter() - begun)
    begun = time.perf_counter()
    for k in range(300): store.append(ids[0], [form_msg("user", f"{ids[0]} alone {10**9 + k}")])
    alone = 300 / (time.perf_counter() - begun)
    faults = sum(map(bool, (wrong(id, store.messages(id)) for id in ids)))
    total = sum(len(store.messages(id)) for id in ids)
    store.close()
    yield f"appends a second, {threads} threads, {sessions:,} sessions, SQLite", f"{grouped:,.0f}", f"{alone:,.0f} (one after the other)", f"{grouped / alone:.1f} x"
    yield f"leaks, gaps or reorderings in {appends:,} appends", f"{faults + (total != appends + 300)}", "", ""


def wrong(id, rows):
    "Is a message missing, doubled, another's, or out of the order in which one thread wrote it?"
    if [number for number, _ in rows] != list(range(1, len(rows) + 1)): return "gap"
    said = [message["content"].split() for _, message in rows]
    if any(words[0] != id for words in said): return "leak"
    for writer in {words[1] for words in said}:
        order = [int(words[2]) for words in said if words[1] == writer]
        if order != sorted(set(order)): return "reordering"


def start(*args): return subprocess.Popen([sys.executable, str(WORKER), *map(str, args)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def killed(process, seconds):
    "What a worker said before it was killed."
    said = [process.stdout.readline()]
    threading.Timer(random.uniform(0, seconds), process.kill).start()
    said += process.stdout.read().splitlines(keepends=True)
    process.wait(10)
    return {line.strip() for line in said if line.endswith("\n")}


def bench_kills(full, folder):
    from test_session_store import check_turns
    url, kills, acknowledged = f"sqlite:///{folder}/kills.db", 200 if full else 8, set()
    store = open_store(url)
    for id in "ab": store.create(id)
    store.close()
    for n in range(kills // 2):  # whole sessions take seconds to start, so most workers use the store alone
        pair = [start("commits" if n % 10 else "turns", url, "a", "b") for _ in range(2)]
        with ThreadPoolExecutor(2) as pool: acknowledged |= set().union(*pool.map(lambda process: killed(process, 0.3), pair))
    store = open_store(url)
    kept = {text for id in "ab" for text in check_turns(store, id)}  # fails at a half turn
    store.close()
    yield f"{kills} x kill -9: turns acknowledged, of them lost", f"{len(acknowledged):,}, {len(acknowledged - kept)}", "", ""
    yield f"{kills} x kill -9: half turns", "0", "", ""


def bench_torn(full, folder):
    from test_session_store import texts, torn_copies
    store, copies, faults, lengths = SQLiteStore(folder / "x.db"), 200 if full else 20, 0, set()
    store.create("a")
    for n in range(1, 200):
        held = store.begin("a", "w", 60)
        store.commit("a", held.fence, [form_msg("user", f"{n}"), form_msg("assistant", f"re {n}")], None, {})
    for torn in torn_copies(folder, copies):
        again = SQLiteStore(torn)
        said = texts(again, "a") if "a" in again else []
        faults += said != [text for n in range(1, len(said) // 2 + 1) for text in (f"{n}", f"re {n}")]
        lengths.add(len(said))
        again.close()
        for path in folder.glob(torn.name + "*"): path.unlink()
    store.close()
    yield f"{copies} torn write-ahead logs: not a clean prefix", f"{faults}", f"({len(lengths)} different lengths)", ""


def bench_workers(full, url):
    from test_session_store import check_turns
    store, ids = open_store(url), [f"s{n}" for n in range(3)]
    for id in ids: store.create(id)
    workers = [start(mode, url, *ids) for mode in ("turns", "commits") * 2]
    heard = [[process.stdout.readline()] for process in workers]
    time.sleep(1.0)
    workers[0].kill()
    time.sleep(20.0 if full else 3.0)
    for process in workers[1:]: process.kill()
    said = [line.strip() for first, process in zip(heard, workers) for line in (*first, *process.stdout.read().splitlines(keepends=True)) if line.endswith("\n")]
    kept = [text for id in ids for text in check_turns(store, id)]
    store.close()
    yield "4 workers on PostgreSQL, one killed: turns acknowledged, lost, doubled", f"{len(said):,}, {len(set(said) - set(kept))}, {len(kept) - len(set(kept))}", "", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the real sizes: a few minutes")
    parser.add_argument("--only", default="", help="memory, appends, kills, torn or workers")
    args = parser.parse_args()
    print("| what | ours | the alternative | ratio |\n| --- | ---: | ---: | ---: |")
    from postgres import find, postgres
    folder = Path(tempfile.mkdtemp(prefix="llmcam-bench-"))
    try:
        for name, bench in (("memory", bench_memory), ("appends", bench_appends), ("kills", bench_kills), ("torn", bench_torn), ("workers", bench_workers)):
            if args.only and name != args.only or name == "workers" and not find("postgres"): continue
            with postgres() if name == "workers" else nullcontext(folder) as place:
                for row in bench(args.full, place) if name != "memory" else bench(args.full): print("|", " | ".join(row), "|", flush=True)
    finally: shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__": main()
