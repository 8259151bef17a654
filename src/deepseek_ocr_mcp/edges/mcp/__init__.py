"""The MCP edge: tools, resources, prompts and the app."""
