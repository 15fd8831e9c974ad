"""`folder_paths`: where models, inputs and outputs lie."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...files import safe_join
from ...folders import OTHER_NAMES, Folders, known_as
from ...schema import ModelFile

if TYPE_CHECKING:
    from ..house import House

__all__ = ["supported_pt_extensions"]

supported_pt_extensions = {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"}
TYPES: dict[str, tuple[str, ...]] = {  # for front ends' names of what browsers show
    "image": (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tiff", ".avif"),
    "video": (".mp4", ".webm", ".mkv", ".mov", ".avi"),
    "audio": (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a"),
}


def members(house: House) -> dict[str, Any]:
    """The module's functions and tables."""
    found = FolderPaths(house.folders, house.output)
    functions = {name: getattr(found, name) for name in dir(found) if not name.startswith("_")}
    return functions | {"filter_files_extensions": filter_files_extensions, "recursive_search": recursive_search}


class FolderPaths:
    """What the module gives, for one host's folders."""

    def __init__(self, folders: Folders, output: Path) -> None:
        self._folders = folders
        self.base_path = str(folders.base)
        self.models_dir = str(folders.base / "models")
        self.output_directory = str(output)
        self.input_directory = str(folders.inputs)
        self.temp_directory = str(folders.temp)
        self.user_directory = str(folders.user.parent)
        self.folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {
            name: ([str(path) for path in folders.roots(ours)], set(supported_pt_extensions))
            for ours in folders.kinds()
            for name in (ours, *OTHER_NAMES.get(ours, ()))
        }

    def get_output_directory(self) -> str:
        """Where pictures are saved."""
        return _made(self.output_directory)

    def get_input_directory(self) -> str:
        """Where pictures are read from."""
        return _made(self.input_directory)

    def get_temp_directory(self) -> str:
        """Where previews go."""
        return _made(self.temp_directory)

    def get_user_directory(self) -> str:
        """Where an editor keeps its settings."""
        return _made(self.user_directory)

    def get_directory_by_type(self, type_name: str) -> str | None:
        """The folder called "input", "output" or "temp"."""
        finds = {
            "input": self.get_input_directory,
            "output": self.get_output_directory,
            "temp": self.get_temp_directory,
        }
        return finds[type_name]() if type_name in finds else None

    def get_folder_paths(self, folder_name: str) -> list[str]:
        """Where models of a kind are looked for."""
        return self.folder_names_and_paths[self.map_legacy(folder_name)][0][:]

    def map_legacy(self, folder_name: str) -> str:
        """The name that a kind of models has."""
        return folder_name if folder_name in self.folder_names_and_paths else known_as(folder_name)

    def add_model_folder_path(
        self,
        folder_name: str,
        full_folder_path: str,
        is_default: bool = False,  # noqa: FBT001 - its signature there
    ) -> None:
        """Have models of a kind be looked for in another folder too, or before all others."""
        paths, _ = self.folder_names_and_paths.setdefault(folder_name, ([], set()))
        if full_folder_path not in paths:
            paths.insert(0 if is_default else len(paths), full_folder_path)

    def get_filename_list(self, folder_name: str) -> list[str]:
        """The models of a kind, by their names below its folders."""
        name = self.map_legacy(folder_name)
        roots, suffixes = self.folder_names_and_paths[name]
        found = {file for root in roots for file in filter_files_extensions(recursive_search(root)[0], suffixes)}
        ours = known_as(name)
        own = self._folders.choices(ModelFile(ours)) if ours in OTHER_NAMES else ()
        return sorted(found.union(own))

    def get_full_path(self, folder_name: str, filename: str) -> str | None:
        """Where a model lies, or None."""
        for root in self.get_folder_paths(folder_name):
            try:
                path = safe_join(Path(root), filename.replace("\\", "/"), links=True)
            except UsageError:
                return None
            if path.is_file():
                return str(path)
        return None

    def get_full_path_or_raise(self, folder_name: str, filename: str) -> str:
        """Where a model lies."""
        path = self.get_full_path(folder_name, filename)
        if path is None:
            raise FileNotFoundError(f"there is no {filename!r} in models/{folder_name}")
        return path

    def annotated_filepath(self, name: str) -> tuple[str, str | None]:
        """A name without the folder that it ends in, and that folder: `a.png [output]`."""
        match = re.fullmatch(r"(.+) ?\[(input|output|temp)\]", name)
        return (match[1].rstrip(), self.get_directory_by_type(match[2])) if match else (name, None)

    def get_annotated_filepath(self, name: str, default_dir: str | None = None) -> str:
        """Where a picture lies.  Raises ValueError where the name leads out of its folder."""
        plain, root = self.annotated_filepath(name)
        try:
            return str(safe_join(Path(root or default_dir or self.get_input_directory()), plain.replace("\\", "/")))
        except UsageError as error:
            raise ValueError(str(error)) from None

    def exists_annotated_filepath(self, name: str) -> bool:
        """Whether there is such a picture."""
        try:
            return Path(self.get_annotated_filepath(name)).is_file()
        except ValueError:
            return False

    def get_save_image_path(
        self, filename_prefix: str, output_dir: str, image_width: int = 0, image_height: int = 0
    ) -> tuple[str, str, int, str, str]:
        """The folder, the name, the first free number, the folder below `output_dir`, and the prefix filled in."""
        prefix = _filled(filename_prefix, image_width, image_height).replace("\\", "/")
        path = safe_join(Path(output_dir), prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = re.compile(rf"{re.escape(path.name)}_(\d+)\D.*", re.IGNORECASE)
        taken = [int(match[1]) for file in path.parent.iterdir() if (match := numbers.fullmatch(file.name))]
        folder = path.parent.relative_to(output_dir).as_posix()
        return str(path.parent), path.name, max(taken, default=0) + 1, "" if folder == "." else folder, prefix

    def filter_files_content_types(self, files: Iterable[str], content_types: Sequence[str]) -> list[str]:
        """Those of `files` that are pictures, films or sounds."""
        suffixes = tuple(suffix for kind in content_types for suffix in TYPES.get(kind, ()))
        return [file for file in files if file.lower().endswith(suffixes)] if suffixes else []


def filter_files_extensions(files: Iterable[str], extensions: Iterable[str]) -> list[str]:
    """Those of `files` that end so, sorted; all where no endings are given."""
    suffixes = {suffix.lower() for suffix in extensions}
    return sorted(file for file in files if not suffixes or Path(file).suffix.lower() in suffixes)


def recursive_search(directory: str, excluded_dir_names: Sequence[str] = ()) -> tuple[list[str], dict[str, float]]:
    """All files below a folder by their names from there, and when the folders changed last."""
    root = Path(directory)
    if not root.is_dir():
        return [], {}
    files: list[str] = []
    times = {directory: root.stat().st_mtime}
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if {".git", *excluded_dir_names} & set(inside.parts):
            continue
        if path.is_dir():
            times[str(path)] = path.stat().st_mtime
        elif path.is_file():
            files.append(inside.as_posix())
    return files, times


def _made(folder: str) -> str:
    """The folder, which packs expect to be there."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def _filled(prefix: str, width: int, height: int) -> str:
    """What a prefix asks for: %width%, %height%, and the time."""
    now = time.localtime()
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    return re.sub(r"%(\w+)%", lambda match: values.get(match[1], match[0]), prefix)
