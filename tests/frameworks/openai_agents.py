"""A Model of the OpenAI Agents SDK."""

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Model, ModelResponse, Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from tests.frameworks.script import Call, turn


class ScriptedModel(Model):
    """A model without a service."""

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,
        model_settings: Any,
        tools: Any,
        *_: Any,
        **__: Any,
    ) -> ModelResponse:
        (tool,) = tools
        arguments = tool.params_json_schema["properties"]
        prompts = [item["content"] for item in input if item.get("role") == "user"]
        result = input[-1].get("output")
        output: ResponseFunctionToolCall | ResponseOutputMessage
        match turn(prompts, result, arguments):
            case Call(agent, question):
                output = ResponseFunctionToolCall(
                    type="function_call",
                    call_id=f"call-{len(input)}",
                    name=tool.name,
                    arguments=json.dumps({"agent": agent, "question": question}),
                )
            case text:
                said = ResponseOutputText(type="output_text", text=text, annotations=[])
                output = ResponseOutputMessage(
                    type="message",
                    id=f"message-{len(input)}",
                    role="assistant",
                    status="completed",
                    content=[said],
                )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


model = ScriptedModel()
