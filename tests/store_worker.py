"Programs that the tests of the stores run in processes of their own, and kill."
import os, sys, threading, time

from llmcam.application.session import SessionManager
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


def append(url, session_id):
    "Append for ever; say each number when it is safe."
    store = open_store(url)
    while True: print(store.append(session_id, [form_msg("user", "x" * 100)]), flush=True)


def turns(url, *session_ids):
    "Take turns for ever in several threads; say each answer when it is there."
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
    manager = SessionManager([], store=url, client=Echo(3600.0), lease=1.0)
    threading.Timer(0.3, lambda: print("in turn", flush=True)).start()
    manager[session_id].chat("hello")


if __name__ == "__main__": {"append": append, "turns": turns, "hang": hang}[sys.argv[1]](*sys.argv[2:])
