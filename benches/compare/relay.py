"""A stand-in for a network: a TCP relay with a round-trip time, a bandwidth and byte counters.

It runs as a process of its own, so that its threads do not share an interpreter with what measures, and its CPU time can be
told apart. Each direction of each connection is read eagerly and each piece is delivered half a round trip after it came;
the bandwidth is shared by all connections, each direction having its own. What TCP would add on a real link is left out,
except that a connection's first bytes wait for the handshake: no loss, no slow start.

Without delay and cap the kernel moves the bytes itself (`splice`), which holds no interpreter lock. `relay.py --check`
measures throughput, CPU time and the accuracy of the delay; see there for what was seen.

The counters are 64-bit numbers in a file mapped into memory, which the other side reads: see COUNTERS.
"""

import argparse
import fcntl
import mmap
import os
import queue
import socket
import sys
import threading
import time

COUNTERS = ("up", "down", "connections", "active")
SIZE = 8 * len(COUNTERS)
BUFFER = 1 << 20
PIECE = 64 << 10
HELD_MOST = 64 << 20
F_SETPIPE_SZ = 1031  # Python names it from 3.10 on some systems only


class Counters:
    """The numbers that relay and measurer share."""

    def __init__(self, path):
        """Map the file, made with zeros if it is not there."""
        if not os.path.exists(path):
            with open(path, "wb") as made:
                made.write(bytes(SIZE))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._view = memoryview(self._map).cast("q")
        self._lock = threading.Lock()

    def add(self, name, amount):
        """Add to one number; only the relay does."""
        with self._lock:
            slot = COUNTERS.index(name)
            self._view[slot] = self._view[slot] + amount

    def read(self):
        """All numbers, by name."""
        return dict(zip(COUNTERS, self._view.tolist()))


class Pacer:
    """A link of so many bytes a second, which serves its senders one after the other."""

    def __init__(self, rate):
        self._rate = rate
        self._free = 0.0
        self._lock = threading.Lock()

    def leaves(self, size, now):
        """When a piece of this size, which comes now, has left the link."""
        with self._lock:
            self._free = max(now, self._free) + size / self._rate
            return self._free


class Gate:
    """Bounds the bytes that a direction holds."""

    def __init__(self, most):
        self._most = most
        self._held = 0
        self._changed = threading.Condition()

    def enter(self, size):
        """Wait until there is room; a single piece always has some."""
        with self._changed:
            while self._held and self._held + size > self._most:
                self._changed.wait()
            self._held += size

    def leave(self, size):
        """Give the room back."""
        with self._changed:
            self._held -= size
            self._changed.notify()


class Direct:
    """One direction without delay: the kernel moves what comes from socket to socket, through a pipe, uncopied."""

    def __init__(self, source, target, count):
        self._ends, self._count = (source, target), count

    def run(self):
        """Until the sender has no more, or the receiver does not want it."""
        source, target = self._ends
        out, into = os.pipe()
        fcntl.fcntl(into, F_SETPIPE_SZ, BUFFER)
        try:
            while size := os.splice(source.fileno(), into, BUFFER):
                self._count(size)
                while size:
                    size -= os.splice(out, target.fileno(), size)
        except OSError:
            pass
        os.close(out)
        os.close(into)
        end(source, target)

    def threads(self):
        """What is to run."""
        return [self.run]


class Delayed:
    """One direction with delay or cap: one thread reads and stamps, one waits and delivers."""

    def __init__(self, source, target, count, link, first_at_once=False):
        """`link`: the delay in seconds, the pacer or None, the bytes held at most."""
        self._ends, self._count = (source, target), count
        self._delay, self._pacer, most = link
        self._first_at_once = first_at_once
        self._gate = Gate(most)
        self._pieces = queue.SimpleQueue()

    def read(self):
        """Take what comes as it comes."""
        source = self._ends[0]
        try:
            while piece := source.recv(PIECE):
                now = time.monotonic()
                self._count(len(piece))
                self._pieces.put((self._due(len(piece), now), piece))
                self._gate.enter(len(piece))
        except OSError:
            pass
        self._pieces.put((time.monotonic() + self._delay, b""))

    def _due(self, size, now):
        """When a piece arrives that was sent now."""
        leaves = self._pacer.leaves(size, now) if self._pacer else now
        delay, self._first_at_once = (0 if self._first_at_once else self._delay), False
        return leaves + delay

    def deliver(self):
        """Pass each piece on when it is due."""
        source, target = self._ends
        try:
            while True:
                due, piece = self._pieces.get()
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                if not piece:
                    break
                target.sendall(piece)
                self._gate.leave(len(piece))
        except OSError:
            pass
        end(source, target)

    def threads(self):
        """What is to run."""
        return [self.read, self.deliver]


def end(source, target):
    """Pass the end of a direction on, and let its reader go on no more."""
    for side, how in ((target, socket.SHUT_WR), (source, socket.SHUT_RD)):
        try:
            side.shutdown(how)
        except OSError:
            pass


class Relay:
    """Listens, and connects each caller with the server."""

    def __init__(self, target, rtt, rate, counters):
        """`rtt` in seconds, `rate` in bytes a second or 0."""
        self._target, self._rtt, self._counters = target, rtt, counters
        # A queue as a router at the narrow place has: some fifth of a second, besides what is under way.
        most = max(256 << 10, int(rate * (0.2 + rtt))) if rate else HELD_MOST
        self._up = (rtt / 2, Pacer(rate) if rate else None, most)
        self._down = (rtt / 2, Pacer(rate) if rate else None, most)
        self._plain = not rtt and not rate
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def serve(self):
        """For ever."""
        while True:
            caller, _ = self.listener.accept()
            threading.Thread(target=self._connection, args=(caller,), daemon=True).start()

    def _connection(self, caller):
        """One connection, from its handshake to its end."""
        self._counters.add("connections", 1)
        self._counters.add("active", 1)
        try:
            # The caller's handshake took no time here; on a link the server hears of it after three half round trips.
            time.sleep(self._rtt * 1.5)
            with caller, socket.create_connection(self._target) as server:
                for side in (caller, server):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._carry(caller, server)
        except OSError as error:
            print(f"relay: {error}", file=sys.stderr)
        finally:
            self._counters.add("active", -1)

    def _carry(self, caller, server):
        """Both directions, until both have ended."""
        up, down = (lambda n: self._counters.add("up", n)), (lambda n: self._counters.add("down", n))
        if self._plain:
            ways = [Direct(caller, server, up), Direct(server, caller, down)]
        else:
            ways = [Delayed(caller, server, up, self._up, True), Delayed(server, caller, down, self._down)]
        running = [threading.Thread(target=run, daemon=True) for way in ways for run in way.threads()]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()


def main():
    """Serve, after saying on which port; or check itself."""
    parser = argparse.ArgumentParser(description="a TCP relay with delay, cap and counters")
    parser.add_argument("--port", type=int, help="the server's port on 127.0.0.1")
    parser.add_argument("--rtt", type=float, default=0, help="round-trip time in ms")
    parser.add_argument("--rate", type=float, default=0, help="bandwidth of each direction in bytes a second; 0: no cap")
    parser.add_argument("--counters", help="the file of counters")
    parser.add_argument("--check", action="store_true", help="measure this relay itself")
    options = parser.parse_args()
    if options.check:
        import relay_check

        return relay_check.main()
    relay = Relay(("127.0.0.1", options.port), options.rtt / 1000, options.rate, Counters(options.counters))
    print(relay.listener.getsockname()[1], flush=True)
    relay.serve()


if __name__ == "__main__":
    main()
