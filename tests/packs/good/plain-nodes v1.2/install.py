raise RuntimeError("nobody installs this")
