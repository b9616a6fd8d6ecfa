"""A kubectl of the tests: it answers `get` from a file, and really forwards TCP; the first forward drops when told.

`FAKE_KUBE` names a folder: `objects.json` (what -> JSON), `ports.json` (remote port -> where it is really served),
and `drop`: while it exists, forwards of what it names end at once and leave it away.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_KUBE"])


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def forward(what: str, ports: str) -> None:
    local, remote = map(int, ports.split(":"))
    host, port = json.loads((FOLDER / "ports.json").read_text())[str(remote)].split(":")

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, other_writer), pipe(other_reader, writer), return_exceptions=True)

    await asyncio.start_server(accept, "127.0.0.1", local)
    sys.stdout.write(f"Forwarding from 127.0.0.1:{local} -> {remote}\n")
    sys.stdout.flush()
    drop = FOLDER / "drop"
    while not (drop.exists() and drop.read_text() == what):  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    drop.unlink()
    sys.stderr.write("error: lost connection to pod\n")
    sys.stderr.flush()
    os._exit(1)


def main() -> None:
    (FOLDER / "said").open("a").write(" ".join(sys.argv[1:]) + "\n")
    match sys.argv[1:]:
        case ["get", what, *_]:
            objects = json.loads((FOLDER / "objects.json").read_text())
            if what not in objects:
                sys.exit(f'Error from server (NotFound): services "{what.partition("/")[2]}" not found')
            sys.stdout.write(json.dumps(objects[what]))
        case ["port-forward", what, ports, *_]:
            asyncio.run(forward(what, ports))


main()
