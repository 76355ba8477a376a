"""The chats that are measured, each a program of its own. Only `model` is common to all of them."""
