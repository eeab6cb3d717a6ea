"Programs that the tests of the stores run in processes of their own, and kill."
import os, sys, threading, time

from llmcam.application.session_store import open_store
from llmcam.core.fc import form_msg


class Echo:
    "A model that calls one tool and then repeats what it was told."
    def __init__(self, pause=0.0): self.chat = self.completions = self; self.pause = pause
    def create(self, messages, **request):
        time.sleep(self.pause)
        last = messages[-1]
        if last["role"] == "user":
            call = {"id": f"call_{last['content']}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            return {"choices": [{"message": {"content": "", "tool_calls": [call]}, "finish_reason": "tool_calls"}]}
        asked = next(message["content"] for message in reversed(messages) if message["role"] == "user")
        return {"choices": [{"message": {"content": f"re {asked}"}, "finish_reason": "stop"}]}


def commits(url, *session_ids):
    "Commit turns for ever in several threads; say each when it is safe. Starts sooner than a manager."
    store, lock, me = open_store(url), threading.Lock(), str(os.getpid())
    def person(n):
        k, id = 0, session_ids[n % len(session_ids)]
        while True:
            k += 1
            text, call = f"{me}-{n}-{k}", {"id": f"call_{me}-{n}-{k}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            while (held := store.begin(id, me, 1.0)) is None: time.sleep(0.005)
            store.commit(id, held.fence, [form_msg("user", text), {"role": "assistant", "content": None, "tool_calls": [call]},
                                          form_msg("tool", "{}", call["id"]), form_msg("assistant", f"re {text}")], None, {})
            with lock: print(text, flush=True)
    for n in range(4): threading.Thread(target=person, args=(n,)).start()


def turns(url, *session_ids):
    "Take turns for ever in several threads; say each answer when it is there."
    from llmcam.application.session import SessionManager
    manager, lock = SessionManager([], store=url, client=Echo(), lease=1.0, wait=30.0), threading.Lock()
    def person(n):
        k = 0
        while True:
            k += 1
            text = f"{os.getpid()}-{n}-{k}"
            manager[session_ids[n % len(session_ids)]].chat(text)
            with lock: print(text, flush=True)
    for n in range(4): threading.Thread(target=person, args=(n,)).start()


def hang(url, session_id):
    "Begin a turn and never answer."
    from llmcam.application.session import SessionManager
    manager = SessionManager([], store=url, client=Echo(3600.0), lease=1.0)
    threading.Timer(0.3, lambda: print("in turn", flush=True)).start()
    manager[session_id].chat("hello")


if __name__ == "__main__": {"commits": commits, "turns": turns, "hang": hang}[sys.argv[1]](*sys.argv[2:])
