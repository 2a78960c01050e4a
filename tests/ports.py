"""Ports for servers that must know theirs before they start."""

import random
import socket
from contextlib import suppress

# Below those that Linux deals out: no connection and no server of another test gets one meanwhile.
PORTS = range(20_000, 32_768)
# Hypothesis seeds the module's own generator, and then two processes would draw the same.
CHANCE = random.SystemRandom()


def free_port() -> int:
    """One that nobody has."""
    while True:
        port = CHANCE.choice(PORTS)
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
