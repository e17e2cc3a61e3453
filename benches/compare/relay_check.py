"""Measures the relay itself: what it passes, what it costs, how true its delay is."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOTAL = 2 << 30
CHUNK = bytes(1 << 20)


def start(port, scratch, *options):
    """A relay before this port; the process and its port."""
    command = [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "relay.py")]
    command += ["--port", str(port), "--counters", os.path.join(scratch, f"counters{time.monotonic_ns()}"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    return process, int(process.stdout.readline())


def serve(listener, answer):
    """Answer each connection in a thread."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def echo(connection):
    """Send back what comes."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(65536):
        connection.sendall(data)


def sink(connection):
    """Take all, say so with one byte at the end."""
    buffer = bytearray(1 << 20)
    while connection.recv_into(buffer):
        pass
    connection.sendall(b".")


def cpu(pid):
    """CPU seconds of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def throughput(port, total=TOTAL):
    """Bytes a second of one plain loop to a sink."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        began = time.monotonic()
        for _ in range(total // len(CHUNK)):
            link.sendall(CHUNK)
        link.shutdown(socket.SHUT_WR)
        link.recv(1)
        return total / (time.monotonic() - began)


def delays(port, times):
    """How long single bytes take there and back, in ms, sorted."""
    seen = []
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times + 1):
            began = time.monotonic()
            link.sendall(b"x")
            link.recv(1)
            seen.append((time.monotonic() - began) * 1000)
    return sorted(seen[1:])


def main():
    """Print all of it."""
    ends = {}
    for name, answer in (("sink", sink), ("echo", echo)):
        listener = socket.create_server(("127.0.0.1", 0))
        ends[name] = listener.getsockname()[1]
        threading.Thread(target=serve, args=(listener, answer), daemon=True).start()
    with tempfile.TemporaryDirectory() as scratch:
        print(f"no relay: {throughput(ends['sink']) / 1e9:.2f} GB/s")
        for options in ([], ["--rtt", "1"], ["--rate", "12500000"]):
            total = TOTAL if "--rate" not in options else 64 << 20
            process, port = start(ends["sink"], scratch, *options)
            before = cpu(process.pid)
            rate = throughput(port, total)
            cost = (cpu(process.pid) - before) / (total / 1e9)
            print(f"{' '.join(options) or 'plain'}: {rate / 1e9:.3f} GB/s, {cost:.2f} CPU-s/GB")
            process.kill()
        for rtt in (0, 5, 50, 100):
            process, port = start(ends["echo"], scratch, "--rtt", str(rtt))
            seen = delays(port, 200 if rtt < 50 else 40)
            print(f"rtt {rtt} ms: median {seen[len(seen) // 2]:.3f}, 95 % below {seen[len(seen) * 95 // 100]:.3f} ms")
            process.kill()
