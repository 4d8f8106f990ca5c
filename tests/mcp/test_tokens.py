"""What the tools of `threadbus mcp` cost in each of a model's turns."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.mcp.driver import interpreter
from tests.mcp.pipes import Pipes

pytestmark = pytest.mark.slow

_COUNTER = Path(__file__).parent / "node/tokens.cjs"


def test_tools_and_instructions_have_fewer_than_950_tokens(pipes: Pipes) -> None:
    texts = [pipes.initialize()["instructions"]]
    for tool in pipes.ask("tools/list")["tools"]:
        shown = {name: tool[name] for name in ("name", "description", "inputSchema")}
        texts.append(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))
    counted = subprocess.run(
        [interpreter("mcp-node"), _COUNTER],
        input="".join(json.dumps(text) + "\n" for text in texts),
        capture_output=True,
        text=True,
        check=True,
    )
    tokens = [int(count) for count in counted.stdout.split()]
    assert len(tokens) == len(texts)
    assert sum(tokens) < 950, tokens
