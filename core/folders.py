"""Where things live: models, inputs, outputs and the cache, below one base directory.  Every name is checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .digests import Digests, files
from .errors import ImageFileError, ModelFileError, ModelMissing, UsageError
from .files import inside, reason, safe_join
from .plan import Fingerprint
from .schema import FileHint, ModelFile

SHIPPED = Path(__file__).parent / "models" / "default"
DEFAULT_MODEL = "limner-64"  # the checkpoint that comes with the package
DEFAULT_ENCODER = "minilm-l6"  # and its text encoder, by itself
MODEL_FOLDERS = (
    "checkpoints", "unet", "vae", "text_encoders", "loras", "controlnet", "embeddings", "upscale", "clip_vision",
    "style_models", "gligen", "vae_approx", "hypernetworks", "diffusers", "photomaker", "configs",
)  # fmt: skip
OTHER_NAMES: Mapping[str, tuple[str, ...]] = dict.fromkeys(MODEL_FOLDERS, ()) | {  # ComfyUI's, and those it had once
    "unet": ("diffusion_models",),
    "text_encoders": ("clip",),
    "controlnet": ("t2i_adapter",),
    "upscale": ("upscale_models",),
}
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
BACKGROUND = 64 << 20  # bytes from which a file is hashed beside the run, not before it
ELSEWHERE = re.compile(r"(.+) \[(input|output|temp)\]")  # how ComfyUI names a picture that is not in input


def default_base() -> Path:
    """The platform's folder for a user's data."""
    from platformdirs import user_data_path

    return user_data_path("limner", appauthor=False)


def known_as(folder: str) -> str:
    """Our name of a folder of models that ComfyUI may call otherwise."""
    return next((ours for ours, others in OTHER_NAMES.items() if folder in others), folder)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where everything lies, and the memory of what files hash to."""

    base: Path
    digests: Digests
    inputs: Path  # where pictures are read from
    output: Path  # where they are saved
    temp: Path  # where previews go
    data: Path  # where the database and the cache are
    first: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # further folders of models, looked at before ...
    further: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # ... and after those of the base directory

    @classmethod
    def at(  # noqa: PLR0913 - the folders that somebody may want elsewhere
        cls,
        base: Path,
        *,
        inputs: Path | None = None,
        output: Path | None = None,
        temp: Path | None = None,
        data: Path | None = None,
        first: Mapping[str, Sequence[Path]] | None = None,
        further: Mapping[str, Sequence[Path]] | None = None,
    ) -> Folders:
        """The folders below `base`, but for those given; nothing is made before it is needed."""
        data = data or base
        return cls(
            base,
            Digests(data / "cache" / "digests.db"),
            inputs or base / "input",
            output or base / "output",
            temp or base / "temp",
            data,
            first or {},
            further or {},
        )

    @property
    def cache(self) -> Path:
        """Where results are kept."""
        return self.data / "cache"

    @property
    def user(self) -> Path:
        """Where an editor keeps its settings and workflows."""
        return self.base / "user" / "default"

    def pictures(self, kind: str) -> Path:
        """The folder that ComfyUI calls "input", "output" or "temp"."""
        found = {"input": self.inputs, "output": self.output, "temp": self.temp}.get(kind)
        if found is None:
            raise UsageError(f"there is no folder of the type {kind!r}; there are: input, output, temp")
        return found

    def place(self, name: str, kind: str = "input") -> tuple[Path, str]:
        """The folder, and the name in it, that ComfyUI means by `a.png` or by `a.png [output]`."""
        match = ELSEWHERE.fullmatch(name)
        return (self.pictures(match[2]), match[1]) if match else (self.pictures(kind), name)

    def kinds(self) -> list[str]:
        """The folders of models that there are, by our names: ours, then those that only somebody's settings name."""
        return [*MODEL_FOLDERS, *sorted({*self.first, *self.further} - {*MODEL_FOLDERS})]

    def roots(self, folder: str) -> list[Path]:
        """Where models of a kind are looked for, in this order."""
        own = [safe_join(self.base / "models", name, links=True) for name in (folder, *OTHER_NAMES.get(folder, ()))]
        return list(dict.fromkeys([*self.first.get(folder, ()), *own, *self.further.get(folder, ())]))

    def model(self, folder: str, name: str) -> Path:
        """A file or folder below `models/<folder>` or one that stands for it, or what ships under that name."""
        shipped = _shipped(folder)
        if name in shipped:
            return shipped[name]
        for root in self.roots(folder):
            path = safe_join(root, name, links=True)
            if path.is_file() or path.is_dir():
                return path
        offered = ", ".join(self.choices(ModelFile(folder)))
        raise ModelMissing(f"there is no {name!r} in {self.roots(folder)[0]}; there are: {offered}")

    def input(self, name: str) -> Path:
        """A file below `input`, or below another folder that `name` ends in, as in `a.png [output]`."""
        root, name = self.place(name)
        path = safe_join(root, name)
        if not path.is_file():
            raise UsageError(f"there is no picture {name!r} in {root}")
        return path

    def digest(self, path: Path) -> str:
        """What names the content of `path`: its sha256, or what stands in for that while a large one is computed."""
        return self._named(path).text

    def choices(self, hint: FileHint) -> Sequence[str]:
        """What a drop-down offers: names with `/`, sorted, those that ship first."""
        if isinstance(hint, ModelFile):
            found = {name for root in self.roots(hint.folder) for name in _models(root)}
            return [*_shipped(hint.folder), *sorted(found - {*_shipped(hint.folder)})]
        root = self.inputs
        pictures = (p for p in root.rglob("[!.]*") if p.suffix.lower() in PICTURES and p.is_file() and inside(p, root))
        return _Pictures(sorted(p.relative_to(root).as_posix() for p in pictures), self)

    def fingerprint(self, hint: FileHint, value: str) -> Fingerprint:
        """What stands for a file in a cache key: its content, or while that is computed its path, size and times."""
        path = self.model(hint.folder, value) if isinstance(hint, ModelFile) else self.input(value)
        try:
            return self._named(path)
        except OSError as error:
            kind = ModelFileError if isinstance(hint, ModelFile) else ImageFileError
            raise kind(path, f"cannot be read: {reason(error)}") from error

    def _named(self, path: Path) -> Fingerprint:
        known = self.digests.known(path)
        if known is None and sum(p.stat().st_size for p in files(path)) < BACKGROUND:
            known = self.digests.of(path)
        return Fingerprint(self.digests.begin(path), settled=False) if known is None else Fingerprint(known)

    def content(self, stand_in: str) -> Fingerprint | None:
        """What came of a stand-in, waited for; None if its file has changed since."""
        digest = self.digests.content(stand_in)
        return None if digest is None else Fingerprint(digest)


class _Pictures(list[str]):
    """The names of the pictures in `input`.  Pictures in other folders are in it too, though they are not listed."""

    def __init__(self, names: Iterable[str], folders: Folders) -> None:
        super().__init__(names)
        self._folders = folders

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name) or not isinstance(name, str) or not ELSEWHERE.fullmatch(name):
            return super().__contains__(name)
        try:
            return self._folders.input(name).suffix.lower() in PICTURES
        except UsageError:
            return False


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
