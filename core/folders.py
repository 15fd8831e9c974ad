"""Where things live: models, inputs, outputs and the cache, below one base directory.  Every name is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .digests import Digests, files
from .errors import ImageFileError, ModelFileError, ModelMissing, UsageError
from .files import reason, safe_join
from .plan import Fingerprint
from .schema import FileHint, ModelFile

SHIPPED = Path(__file__).parent / "models" / "default"
DEFAULT_MODEL = "limner-64"  # the checkpoint that comes with the package
DEFAULT_ENCODER = "minilm-l6"  # and its text encoder, by itself
MODEL_FOLDERS = ("checkpoints", "unet", "vae", "text_encoders")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
BACKGROUND = 64 << 20  # bytes from which a file is hashed beside the run, not before it


def default_base() -> Path:
    """The platform's folder for a user's data."""
    from platformdirs import user_data_path

    return user_data_path("limner", appauthor=False)


@dataclass(frozen=True, slots=True)
class Folders:
    """A base directory, and the memory of what its files hash to."""

    base: Path
    digests: Digests

    @classmethod
    def at(cls, base: Path) -> Folders:
        """The folders below `base`; nothing is made before it is needed."""
        return cls(base, Digests(base / "cache" / "digests.db"))

    @property
    def inputs(self) -> Path:
        """Where pictures are read from."""
        return self.base / "input"

    @property
    def output(self) -> Path:
        """Where pictures are saved."""
        return self.base / "output"

    @property
    def temp(self) -> Path:
        """Where previews go."""
        return self.base / "temp"

    @property
    def cache(self) -> Path:
        """Where results are kept."""
        return self.base / "cache"

    def model(self, folder: str, name: str) -> Path:
        """A file or folder below `models/<folder>`, or what ships under that name."""
        shipped = _shipped(folder)
        if name in shipped:
            return shipped[name]
        path = safe_join(self.base / "models" / folder, name, links=True)
        if not path.is_file() and not path.is_dir():
            offered = ", ".join(self.choices(ModelFile(folder)))
            raise ModelMissing(f"there is no {name!r} in {path.parent}; there are: {offered}")
        return path

    def input(self, name: str) -> Path:
        """A file below `input`."""
        path = safe_join(self.inputs, name)
        if not path.is_file():
            raise UsageError(f"there is no picture {name!r} in {self.inputs}")
        return path

    def digest(self, path: Path) -> str:
        """Sha256 of what `path` holds, computed now if it is not known."""
        return self.digests.of(path)

    def choices(self, hint: FileHint) -> Sequence[str]:
        """What a drop-down offers: names with `/`, sorted, those that ship first."""
        if isinstance(hint, ModelFile):
            return [*_shipped(hint.folder), *_models(self.base / "models" / hint.folder)]
        root = self.inputs
        pictures = (p for p in root.rglob("[!.]*") if p.suffix.lower() in PICTURES and p.is_file() and _inside(p, root))
        return sorted(p.relative_to(root).as_posix() for p in pictures)

    def fingerprint(self, hint: FileHint, value: str) -> Fingerprint:
        """What stands for a file in a cache key: its content, or while that is computed its path, size and times."""
        path = self.model(hint.folder, value) if isinstance(hint, ModelFile) else self.input(value)
        try:
            known = self.digests.known(path)
            if known is None and sum(p.stat().st_size for p in files(path)) < BACKGROUND:
                known = self.digests.of(path)
            return Fingerprint(self.digests.begin(path), settled=False) if known is None else Fingerprint(known)
        except OSError as error:
            kind = ModelFileError if isinstance(hint, ModelFile) else ImageFileError
            raise kind(path, f"cannot be read: {reason(error)}") from error

    def content(self, stand_in: str) -> Fingerprint | None:
        """What came of a stand-in, waited for; None if its file has changed since."""
        digest = self.digests.content(stand_in)
        return None if digest is None else Fingerprint(digest)


def _shipped(folder: str) -> dict[str, Path]:
    if folder == "checkpoints":
        return {DEFAULT_MODEL: SHIPPED}
    return {DEFAULT_ENCODER: SHIPPED / "text_encoder"} if folder == "text_encoders" else {}


def _models(root: Path) -> list[str]:
    """Safetensors files and folders of them, by their names below `root`; a model's folder is not looked into.

    Links are followed: people keep their models elsewhere.  No folder is looked into twice.
    """
    found: list[str] = []
    seen: set[Path] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = folder.resolve()
        if real in seen:
            continue
        seen.add(real)
        for path in _entries(folder):
            if path.is_dir() and not any((path / name).exists() for name in ("config.json", "model.json")):
                waiting.append(path)
            elif path.is_dir() or (path.suffix == ".safetensors" and path.is_file()):
                found.append(path.relative_to(root).as_posix())
    return sorted(found)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # not there, or not for us
        return []


def _inside(path: Path, root: Path) -> bool:
    """Whether `safe_join` would lead there: a link that leads out of `root` is not offered."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False
