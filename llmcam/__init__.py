"Talk to cameras: capture, detect, plot and watch by asking a language model."
__version__ = "0.1.0"

from .core.policy import ToolPolicy, trust
