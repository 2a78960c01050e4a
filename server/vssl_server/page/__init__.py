"""The web page: its files in `static/`, and how they go out. May import nothing of the server."""
