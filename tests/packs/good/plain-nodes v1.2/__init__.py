"""A pack whose folder no import statement could name, with a module of its own beside it and scripts for browsers."""
# ruff: noqa: N999

from .words import Glue, Shout

NODE_CLASS_MAPPINGS = {"Toy Glue": Glue, "ToyShout": Shout}
NODE_DISPLAY_NAME_MAPPINGS = {"Toy Glue": "Glue 🔗"}
WEB_DIRECTORY = "./web"
