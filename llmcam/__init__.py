"Talk to cameras: capture, detect, plot and watch by asking a language model."
__version__ = "0.1.0"

from .core.policy import ToolPolicy, trust

_HOMES = {"complete": "core.fc", "function_schema": "core.fn_to_schema", "Camera": "vision.camera", "detect": "vision.yolo",
          "look": "vision.gpt4v", "Rule": "vision.watch", "SessionManager": "application.session"}
__all__ = ["ToolPolicy", "trust", *_HOMES]

def __getattr__(name):
    "The names that one meets first, imported when they are asked for: `import llmcam` stays quick."
    if name not in _HOMES: raise AttributeError(f"module 'llmcam' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(f"llmcam.{_HOMES[name]}"), name)
