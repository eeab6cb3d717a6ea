"""OpenAPI documents to tools: time and memory beside the time and memory of `json.load` alone, which is the floor.

    python benchmarks/bench_openapi.py [--full] [--documents FOLDER]

Documents: a small one, a large one and one with 1,223 operations in 13 MB are made here; those in FOLDER (default: ../shared/data/openapi) are added
where they are present. Times are processor time, which others on the machine disturb least. *listed* is a list of tools from a file; *complete* also reads every schema and writes all tools as JSON."""
import argparse, gc, json, os, random, sys, tempfile, time, tracemalloc
from importlib.util import find_spec
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from llmcam.core.fn_to_schema import public_tool
from llmcam.core.oas_to_schema import api_schema, load_oas

HERE = Path(__file__).resolve().parent


# Documents

def schema(rng, n, many):
    "A component as large services have them: thirty fields, some of which refer to components of the same neighbourhood, in circles too."
    fields, near = {}, lambda: min(many - 1, n // 30 * 30 + rng.randrange(30))
    for k in range(rng.randint(15, 45)):
        kind = rng.random()
        if kind < 0.2: fields[f"field_{k}"] = {"$ref": f"#/components/schemas/thing~1{near()}"}
        elif kind < 0.3: fields[f"list_{k}"] = {"type": "array", "items": {"$ref": f"#/components/schemas/thing~1{near()}"}}
        elif kind < 0.4: fields[f"choice_{k}"] = {"type": "string", "enum": ["open", "closed", "all"], "default": "open", "description": "Which ones."}
        else: fields[f"field_{k}"] = {"type": rng.choice(["string", "integer", "boolean"]), "description": "What it says, in a sentence or two, as documents do.", "example": "abc"}
    return {"title": f"Thing {n}", "type": "object", "properties": fields, "required": list(fields)[:5]}

def operation(rng, n, many):
    "An operation with parameters by reference, a body of its own and answers with examples."
    parameters = [{"$ref": f"#/components/parameters/owner~1{n % 40}"}, {"name": "page", "in": "query", "schema": {"type": "integer", "default": 1}, "description": "Page of the answer."}]
    own = {"type": "object", "properties": {f"p{k}": {"type": "string", "description": "A value that is set, explained in some words."} for k in range(8)}}
    own["properties"]["whole"] = {"$ref": f"#/components/schemas/thing~1{rng.randrange(1 + many // 3)}"}
    answer = {"description": "Fine", "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/thing~1{n % many}"}, "examples": {"default": {"value": {f"k{k}": "x" * 60 for k in range(92)}}}}}}
    found = {"operationId": f"things/act-{n // 2}", "summary": f"Act on thing {n}", "tags": [f"part-{n % 30}"], "description": "Long words about it. " * 20, "parameters": parameters, "responses": {"200": answer}}
    if n % 3: found["requestBody"] = {"content": {"application/vnd.things.v3+json": {"schema": own}}}
    if n % 7 == 1: found["requestBody"] = {"content": {"application/json": {"schema": {"$ref": f"#/paths/~1things~1{n - 1}~1%7Bowner%7D/{METHODS[(n - 1) % 5]}/requestBody/content/application~1vnd.things.v3+json/schema/properties/whole"}}}} if (n - 1) % 3 else found.get("requestBody", {"content": {}})
    return found

METHODS = ("get", "post", "put", "patch", "delete")

def large_document(operations=1223, many=900, seed=5):
    "A document like those of the largest services: a deep graph of components, references with `~1` in them, names that repeat."
    rng = random.Random(seed)
    paths = {f"/things/{n}/{{owner}}": {METHODS[n % 5]: operation(rng, n, many)} for n in range(operations)}
    parameters = {f"owner/{k}": {"name": "owner", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Whose it is"} for k in range(40)}
    return {"openapi": "3.0.3", "info": {"title": "Things", "version": "1"}, "servers": [{"url": "https://api.things.example"}], "paths": paths,
            "components": {"parameters": parameters, "schemas": {f"thing/{n}": schema(rng, n, many) for n in range(many)}}}

def documents(folder, made):
    "Names and files, smallest first."
    for name, count, many in (("made, 20 operations", 20, 8), ("made, 400 operations", 400, 300), ("made, 1,223 operations", 1223, 900)):
        path = Path(made) / f"{count}.json"
        path.write_text(json.dumps(large_document(count, many)))
        yield name, path
    for path in sorted(Path(folder).glob("*.json"), key=os.path.getsize) if Path(folder).is_dir() else (): yield path.stem, path


# Measures

def timed(works, rounds):
    "Medians in milliseconds, the works taking turns."
    seconds = [[] for _ in works]
    for _ in range(rounds):
        for kept, work in zip(seconds, works):
            gc.collect()
            start = time.process_time(); result = work(); kept.append(time.process_time() - start)
            del result
    return [1000 * median(kept) for kept in seconds]

def peak(work):
    "Most memory in use at a time, in MB."
    gc.collect(); tracemalloc.start()
    work()
    found = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
    return found / 1e6

def floor(path):
    with open(path) as file: return json.load(file)

def listed(path): return api_schema("https://api.example", load_oas(path))
def complete(path): return [json.dumps(public_tool(tool)) for tool in listed(path)]

def others():
    "Other libraries that are installed: name and function of a document."
    if find_spec("openapi_llm"):
        from openapi_llm.client.config import ClientConfig
        from openapi_llm.core.spec import OpenAPISpecification
        yield "openapi-llm", lambda path: ClientConfig(openapi_spec=OpenAPISpecification.from_str(path.read_text()), credentials=None).get_tool_definitions()
    if find_spec("fastmcp"):
        import httpx
        from fastmcp import FastMCP
        yield "FastMCP", lambda path: FastMCP.from_openapi(floor(path), client=httpx.AsyncClient(base_url="https://api.example"))

def row(name, path, rounds, rivals):
    base, ours = timed([lambda: floor(path), lambda: listed(path)], rounds)
    whole, = timed([lambda: complete(path)], min(rounds, 3))
    memory, least = peak(lambda: listed(path)), peak(lambda: floor(path))
    tools = listed(path)
    assert len({tool.name for tool in tools}) == len(tools)
    cells = [name, f"{os.path.getsize(path) / 1e6:.2f}", len(tools), sum("body" in tool["function"]["parameters"]["properties"] for tool in tools),
             f"{base:.2f}", f"{ours:.2f}", f"**{ours / base:.2f}**", f"{whole:.1f}", f"{least:.1f}", f"{memory:.1f}", f"**{memory / least:.2f}**"]
    for _, work in rivals:
        if os.path.getsize(path) > 1e6: cells.append("not run"); continue
        try: cells.append(f"{timed([lambda: work(path)], 3)[0]:.0f}")
        except Exception as e: cells.append(type(e).__name__)
    return cells

def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="more rounds, and other libraries on every document")
    parser.add_argument("--documents", default=HERE.parent.parent / "shared" / "data" / "openapi")
    given = parser.parse_args()
    rivals = list(others()) if given.full else []
    head = ["document", "MB", "operations", "bodies", "json.load ms", "listed ms", "ratio", "complete ms", "json.load MB", "peak MB", "ratio", *(f"{name} ms" for name, _ in rivals)]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head))
    with tempfile.TemporaryDirectory() as made:
        for name, path in documents(given.documents, made):
            small = os.path.getsize(path) < 1e6
            rounds = (101 if small else 15) if given.full else (31 if small else 5)
            print("| " + " | ".join(map(str, row(name, path, rounds, rivals))) + " |", flush=True)
    if given.full and not rivals: print("\nNo other library is installed (openapi-llm, fastmcp): their columns are left out.")


if __name__ == "__main__": main()
