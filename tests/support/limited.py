"""The command of a Chroma server that takes no body larger than it is told.

The limit can only be set in a configuration file, which this writes beside the server's data.
"""

from __future__ import annotations

from chromasync.lab.chroma_server import WATCHDOG, installed_command

CODE = (
    WATCHDOG
    + """
folder, limit, _, *options = sys.argv[1:]
sys.path.insert(0, folder)
import chromadb_rust_bindings
given = dict(zip(options[::2], options[1::2]))
lines = {
    "persist_path": given["--path"],
    "listen_address": given["--host"],
    "port": given["--port"],
    "max_payload_size_bytes": limit,
}
file = os.path.join(given["--path"], "server.yaml")
with open(file, "w") as config:
    config.writelines(f"{name}: {value}\\n" for name, value in lines.items())
chromadb_rust_bindings.cli(["chroma", "run", file])
"""
)


def command_with_limit(body_bytes: int) -> list[str]:
    """The installed server with this limit, for `ChromaServer(command=…)`."""
    *python, _, folder = installed_command()
    return [*python, CODE, folder, str(body_bytes)]
