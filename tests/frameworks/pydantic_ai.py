"""A FunctionModel."""

from pydantic_ai import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.frameworks.script import Call, turn


def _respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    (tool,) = info.function_tools
    parts = [part for message in messages for part in message.parts]
    prompts = [str(part.content) for part in parts if part.part_kind == "user-prompt"]
    results = [str(part.content) for part in parts if part.part_kind == "tool-return"]
    arguments = tool.parameters_json_schema["properties"]
    match turn(prompts, results[-1] if results else None, arguments):
        case Call(agent, question):
            call = ToolCallPart(tool.name, {"agent": agent, "question": question})
            return ModelResponse(parts=[call])
        case text:
            return ModelResponse(parts=[TextPart(text)])


model = FunctionModel(_respond)
