"""Older Chroma servers for the compatibility tests, kept in `.servers/` of the repository.

`make servers` (or `python tests/compat_servers.py`) installs them once; tests only look them up.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from chromasync.lab.chroma_server import WATCHDOG, installed_command, rust_command

ROOT = Path(__file__).resolve().parent.parent
SERVERS = ROOT / ".servers"
PYTHON_SERVER = "0.6.3"
RUST_SERVERS = ("1.0.0", "1.0.20", "1.3.0", "1.3.7")
INSTALLED = "1.5.9"
VERSIONS = (PYTHON_SERVER, *RUST_SERVERS, INSTALLED)
DONE = ".installed"

# What the server of 0.6.3 imports; the model runtime it names for embeddings is left out below.
PYTHON_SERVER_PACKAGES = """
annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 asgiref==3.13.0 backoff==2.2.1
bcrypt==5.0.0 certifi==2026.10.19.post1 charset-normalizer==3.5.2 chroma-hnswlib==0.7.6
click==8.5.1 distro==1.9.0 fastapi==0.165.0 googleapis-common-protos==1.76.0 grpcio==1.85.3
h11==0.16.0 httpcore==1.0.9 httpx==0.28.1 idna==3.20 importlib_resources==7.1.0
markdown-it-py==4.3.0 mdurl==0.1.2 numpy==2.4.6 opentelemetry-api==1.45.2
opentelemetry-exporter-otlp-common==0.66b2 opentelemetry-exporter-otlp-proto-common==1.45.2
opentelemetry-exporter-otlp-proto-grpc==1.45.2 opentelemetry-instrumentation==0.66b2
opentelemetry-instrumentation-asgi==0.66b2 opentelemetry-instrumentation-fastapi==0.66b2
opentelemetry-proto==1.45.2 opentelemetry-sdk==1.45.2 opentelemetry-semantic-conventions==0.66b2
opentelemetry-util-http==0.66b2 orjson==3.13.0 overrides==7.7.0 packaging==26.3 posthog==7.91.1
protobuf==7.36.2 pydantic==2.14.4 pydantic_core==2.50.5 Pygments==2.21.0 PyPika==0.51.1
PyYAML==6.0.4 requests==2.34.2 rich==15.0.0 shellingham==1.5.4 starlette==1.10.0
tenacity==9.2.1 tqdm==4.70.1 typer==0.29.2 typing-inspection==0.4.5 typing_extensions==4.16.0
urllib3==2.8.0 uvicorn==0.54.0 wrapt==2.5.2
"""

# These stand in for packages of hundreds of megabytes that only a client's embedding would use.
STAND_INS = {"onnxruntime.py": "", "tokenizers.py": "Tokenizer = None\n"}

PYTHON_SERVER_CODE = (
    WATCHDOG
    + """
sys.path.insert(0, sys.argv.pop(1))
sys.argv[0] = "chroma"
from chromadb.cli.cli import app
app()
"""
)


def command(version: str) -> list[str]:
    """The command that runs this version, for `ChromaServer(command=…)`.

    Raises:
        RuntimeError: it is not installed; the text tells how to install it.
    """
    if version == INSTALLED:
        return installed_command()
    folder = SERVERS / version
    if not (folder / DONE).exists():
        raise RuntimeError(f"Chroma {version} is not installed here; run `make servers` first.")
    if version == PYTHON_SERVER:
        return [sys.executable, "-I", "-S", "-c", PYTHON_SERVER_CODE, str(folder)]
    return rust_command(folder)


def install(version: str) -> None:
    """Install one version into its own folder, from scratch unless it is there already."""
    folder = SERVERS / version
    if (folder / DONE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    packages = [f"chromadb=={version}"]
    if version == PYTHON_SERVER:
        packages += PYTHON_SERVER_PACKAGES.split()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", str(folder), *packages], check=True)
    if version == PYTHON_SERVER:
        for name, text in STAND_INS.items():
            (folder / name).write_text(text)
    (folder / DONE).touch()


def main() -> None:
    for version in (PYTHON_SERVER, *RUST_SERVERS):
        print(f"Chroma {version}", flush=True)
        try:
            install(version)
        except subprocess.CalledProcessError as error:
            hint = " It needs Python 3.11 or 3.12, or a C++ compiler." * (version == PYTHON_SERVER)
            sys.exit(f"Chroma {version} could not be installed ({error}).{hint}")


if __name__ == "__main__":
    main()
