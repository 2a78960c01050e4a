"""The server as a process: its command, sockets, signals, workers, and how it ends. May import every room."""
