"""The examples of the documents, to be run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

_PROJECT = Path(__file__).parents[3]

#: An example that its reader has to type is short.
_MOST_LINES = 10


def example_of(document: str, containing: str, replaced: dict[str, str]) -> Any:
    """Runs the only Python example with this text as a new module, with the words replaced that a reader fills in."""
    blocks = re.findall(r"^```python\n(.*?)^```", (_PROJECT / document).read_text(), re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if containing in block]
    assert len([line for line in code.splitlines() if line.strip()]) <= _MOST_LINES
    for word, value in replaced.items():
        assert word in code
        code = code.replace(word, value)
    module = ModuleType("example")
    exec(compile(code, document, "exec"), module.__dict__)
    return module
