"""A chat model of LangChain."""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from tests.frameworks.script import Call, turn


class Model(BaseChatModel):
    """A model without a service."""

    @property
    def _llm_type(self) -> str:
        return "script"

    def bind_tools(self, tools: Any, **options: Any) -> Runnable[Any, Any]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **options)

    def _generate(self, messages: list[BaseMessage], *_: Any, **options: Any) -> ChatResult:
        (tool,) = options["tools"]
        arguments = tool["function"]["parameters"]["properties"]
        prompts = [message.text for message in messages if message.type == "human"]
        last = messages[-1]
        match turn(prompts, last.text if last.type == "tool" else None, arguments):
            case Call(agent, question):
                asked = {"agent": agent, "question": question}
                call = tool_call(
                    name=tool["function"]["name"], args=asked, id=f"call-{len(messages)}"
                )
                said = AIMessage("", tool_calls=[call])
            case text:
                said = AIMessage(text)
        return ChatResult(generations=[ChatGeneration(message=said)])


model = Model()
