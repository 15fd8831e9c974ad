"""The text encoder: read a prompt with a language model."""

from __future__ import annotations

from typing import Annotated, cast

from ..core.schema import Context, Multiline, node
from ..core.values import Conditioning, TextEncoder


@node("conditioning")
def encode_text(
    clip: Annotated[TextEncoder, "The language model that reads."],
    text: Annotated[str, Multiline(), "What the picture shows, in words."] = "",
    *,
    context: Context,
) -> Conditioning:
    """Turn words into what the UNet understands.  An empty text is what guidance steers away from."""
    from ..core.models.text import TextNetwork

    with context.networks.lent(clip.recipe) as network:
        language = cast(TextNetwork, network)
        cut = language.read([text])[0].cut
        if cut:
            context.warn(f"the text is too long: its last {cut} tokens are not read")
        return language.encode([text])[0]
