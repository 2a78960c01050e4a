"""The commands of the client: `vssl embed`, `vssl neighbours`.

A command's module imports typer and the standard library at the top, and all else inside, so that `vssl --help` stays
fast. `embed_opening` and `embed_messages` are imported inside, and may import everything.
"""
