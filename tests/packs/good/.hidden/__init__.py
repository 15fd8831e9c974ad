# ruff: noqa: N999
raise RuntimeError("this pack is not to be loaded")
