"""A BaseLLM of CrewAI."""

from typing import Any

from crewai import BaseLLM

from tests.frameworks.script import Call, turn


class Model(BaseLLM):
    """A model without a service."""

    def supports_function_calling(self) -> bool:
        return True

    def call(self, messages: Any, tools: Any = None, *_: Any, **__: Any) -> Any:
        (tool,) = tools
        arguments = tool["function"]["parameters"]["properties"]
        prompts = [
            message["content"].removeprefix("\nCurrent Task: ")
            for message in messages
            if message["role"] == "user"
        ]
        last = messages[-1]
        result = last["content"] if last["role"] == "tool" else None
        match turn(prompts, result, arguments):
            case Call(agent, question):
                asked = {"agent": agent, "question": question}
                function = {"name": tool["function"]["name"], "arguments": asked}
                return [{"id": "call", "type": "function", "function": function}]
            case text:
                return text


model = Model(model="script")
