"""The commands of the client: `vssl embed`, `vssl neighbours`. Typer and the standard library at the top, all else
inside.
"""
