"""The load: followers of one job's events and pollers of lists, in a process of their own. Prints what they saw as JSON.

Plain sockets: a client library would need more processor time than the server that it asks.
"""

import argparse
import asyncio
import json
import re
import resource
import time
from dataclasses import asdict, dataclass, field

EVENT_ID = re.compile(rb"\nid: (\d+)\n")
LISTS = ("/api/jobs", "/api/datasets")
"""What the pages that show lists ask for."""


@dataclass
class Seen:
    """What one run of the clients saw."""

    seconds: float = 0.0
    events: int = 0
    broken: list[str] = field(default_factory=list)
    """Followers whose events had a gap or came twice, in words."""
    last_seqs: list[int] = field(default_factory=list)
    """The last event of each follower."""
    refused: list[str] = field(default_factory=list)
    """Answers other than 200."""
    latencies_ms: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0


async def open_request(port: int, path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send one GET over a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    send(writer, port, path)
    return reader, writer


def send(writer: asyncio.StreamWriter, port: int, path: str) -> None:
    """Send one GET."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\n\r\n".encode())


async def follow(port: int, job_id: str, seen: Seen, until: float) -> None:
    """Follow a job from its first event until it ends or the time is over; check that each event came once."""
    reader, writer = await open_request(port, f"/api/jobs/{job_id}/events")
    last, buffer, ended = 0, b"", False
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            seen.refused.append(head.split(b"\r\n")[0].decode())
            return
        while not ended and (left := until - time.monotonic()) > 0:
            try:
                piece = await asyncio.wait_for(reader.read(1 << 16), left)
            except TimeoutError:
                break
            ended = not piece
            buffer += piece
            end = 0
            for found in EVENT_ID.finditer(buffer):
                seq, end = int(found[1]), found.end() - 1
                if seq != last + 1:
                    seen.broken.append(f"{seq} after {last}")
                last = seq
                seen.events += 1
            buffer = buffer[end:]
    finally:
        writer.close()
        seen.last_seqs.append(last)


async def poll(asked: argparse.Namespace, number: int, seen: Seen, until: float) -> None:
    """Ask for the lists in turn over one connection, one after each pause."""
    await asyncio.sleep(asked.every * number / asked.pollers)
    reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
    turn = number
    try:
        while time.monotonic() < until:
            began = time.monotonic()
            send(writer, asked.port, LISTS[turn % len(LISTS)])
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(length[1]) if length else 0)
            seen.latencies_ms.append((time.monotonic() - began) * 1000)
            if not head.startswith(b"HTTP/1.1 200"):
                seen.refused.append(head.split(b"\r\n")[0].decode())
            turn += 1
            await asyncio.sleep(max(0.0, min(until, began + asked.every) - time.monotonic()))
    except (asyncio.IncompleteReadError, OSError) as problem:
        seen.refused.append(type(problem).__name__)
    finally:
        writer.close()


async def run(asked: argparse.Namespace) -> Seen:
    """Let all clients work at once."""
    seen, began = Seen(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(asked.followers):
            group.create_task(follow(asked.port, asked.job, seen, began + asked.seconds))
        for number in range(asked.pollers):
            group.create_task(poll(asked, number, seen, began + asked.seconds))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seen.seconds, seen.cpu_seconds = time.monotonic() - began, usage.ru_utime + usage.ru_stime
    return seen


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--pollers", type=int, default=50)
    parser.add_argument("--every", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    print(json.dumps(asdict(asyncio.run(run(parser.parse_args())))))


if __name__ == "__main__":
    main()
