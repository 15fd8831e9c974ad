"""What a node is: a typed function.  Sockets, widgets, docs and exports are all read off its signature."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .values import Files, Recipe, Returned

if TYPE_CHECKING:
    from torch import nn

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

REQUIRED: Any = inspect.Parameter.empty
WIDGETS = {int: "INT", float: "FLOAT", str: "STRING", bool: "BOOLEAN"}
ANY_WIRE = "*"
NAMESPACE = "limner"
ACRONYMS = {"Unet": "UNet", "Vae": "VAE"}
SEED_LIMIT = 2**53 - 1  # the largest whole number that JavaScript holds exactly


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a numeric widget, both inclusive."""

    low: float
    high: float
    step: float | None = None


class Choice(tuple[str, ...]):
    """The options of a drop-down."""

    __slots__ = ()

    def __new__(cls, *options: str) -> Choice:
        """Offer `options`, in this order."""
        return super().__new__(cls, options)


@dataclass(frozen=True, slots=True)
class Multiline:
    """A string widget drawn as a text area."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A drop-down of what lies in one folder of `models/`.  Its content, not its name, enters cache keys."""

    folder: str


@dataclass(frozen=True, slots=True)
class InputFile:
    """A picture in the folder `input`.  Its content, not its name, enters cache keys."""


@dataclass(frozen=True, slots=True)
class Seed:
    """A whole number 0..limit that a person may want drawn anew before each run."""

    limit: int = SEED_LIMIT


@dataclass(frozen=True, slots=True)
class Lazy:
    """A socket whose upstream nodes run only if the node yields a `Need` of it."""


@dataclass(frozen=True, slots=True)
class Says:
    """What ComfyUI's editor is told of a widget, by its own words for it."""

    options: Mapping[str, Any]


Hint = Range | Choice | Multiline | ModelFile | InputFile | Seed
FileHint = ModelFile | InputFile


@dataclass(frozen=True, slots=True)
class Input:
    """One argument of a node: a socket, and for plain values a widget as well."""

    name: str
    type: Any
    wire: str  # "INT", "LATENT", ...: what may be plugged in
    default: Any = REQUIRED
    hint: Hint | None = None
    doc: str = ""
    lazy: bool = False
    hidden: str = ""  # filled in by the runner, never by a person: UNIQUE_ID, PROMPT, EXTRA_PNGINFO or DYNPROMPT
    raw: bool = False  # a link is given as such, not the value at its end
    options: Mapping[str, Any] | None = (
        None  # what a node of ComfyUI's kind says of its widget, kept for the editors that know it
    )

    @property
    def is_widget(self) -> bool:
        """Whether a value can be typed in, not only plugged in."""
        return self.type in WIDGETS

    @property
    def optional(self) -> bool:
        """Whether the node runs with nothing plugged in."""
        return self.default is not REQUIRED


@dataclass(frozen=True, slots=True)
class Output:
    """One result of a node."""

    name: str
    wire: str
    type: Any = object  # what a node may return for it
    many: bool = False  # a list, of which each item goes on by itself
    doc: str = ""


@dataclass(frozen=True)
class Node(Generic[P, R_co]):
    """A function the editor can place on the canvas.  Calling it calls the function.

    What stands after `renamed` is for nodes of ComfyUI's kind, which `core.packs` makes.
    """

    name: str  # "EncodeText"
    category: str
    version: int | str  # of a foreign node: a digest of its pack
    function: Callable[P, R_co]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    wants_context: bool = False
    delivers: bool = False  # an output node: runs though everything above it is cached
    cached: bool = True  # False: has side effects or reads the world, runs every time
    renamed: tuple[tuple[str, str], ...] = ()  # (old, new) names of inputs
    namespace: str = NAMESPACE  # empty: the name is the whole id
    label: str = ""  # what people call it; empty: made from the name
    help: str = ""  # empty: the function's docstring
    pack: str = ""  # whose node it is; empty: our own
    takes_lists: bool = (
        False  # an input is given all items of a list at once, as a list; else the node is called for each
    )
    by_id: bool = False  # its results are its own: another node set up alike does not share them
    open: bool = False  # takes what is plugged into it, declared or not
    asks: Callable[..., Any] | None = None  # given the inputs, None for those not evaluated: the lazy ones it needs now
    fingerprint: Callable[..., str | None] | None = None  # given the constants: part of the key; None: runs every time
    checks: Callable[..., Any] | None = None  # given (constants, {input: linked wire}): {input or None: what is wrong}
    unchecked: Callable[[], frozenset[str]] | None = None  # inputs that `checks` answers for alone; {"*"}: all
    deprecated: bool = False
    experimental: bool = False

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function."""
        return self.function(*args, **kwargs)

    @property
    def id(self) -> str:
        """What workflow files call it; never changes."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def title(self) -> str:
        """What people call it: "Encode text"."""
        if self.label:
            return self.label
        first, *words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name).split()
        return " ".join([first, *(ACRONYMS.get(word, word.lower()) for word in words)])

    @property
    def doc(self) -> str:
        """The docstring: its first sentence is the node's tooltip."""
        return self.help or inspect.getdoc(self.function) or ""

    def input(self, name: str) -> Input | None:
        """The input called `name`, also by a name it once had."""
        name = dict(self.renamed).get(name, name)
        return next((i for i in self.inputs if i.name == name), None)


Registry = Mapping[str, Node[..., object]]  # node id -> node


@dataclass(frozen=True, slots=True)
class Need:
    """Yielded by a node: the value of a lazy input is wanted, and sent back."""

    input: str


class Networks(Protocol):
    """Where networks are loaded and kept."""

    def lent(self, recipe: Recipe) -> AbstractContextManager[nn.Module]:
        """The network, loaded if need be and not unloaded while it is lent."""

    def place(self, value: T) -> T:
        """`value` with its tensors on the device where networks compute."""


class Library(Protocol):
    """Where files lie."""

    def model(self, folder: str, name: str) -> Path:
        """A file or folder below `models/<folder>`."""

    def input(self, name: str) -> Path:
        """A file below `input`."""

    def digest(self, path: Path) -> str:
        """What names the content of `path`."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a running node may ask of its host: nothing but this crosses the boundary."""

    networks: Networks
    library: Library
    output: Path  # the folder that pictures are saved in
    temp: Path  # the folder of previews
    document: Mapping[str, Any] | None = None  # the workflow to write into pictures; None: leave it out
    prompt: Mapping[str, Any] | None = None  # the same, lowered to what ran
    extra: Mapping[str, Any] | None = None  # what a client of ComfyUI's kind wants written into pictures, by keyword
    warn: Callable[[str], None] = lambda _: None


def node(  # noqa: PLR0913 - what there is to say of a node
    category: str,
    *,
    name: str | None = None,
    version: int = 1,
    returns: type | None = None,
    delivers: bool = False,
    cached: bool = True,
    renamed: Mapping[str, str] | None = None,
    namespace: str = NAMESPACE,
    label: str = "",
) -> Callable[[Callable[P, R_co]], Node[P, R_co]]:
    """Make a node of a function.  Raise `version` whenever its output for the same inputs changes.

    A long node is a generator of calls and progress; `returns` says what it returns in the end.  An input that is a
    Sequence makes a node that is given all items of its lists at once; an output that is one is a list of items.
    """

    def wrap(function: Callable[P, R_co]) -> Node[P, R_co]:
        if returns is not None:
            function.__annotations__["return"] = returns
        hints = get_type_hints(function, include_extras=True)
        result = hints.pop("return")
        parameters = inspect.signature(function).parameters.values()
        inputs = tuple(_input(p, hints[p.name]) for p in parameters if hints[p.name] is not Context)
        return Node(
            name=name or "".join(word.title() for word in function.__name__.split("_")),
            category=category,
            version=version,
            function=function,
            inputs=inputs,
            outputs=_outputs(result, namespace),
            wants_context=Context in hints.values(),
            delivers=delivers,
            cached=cached and not delivers,
            renamed=tuple((renamed or {}).items()),
            namespace=namespace,
            label=label,
            takes_lists=any(get_origin(_plain(hints[spec.name])) is Sequence for spec in inputs),
        )

    return wrap


def _input(parameter: inspect.Parameter, hint: Any) -> Input:
    extras, default = getattr(hint, "__metadata__", ()), parameter.default
    doc = next((x for x in extras if isinstance(x, str)), "")
    widget = next((x for x in extras if isinstance(x, Hint)), None)
    options = next((x.options for x in extras if isinstance(x, Says)), None)
    lazy = any(isinstance(x, Lazy) for x in extras)
    hint = _plain(hint)
    if get_origin(hint) in (UnionType, Union):  # `Latent | None`: an optional socket
        (hint,) = (t for t in get_args(hint) if t is not NoneType)
    if get_origin(hint) is Sequence:  # of a node that takes lists; its widget holds one item
        (hint,) = get_args(hint)
        default = default[0] if isinstance(default, tuple) else default
    if get_origin(hint) is Literal:
        hint, widget = str, Choice(*get_args(hint))
    return Input(parameter.name, hint, _wire(hint), default, widget, doc, lazy, options=options)


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _outputs(result: Any, namespace: str) -> tuple[Output, ...]:
    if result in (NoneType, None, Files, Returned):
        return ()
    if isinstance(result, type) and issubclass(result, tuple) and hasattr(result, "_fields"):
        return tuple(_output(name, t) for name, t in get_type_hints(result).items())
    wire = _wire(get_args(result)[0] if get_origin(result) is Sequence else result)
    name = wire.lower() if namespace else wire  # ComfyUI calls outputs what their wires are called
    return (_output("value" if wire == ANY_WIRE else name, result),)


def _output(name: str, kind: Any) -> Output:
    many = get_origin(kind) is Sequence
    (kind,) = get_args(kind) if many else (kind,)
    return Output(name, _wire(kind), object if kind is Any else kind, many)


def _wire(kind: Any) -> str:
    if kind is Any or kind is object:
        return ANY_WIRE
    return WIDGETS.get(kind) or getattr(kind, "WIRE", kind.__name__.upper())
