"Reference entries for the documentation: the signature, docstring and parameter table of every public name, from the package itself."
import ast, inspect, re
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, get_args, get_origin

from fastcore.docments import docments
from nbdev.doclinks import patch_name

EMPTY = inspect.Parameter.empty
STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def escape(text):
    "`text` as Markdown that cannot turn into HTML or end a table cell; code spans stay code."
    parts = re.split(r"(`+[^`]+`+)", " ".join(str(text).split()))
    return "".join(p if i % 2 else re.sub(r"([<*_])", r"\\\1", p) for i, p in enumerate(parts)).replace("|", r"\|")


def show_type(annotation):
    "An annotation as one would write it."
    if annotation is EMPTY: return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", text.strip("'\""))


def show_default(value):
    "A default as one would write it: no addresses, nothing endless."
    if callable(value) and hasattr(value, "__name__"): return value.__name__
    text = repr(value)
    return text if len(text) <= 60 and not re.search(r"<.*>| at 0x", text) else "..."


@dataclass
class Parameter:
    name: str
    type: str
    default: str
    details: str


@dataclass
class Entry:
    "What the documentation says about one public name."
    name: str                # As its page calls it: `complete`, `Session.chat`
    module: str              # Where it is defined
    kind: str                # function, class, method, property or data
    signature: str = ""      # `(text, on_event=None) -> str`
    docs: str = ""           # Its docstring
    parameters: list = field(default_factory=list)
    returns: Parameter | None = None

    @property
    def target(self): return f"{self.module}.{self.name}"


def signature_of(obj):
    "The signature of `obj` without types, its parameters, and what it returns."
    if getattr(obj, "_is_protocol", False): return "", [], EMPTY  # nobody makes one
    try: sig = inspect.signature(obj)
    except (TypeError, ValueError): return "", [], EMPTY
    shown = [p.replace(annotation=EMPTY) for p in sig.parameters.values() if p.name not in ("self", "cls")]
    words, star = [], False
    for p in shown:
        if p.kind is p.KEYWORD_ONLY and not star: words.append("*"); star = True
        star = star or p.kind is p.VAR_POSITIONAL
        words.append(STARS.get(p.kind, "") + p.name + (f"={show_default(p.default)}" if p.default is not EMPTY else ""))
    returns = "" if sig.return_annotation in (EMPTY, None) else f" -> {show_type(sig.return_annotation)}"
    return f"({', '.join(words)}){returns}", [sig.parameters[p.name] for p in shown], sig.return_annotation


def comments_of(obj):
    "The parameter comments of `obj` by name, `return` among them; empty where its source is out of reach."
    if inspect.isclass(obj) and "__new__" in vars(obj) and "__init__" not in vars(obj): obj = obj.__new__
    try: found = docments(obj, args_kwargs=True)
    except (TypeError, ValueError, OSError, SyntaxError, AttributeError, IndexError): return {}
    return found if isinstance(found, dict) else {}


def describe(obj, name, module, kind):
    "The entry of `obj`."
    if kind == "property": obj = getattr(obj, "fget", None) or getattr(obj, "func", obj)
    signature, parameters, returned = signature_of(obj)
    comments = comments_of(obj)
    rows = [Parameter(STARS.get(p.kind, "") + p.name, show_type(p.annotation), "" if p.default is EMPTY else show_default(p.default),
                      comments.get(p.name) or "") for p in parameters]
    said = comments.get("return") or ""
    returns = Parameter("", show_type(returned), "", said) if kind != "class" and (said or returned not in (EMPTY, None)) else None
    own = obj.__dict__.get("__doc__") if inspect.isclass(obj) else obj.__doc__
    return Entry(name, module, kind, "" if kind == "property" else signature, inspect.cleandoc(own or ""), rows, returns)


def methods_of(tree):
    "The public methods and properties that are written in the body of the class `tree`."
    wanted = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [n.name for n in tree.body if isinstance(n, wanted) and (not n.name.startswith("_") or n.name == "__call__")]


def lookup(module, dotted):
    "The object that `dotted`, `name` or `Class.name`, means in `module`, without running properties."
    head, *rest = dotted.split(".")
    obj = getattr(module, head)
    for part in rest: obj = inspect.getattr_static(obj, part)
    return obj


def kind_of(obj, dotted):
    if inspect.isclass(obj): return "class"
    if isinstance(obj, property) or type(obj).__name__ == "cached_property": return "property"
    return "method" if "." in dotted else "function"


def entry(module_name, dotted):
    "The entry for `dotted` of the module called `module_name`."
    obj = lookup(import_module(module_name), dotted)
    kind = kind_of(obj, dotted)
    if isinstance(obj, (classmethod, staticmethod)): obj = obj.__func__
    if type(obj).__name__ == "_clsmethod": obj = obj.f  # what fastcore's `patch` makes of a class method
    return describe(obj, dotted, module_name, kind)


def data_entry(module_name, name, line=""):
    "The entry for a public value that is neither function nor class; the comment after it says what it is."
    value = getattr(import_module(module_name), name)
    said = line.partition("# ")[2].strip() if "#" in line else ""
    choices = ", ".join(f"`{choice}`" for choice in get_args(value)) if get_origin(value) is Literal else ""
    said = f"{said}: {choices}." if said and choices else said or choices and f"One of {choices}."
    return Entry(name, module_name, "data", docs=said or f"A `{type(value).__name__}`.")


def public(module_name): return list(getattr(import_module(module_name), "__all__", []))


def defined_names(source):
    "The public names that a cell with this `source` defines, in order: classes bring the methods in their bodies."
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names = patch_name(node)
            for name in names if isinstance(names, list) else [names]:
                if not any(part.startswith("_") and part != "__call__" for part in name.split(".")): yield name, ""
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from ((f"{node.name}.{method}", "") for method in methods_of(node))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            lines = source.splitlines()
            for target in targets:
                if isinstance(target, ast.Name) and not target.id.startswith("_"): yield target.id, lines[node.end_lineno - 1]


def cell_entries(module_name, source):
    "Entries for what an exported cell adds to the public names of its module."
    names = set(public(module_name))
    for name, line in defined_names(source):
        if name.split(".")[0] not in names: continue
        obj = lookup(import_module(module_name), name)
        is_code = inspect.isclass(obj) or callable(obj) and get_origin(obj) is None  # an alias such as Literal[...] can be called, too
        plain = not (is_code or isinstance(obj, (property, classmethod, staticmethod)) or "." in name)
        yield data_entry(module_name, name, line) if plain or not hasattr(obj, "__doc__") else entry(module_name, name)


def table(parameters, returns=None):
    "A Markdown table of parameters, with the columns that say something."
    rows = list(parameters) + ([returns] if returns else [])
    if not rows: return ""
    columns = [("Parameter", lambda p: f"`{p.name}`" if p.name else "**returns**")]
    if any(p.type for p in rows): columns.append(("Type", lambda p: f"`{p.type}`".replace("|", r"\|") if p.type else ""))
    if any(p.default for p in rows): columns.append(("Default", lambda p: f"`{p.default}`".replace("|", r"\|") if p.default else ""))
    if any(p.details for p in rows): columns.append(("Details", lambda p: escape(p.details)))
    lines = [[title for title, _ in columns], ["---"] * len(columns), *([show(p) for _, show in columns] for p in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def body(e):
    "What stands under the signature of entry `e`."
    docs = "\n\n".join(escape_paragraph(p) for p in re.split(r"\n\s*\n", e.docs)) if e.docs else ""
    return "\n\n".join(filter(None, [docs, table(e.parameters, e.returns)]))


def escape_paragraph(text):
    "A paragraph of a docstring; an indented one stays as it was typed."
    return f"```text\n{text}\n```" if text.startswith("    ") else escape(text).replace(r"\|", "|")


def sphinx_entry(e):
    "Entry `e` as a MyST directive of Sphinx's Python domain: it can be linked to and searched for."
    options = [f":module: {e.module}"] + ([":type: " + (e.returns.type if e.returns else "")] if e.kind == "property" and e.returns else [])
    if e.kind == "property": e = Entry(**{**vars(e), "returns": None})
    return "\n".join([f"``````{{py:{e.kind}}} {e.name}{e.signature}", *options, "", body(e), "``````"])


def quarto_entry(e):
    "Entry `e` as plain Markdown with an anchor."
    return "\n\n".join([f"### {e.name} {{#{e.name.lower()}}}", f"```python\n{e.name}{e.signature}\n```", body(e)])
