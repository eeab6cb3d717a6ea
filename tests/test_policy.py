"What a policy says: levels, presets, the person's words, and what all of that means for files and hosts."
import pickle
from pathlib import Path

import pytest

from llmcam.core.policy import (LEVELS, PolicyError, ToolCall, ToolPolicy, allows_host, confine, current_policy, data_dir, gate, tool_level, trusts_url)


def test_levels_are_written_on_the_function_itself():
    def look(): pass
    marked = tool_level("read", untrusted=True)(look)
    assert marked is look and (look.tool_level, look.tool_untrusted) == ("read", True)
    with pytest.raises(ValueError, match="level must be one of"): tool_level("admin")

def test_presets():
    assert (ToolPolicy().allow, ToolPolicy().ask, ToolPolicy().files, ToolPolicy().undeclared) == (("read", "network"), ("write", "exec"), "named", "trusted")
    web = ToolPolicy.web(trusted="cam.local")
    assert (web.files, web.shell, web.undeclared, web.trusted, web.allow_exec) == ("data", "off", "exec", ("cam.local",), False)
    notebook = ToolPolicy.notebook()
    assert notebook.allow_exec and set(notebook.allow) == set(LEVELS) and notebook.modules == ("",) and notebook.files == "any"

@pytest.mark.parametrize("wrong", [{"files": "all"}, {"shell": "sh"}, {"allow": "reading"}, {"ask": ("read", "rm")}, {"undeclared": "read"}])
def test_what_makes_no_policy(wrong):
    with pytest.raises(ValueError, match="must be one of"): ToolPolicy(**wrong)

@pytest.mark.parametrize("policy", [ToolPolicy(), ToolPolicy.web(), ToolPolicy.notebook(), ToolPolicy(allow=LEVELS, approve=lambda call: True), ToolPolicy(allow="read")])
def test_unattended_is_never_more_than_looking(policy):
    alone = policy.unattended()
    assert set(alone.allow) <= {"read", "network"} and alone.ask == () and alone.approve is None and alone.shell == "off" and not alone.allow_exec
    assert alone.trusted == policy.trusted and alone.unattended() == alone

def test_policies_are_values():
    assert pickle.loads(pickle.dumps(ToolPolicy.web())) == ToolPolicy.web() and len({ToolPolicy(), ToolPolicy()}) == 1
    with pytest.raises(AttributeError): ToolPolicy().allow = LEVELS

def test_what_the_person_sees_cannot_be_changed():
    given = {"paths": ["a"]}
    call = ToolCall("c1", "rm", given, "exec", "files")
    given["paths"].append("b")
    assert call.arguments == {"paths": ["a"]}
    with pytest.raises(TypeError): call.arguments["paths"] = []
    with pytest.raises(AttributeError): call.name = "ls"


# The gate

def test_a_gate_nests_and_opens_for_a_persons_own_code():
    with gate(ToolPolicy.web()) as policy:
        assert current_policy() is policy
        with gate(None): assert current_policy() is None
        assert current_policy() is policy
    with pytest.raises(KeyError), gate(policy): raise KeyError
    assert current_policy() is None


# The person's words

@pytest.mark.parametrize("words, hosts", [
    ("See https://api.example.org/v1?q=1.", {"api.example.org"}), ("Ask tie.digitraffic.fi, please.", {"tie.digitraffic.fi"}), ("http://[2001:db8::1]:80/x", {"2001:db8::1"}),
    ("the camera at 192.168.1.20:8554 and at CAM.Local", {"192.168.1.20", "cam.local"}), ("Write to bob@evil.example.", set()), ("Use version 3.11 of data/bus.jpg and readme.md.", set()),
    ("http://user:pass@host.example/", {"host.example"}), ("http://[broken", set()), ("Nothing at all...", set()), ("münchen.example is fine", {"münchen.example"})])
def test_hosts_that_the_words_name(words, hosts): assert set(ToolPolicy().during([words], tainted=True).hosts) == hosts

@pytest.mark.parametrize("words, named", [
    ("Look at /tmp/x.jpg.", "/tmp/x.jpg"), ("Look at ~/x.jpg!", "~/x.jpg"), ("'my photos/a b.jpg' it is", "my photos/a b.jpg"), ("(bus.jpg)", "bus.jpg"), ("C:\\x.png", "C:\\x.png"), ("../up.txt,", "../up.txt"),
    ("Count the cars in the pictures in gate", "gate"), ("all of the harbour-2 folder", "harbour-2"), ("from the directory frames", "frames")])
def test_paths_that_the_words_name(words, named): assert named in ToolPolicy().during([words]).named

def test_words_name_nothing_where_files_are_not_a_matter_of_words():
    for policy in (ToolPolicy.web(), ToolPolicy.notebook()): assert policy.during(["Read /etc/passwd."]) is policy

def test_long_words_take_no_long_time():
    for text in ("a." * 100_000, "/" * 200_000, "'" * 200_000, "http://" * 50_000, "~" * 200_000): ToolPolicy().during([text], tainted=True)

def test_taint_takes_back_what_is_dangerous():
    loose = ToolPolicy(allow=LEVELS, undeclared="trusted").during(["See a.example."], tainted=True)
    assert loose.allow == ("read", "network") and set(loose.ask) == {"write", "exec"} and loose.undeclared == "exec" and loose.hosts == ("a.example",)
    assert ToolPolicy(allow=("read",), ask=()).during([], tainted=True).ask == ()                 # what was refused stays refused
    assert ToolPolicy(hosts="b.example").during(["See a.example."], tainted=True).hosts == ("b.example",)  # the person's own list stays the list
    assert ToolPolicy.notebook().during([], tainted=True) == ToolPolicy.notebook()                # trust() stays out of the way
    assert ToolPolicy(allow=LEVELS).during([]).allow == LEVELS                                    # the weak variant: not tainted

@pytest.mark.parametrize("url, allowed", [("https://a.example/x", True), ("https://A.EXAMPLE/x", True), ("https://a.example./x", True), ("http://cam.local/x", True),
    ("https://evil.example/?a.example", False), ("https://a.example.evil.example", False), ("https://a.example@evil.example", False), ("https://xa.example", False), ("http://[broken", False)])
def test_hosts_after_taint(url, allowed):
    policy = ToolPolicy(trusted="cam.local").during(["Look at https://a.example/."], tainted=True)
    assert allows_host(policy, url) is allowed
    assert allows_host(ToolPolicy(), url) is True  # before: any


# Files that the words name

def test_named_files_and_folders_may_be_read(tmp_path):
    folder, secret = tmp_path / "photos", tmp_path / "secret.txt"
    (folder / "deep").mkdir(parents=True); secret.write_text("x"); (folder / "link").symlink_to(secret)
    with gate(ToolPolicy().during([f"How many cars are on {folder}/a.jpg?"])):
        assert confine(folder / "a.jpg") == folder / "a.jpg"
        for other in (folder / "b.jpg", secret, folder, "/etc/passwd"):
            with pytest.raises(PolicyError): confine(other)
    with gate(ToolPolicy().during([f"Go through {folder}."])):
        assert confine(folder / "deep" / "a.jpg") and confine(data_dir() / "b.jpg")
        for other in (folder / ".netrc", folder / "deep" / ".ssh" / "key", folder / "link", folder / ".." / "secret.txt", secret):
            with pytest.raises(PolicyError): confine(other)
    with gate(ToolPolicy(files="any")): assert confine(secret) == secret  # the weak variant

def test_a_bare_word_opens_a_folder_only_if_it_is_said_as_one(tmp_path, monkeypatch):
    place = tmp_path / "place"
    for name in ("gate", "secrets"): (place / name).mkdir(parents=True)
    monkeypatch.chdir(place)
    with gate(ToolPolicy(data=str(tmp_path / "data")).during(["How many cars are on the pictures in gate? Keep my secrets."])):
        assert confine("gate/a.jpg") == place / "gate" / "a.jpg"
        with pytest.raises(PolicyError): confine(place / "secrets" / "a.jpg")

@pytest.mark.parametrize("words", ["What is in / and ~/ ?", f"Everything in {Path.home()}", "and/or", "file.", ""])
def test_words_that_name_too_much_name_nothing(words):
    with gate(ToolPolicy().during([words])):
        for path in ("/etc/passwd", Path.home() / ".ssh" / "id_rsa", Path.home() / "notes.txt"):
            with pytest.raises(PolicyError): confine(path)


def test_an_address_without_a_path_names_its_host_and_port():
    policy = ToolPolicy(trusted=("http://127.0.0.1:8000",))
    assert trusts_url(policy, "http://127.0.0.1:8000/openapi.json")
    assert not any(trusts_url(policy, url) for url in ("http://127.0.0.1:8001/", "https://127.0.0.1:8000/", "http://127.0.0.10:8000/"))
