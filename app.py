"""Parley: a chat for any Pydantic AI agent. Start it with `python app.py` or, reloading on change, `gradio app.py`."""

import sys

from chat.server import Server, StartError
from chat.settings import SettingsError, read_settings

try:
    server = Server(read_settings(sys.argv[1:]))
except (SettingsError, StartError) as error:
    sys.exit(f"Parley can't start. {error}")
demo = server.demo

if __name__ == "__main__":
    try:
        server.run()
    except StartError as error:
        sys.exit(f"Parley can't start. {error}")
