"""The words of `limner serve` alone: ComfyUI's, where it has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

EVERYWHERE = "0.0.0.0,::"

FLAGS: dict[str, dict[str, Any]] = {
    "--listen": {
        "help": "addresses to listen at, with commas between them (default: %(default)s); all, if none is named. "
        "Whoever is not on this machine needs the token",
        "metavar": "IP",
        "nargs": "?",
        "const": EVERYWHERE,
        "default": "127.0.0.1",
    },
    "--port": {"help": "default: %(default)s; 0: any that is free", "metavar": "N", "type": int, "default": 8188},
    "--token": {
        "help": "what visitors must show; LIMNER_TOKEN says the same. Without it one is made where it is needed",
        "metavar": "TEXT",
    },
    "--allow-host": {
        "help": "a name by which the server may be called, beside localhost; repeatable",
        "metavar": "NAME",
        "action": "append",
        "default": [],
    },
    "--enable-cors-header": {
        "help": "let pages of this other origin use the server; of every one, if none is named",
        "metavar": "ORIGIN",
        "nargs": "?",
        "const": "*",
        "default": "",
    },
    "--max-upload-size": {
        "help": "MB of a file that is sent (default: %(default)s)",
        "metavar": "MB",
        "type": float,
        "default": 100.0,
    },
    "--output-directory": {"help": "where pictures go", "metavar": "DIR", "type": Path},
    "--input-directory": {"help": "where pictures are read from", "metavar": "DIR", "type": Path},
    "--temp-directory": {"help": "in whose folder temp previews go", "metavar": "DIR", "type": Path},
    "--data": {"help": "where the queue and the cache lie", "metavar": "DIR", "type": Path},
    "--extra-model-paths-config": {
        "help": "ComfyUI's YAML that says where else models and packs lie; repeatable",
        "metavar": "FILE",
        "type": Path,
        "nargs": "+",
        "action": "extend",
        "default": [],
    },
    "--packs": {
        "help": "a folder of node packs; repeatable. Packs are programs: they may do what you may",
        "metavar": "DIR",
        "type": Path,
        "action": "append",
        "default": [],
    },
    "--front-end-root": {"help": "serve the files of another front end", "metavar": "DIR", "type": Path},
    "--cpu": {"help": "the same as --device cpu", "action": "store_true"},
    "--cache-lru": {"help": "keep this many results", "metavar": "N", "type": int, "dest": "cache_entries"},
    "--cache-none": {"help": "keep no results", "action": "store_const", "const": 0, "dest": "cache_entries"},
    "--preview-method": {
        "help": "show pictures while they are made (default: %(default)s)",
        "choices": ["none", "auto", "latent2rgb", "taesd"],
        "default": "none",
    },
    "--preview-size": {"help": "pixels (default: %(default)s)", "metavar": "N", "type": int, "default": 512},
    "--start-paused": {"help": "take jobs, and run none until told to", "action": "store_true"},
    "--workers": {
        "help": "run jobs in so many processes of their own, each on a device of its own if there are enough",
        "metavar": "N",
        "type": int,
        "default": 0,
    },
    "--batch-jobs": {
        "help": "run so many jobs side by side on a device, in shared passes of networks (default: %(default)s)",
        "metavar": "N",
        "type": int,
        "default": 1,
    },
    "--verbose": {
        "help": "how much to log (default: %(default)s; DEBUG, if nothing is named)",
        "metavar": "LEVEL",
        "nargs": "?",
        "const": "DEBUG",
        "default": "INFO",
        "choices": ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    },
}
