"""The server as a process: its command, sockets, signals, workers, and its end. May import every room."""
