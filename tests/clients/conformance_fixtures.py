"""The tools, resources and prompts that the MCP conformance suites call; tests only.

The suites cannot know a server's own tools, so their scenarios name fixtures and say what each
must do. They are registered on the server under test: what passes, passes on our server, our
transports and our guards. Names and texts are the suites' own.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context, MCPServer, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CallToolResult,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF\x26\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00"
    b"\x02\x00\x10\x00data\x02\x00\x00\x00\x00\x00"
).decode()
STEP_S = 0.05  # the suites ask for about 50 ms between notifications

SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}

DEFAULTS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    },
}

ENUMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
        "titledSingle": {
            "type": "string",
            "oneOf": [
                {"const": "value1", "title": "First Option"},
                {"const": "value2", "title": "Second Option"},
            ],
        },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": {"type": "string", "enum": ["option1", "option2", "option3"]},
        },
        "titledMulti": {
            "type": "array",
            "items": {
                "anyOf": [
                    {"const": "value1", "title": "First Choice"},
                    {"const": "value2", "title": "Second Choice"},
                ]
            },
        },
    },
}


def register(mcp: MCPServer) -> None:
    """Add the suites' fixtures to a server."""
    _add_content_tools(mcp)
    _add_conversation_tools(mcp)
    _add_multi_round_tools(mcp)
    _add_resources(mcp)
    _add_prompts(mcp)


def _png() -> ImageContent:
    return ImageContent(type="image", data=PNG, mime_type="image/png")


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


def _add_content_tools(mcp: MCPServer) -> None:
    @mcp.tool(structured_output=False)
    def test_simple_text() -> str:
        """Returns a text."""
        return "This is a simple text response for testing."

    @mcp.tool(structured_output=False)
    def test_image_content() -> list[ImageContent]:
        """Returns an image."""
        return [_png()]

    @mcp.tool(structured_output=False)
    def test_audio_content() -> list[AudioContent]:
        """Returns a sound."""
        return [AudioContent(type="audio", data=WAV, mime_type="audio/wav")]

    @mcp.tool(structured_output=False)
    def test_embedded_resource() -> list[EmbeddedResource]:
        """Returns a resource inside the answer."""
        return [_embedded("test://embedded-resource", "This is an embedded resource content.")]

    @mcp.tool(structured_output=False)
    def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        """Returns a text, an image and a resource."""
        data = json.dumps({"test": "data", "value": 123})
        return [
            _text("Multiple content types test:"),
            _png(),
            _embedded("test://mixed-content-resource", data, "application/json"),
        ]

    @mcp.tool(structured_output=False)
    def test_error_handling() -> str:
        """Fails."""
        raise ToolError("This tool intentionally returns an error for testing")

    @mcp.tool(structured_output=False)
    def json_schema_2020_12_tool() -> str:
        """Has an input schema with keywords of JSON Schema 2020-12."""
        return "ok"

    # No signature makes such a schema, and the server has no public way to set one.
    tool = mcp._tool_manager.get_tool("json_schema_2020_12_tool")
    assert tool is not None
    tool.parameters = SCHEMA_2020_12

    @mcp.tool(structured_output=False)
    def test_custom_headers(
        region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
    ) -> str:
        """Has an argument that is repeated in an HTTP header."""
        return region


def _add_conversation_tools(mcp: MCPServer) -> None:
    @mcp.tool(structured_output=False)
    async def test_tool_with_progress(ctx: Context) -> str:
        """Reports progress three times."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"Completed step {done} of 100")
            await anyio.sleep(STEP_S)
        return "Tool with progress executed successfully"

    @mcp.tool(structured_output=False)
    async def test_tool_with_logging(ctx: Context) -> str:
        """Logs three times."""
        await ctx.info("Tool execution started")
        await anyio.sleep(STEP_S)
        await ctx.info("Tool processing data")
        await anyio.sleep(STEP_S)
        await ctx.info("Tool execution completed")
        return "Tool with logging executed successfully"

    @mcp.tool(structured_output=False)
    async def test_logging_tool(ctx: Context) -> str:
        """Logs once; the client sees it only if it asked for logs."""
        await ctx.info("logged")
        return "logged"

    @mcp.tool(structured_output=False)
    async def test_sampling(prompt: str, ctx: Context) -> str:
        """Asks the client's model."""
        answer = await ctx.session.create_message(
            [SamplingMessage(role="user", content=_text(prompt))],
            max_tokens=100,
            related_request_id=ctx.request_id,
        )
        return f"LLM response: {answer.content.text if isinstance(answer.content, TextContent) else ''}"

    async def ask(ctx: Context, message: str, schema: dict[str, Any]) -> ElicitResult:
        return await ctx.session.elicit(message, schema, related_request_id=ctx.request_id)

    @mcp.tool(structured_output=False)
    async def test_elicitation(message: str, ctx: Context) -> str:
        """Asks the user."""
        schema = {
            "type": "object",
            "properties": {
                "username": {"type": "string", "description": "User's response"},
                "email": {"type": "string", "description": "User's email address"},
            },
            "required": ["username", "email"],
        }
        answer = await ask(ctx, message, schema)
        return f"User response: action={answer.action}, content={json.dumps(answer.content)}"

    @mcp.tool(structured_output=False)
    async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
        """Asks the user with defaults of every primitive type."""
        answer = await ask(ctx, "Please provide user information", DEFAULTS_SCHEMA)
        return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"

    @mcp.tool(structured_output=False)
    async def test_elicitation_sep1330_enums(ctx: Context) -> str:
        """Asks the user with every kind of enum."""
        answer = await ask(ctx, "Please select", ENUMS_SCHEMA)
        return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"

    @mcp.tool(structured_output=False)
    async def test_reconnection(ctx: Context) -> str:
        """Closes its event stream in the middle; the client may come back for the rest."""
        await ctx.close_sse_stream()
        await anyio.sleep(2 * STEP_S)
        return "Reconnection test completed"

    @mcp.tool(structured_output=False)
    async def test_trigger_tool_change(ctx: Context) -> str:
        """Changes the list of tools and says so."""
        if mcp._tool_manager.get_tool("test_temporary_tool"):
            mcp.remove_tool("test_temporary_tool")
        else:
            mcp.add_tool(lambda: "ok", name="test_temporary_tool", description="Comes and goes.")
        await ctx.notify_tools_changed()
        return "changed"

    @mcp.tool(structured_output=False)
    async def test_trigger_prompt_change(ctx: Context) -> str:
        """Says that the list of prompts changed."""
        await ctx.notify_prompts_changed()
        return "changed"


def _form(message: str, **properties: str) -> ElicitRequest:
    return ElicitRequest(
        params=ElicitRequestFormParams(
            message=message,
            requested_schema={
                "type": "object",
                "properties": {name: {"type": kind} for name, kind in properties.items()},
                "required": list(properties),
            },
        )
    )


def _sample(prompt: str, max_tokens: int = 100) -> CreateMessageRequest:
    return CreateMessageRequest(
        params=CreateMessageRequestParams(
            messages=[SamplingMessage(role="user", content=_text(prompt))], max_tokens=max_tokens
        )
    )


def _filled(ctx: Context, key: str, field: str) -> Any:
    """The field of a form that the client answered, or None."""
    answer = (ctx.input_responses or {}).get(key)
    return (answer.content or {}).get(field) if isinstance(answer, ElicitResult) else None


def _sampled(ctx: Context, key: str) -> str | None:
    answer = (ctx.input_responses or {}).get(key)
    if isinstance(answer, CreateMessageResult) and isinstance(answer.content, TextContent):
        return answer.content.text
    return None


def _roots(ctx: Context, key: str) -> str | None:
    answer = (ctx.input_responses or {}).get(key)
    return ", ".join(str(root.uri) for root in answer.roots) if isinstance(answer, ListRootsResult) else None


def _done(text: str) -> CallToolResult:
    return CallToolResult(content=[_text(text)])


Step = CallToolResult | InputRequiredResult


def _add_multi_round_tools(mcp: MCPServer) -> None:
    """2026-07-28: a tool that needs something answers with what it needs and is called again."""

    @mcp.tool(structured_output=False)
    async def test_missing_capability(ctx: Context) -> str:
        """Needs sampling and refuses clients that did not declare it."""
        if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="This tool needs the client capability sampling.",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return "ok"

    @mcp.tool(structured_output=False)
    async def test_streaming_elicitation(ctx: Context) -> Step:
        """Asks the user in the answer, never in a request of its own."""
        if name := _filled(ctx, "user_name", "name"):
            return _done(f"Hello, {name}!")
        return InputRequiredResult(input_requests={"user_name": _form("What is your name?", name="string")})

    @mcp.tool(structured_output=False)
    async def test_input_required_result_elicitation(ctx: Context) -> Step:
        """Needs a name from the user."""
        if name := _filled(ctx, "user_name", "name"):
            return _done(f"Hello, {name}!")
        return InputRequiredResult(input_requests={"user_name": _form("What is your name?", name="string")})

    @mcp.tool(structured_output=False)
    async def test_input_required_result_sampling(ctx: Context) -> Step:
        """Needs an answer of the client's model."""
        if answer := _sampled(ctx, "capital_question"):
            return _done(answer)
        return InputRequiredResult(input_requests={"capital_question": _sample("What is the capital of France?")})

    @mcp.tool(structured_output=False)
    async def test_input_required_result_list_roots(ctx: Context) -> Step:
        """Needs the client's folders."""
        roots = _roots(ctx, "client_roots")
        if roots is not None:
            return _done(f"Roots: {roots}")
        return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})

    def confirm(state: str) -> InputRequiredResult:
        return InputRequiredResult(
            input_requests={"confirm": _form("Please confirm", ok="boolean")}, request_state=state
        )

    @mcp.tool(structured_output=False)
    async def test_input_required_result_request_state(ctx: Context) -> Step:
        """Remembers something in the client between two calls."""
        if _filled(ctx, "confirm", "ok") is not None and ctx.request_state == "asked":
            return _done("state-ok")
        return confirm("asked")

    @mcp.tool(structured_output=False)
    async def test_input_required_result_tampered_state(ctx: Context) -> Step:
        """The same; the SDK seals the state and refuses one that was changed."""
        if _filled(ctx, "confirm", "ok") is not None and ctx.request_state == "sealed":
            return _done("state-ok")
        return confirm("sealed")

    @mcp.tool(structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Context) -> Step:
        """Needs three things at once."""
        name, greeting = _filled(ctx, "user_name", "name"), _sampled(ctx, "greeting")
        roots = _roots(ctx, "client_roots")
        if name and greeting and roots is not None and ctx.request_state == "three":
            return _done(f"{greeting}, {name} in {roots}")
        return InputRequiredResult(
            input_requests={
                "user_name": _form("What is your name?", name="string"),
                "greeting": _sample("Generate a greeting", 50),
                "client_roots": ListRootsRequest(),
            },
            request_state="three",
        )

    @mcp.tool(structured_output=False)
    async def test_input_required_result_multi_round(ctx: Context) -> Step:
        """Asks twice."""
        state = json.loads(ctx.request_state or "{}")
        if "name" in state and (color := _filled(ctx, "step2", "color")):
            return _done(f"{state['name']} likes {color}")
        if name := _filled(ctx, "step1", "name"):
            return InputRequiredResult(
                input_requests={"step2": _form("Step 2: What is your favorite color?", color="string")},
                request_state=json.dumps({"name": name}),
            )
        return InputRequiredResult(
            input_requests={"step1": _form("Step 1: What is your name?", name="string")},
            request_state=json.dumps({"asked": 1}),
        )

    @mcp.tool(structured_output=False)
    async def test_input_required_result_capabilities(ctx: Context) -> Step:
        """Asks only for what the client can give."""
        able = ctx.client_capabilities
        requests: dict[str, Any] = {}
        if able is not None and able.sampling is not None:
            requests["greeting"] = _sample("Generate a greeting", 50)
        if able is not None and able.elicitation is not None:
            requests["user_name"] = _form("What is your name?", name="string")
        if not requests or ctx.input_responses:
            return _done("done")
        return InputRequiredResult(input_requests=requests)


def _add_resources(mcp: MCPServer) -> None:
    @mcp.resource("test://static-text", name="static-text", description="A text.", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", name="static-binary", description="A PNG.", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @mcp.resource("test://template/{id}/data", description="A template.", mime_type="application/json")
    def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})

    @mcp.resource("test://watched-resource", description="A resource to watch.", mime_type="text/plain")
    def watched() -> str:
        return "Watched resource content"

    @mcp.completion()
    async def complete(ref: object, argument: object, context: object) -> Completion:
        return Completion(values=["paris", "park", "party"], total=3, has_more=False)


def _add_prompts(mcp: MCPServer) -> None:
    @mcp.prompt()
    def test_simple_prompt() -> list[UserMessage]:
        """A prompt without arguments."""
        return [UserMessage(_text("This is a simple prompt for testing."))]

    @mcp.prompt()
    def test_prompt_with_arguments(
        arg1: Annotated[str, Field(description="First test argument")],
        arg2: Annotated[str, Field(description="Second test argument")],
    ) -> list[UserMessage]:
        """A prompt with two arguments."""
        return [UserMessage(_text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]

    @mcp.prompt()
    def test_prompt_with_embedded_resource(
        resourceUri: Annotated[str, Field(description="URI of the resource to embed")],
    ) -> list[UserMessage]:
        """A prompt that holds a resource."""
        return [
            UserMessage(_embedded(resourceUri, "Embedded resource content for testing.")),
            UserMessage(_text("Please process the embedded resource above.")),
        ]

    @mcp.prompt()
    def test_prompt_with_image() -> list[UserMessage]:
        """A prompt that holds an image."""
        return [UserMessage(_png()), UserMessage(_text("Please analyze the image above."))]

    @mcp.prompt()
    async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
        """A prompt that needs something from the user."""
        if context := _filled(ctx, "user_context", "context"):
            return [UserMessage(_text(f"Context: {context}"))]
        return InputRequiredResult(
            input_requests={"user_context": _form("What context should the prompt use?", context="string")}
        )
