"""`load_model` under the name that model cards of w2v2 0.1 give; new cards name w2v2.models.saved_model."""

from w2v2.models.saved_model import load_model

__all__ = ["load_model"]
