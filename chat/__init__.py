"""Parley: a chat for any Pydantic AI agent, over conversations that are never lost."""
