"""`vssl gallery …`: its subcommands by what they do, each flag an argument.

May import filling, galleries, folder, client and what stands before them, all when a command runs.
"""

from vssl_client.commands.gallery import asking, curating, filling, keeping
from vssl_client.commands.gallery.app import gallery

__all__ = ["asking", "curating", "filling", "gallery", "keeping"]
