"""What a model is told, under ComfyUI's ids."""

from __future__ import annotations

from typing import Annotated

from ...core.schema import Context, Multiline, Says, node
from ...core.values import Conditioning, TextEncoder
from .. import encoder


@node("conditioning", namespace="", name="CLIPTextEncode", label="CLIP Text Encode (Prompt)")
def clip_text_encode(
    *,
    text: Annotated[str, Multiline(), Says({"dynamicPrompts": True}), "What the picture shows, in words."],
    clip: Annotated[TextEncoder, "The language model that reads."],
    context: Context,
) -> Conditioning:
    """Turn words into what the model understands."""
    return encoder.encode_text(clip, text, context=context)


@node("advanced/conditioning", namespace="", name="ConditioningZeroOut", label="ConditioningZeroOut")
def conditioning_zero_out(
    *, conditioning: Annotated[Conditioning, "As long a text, of which nothing is left."]
) -> Conditioning:
    """Say nothing at all: every number of a text becomes 0."""
    from dataclasses import replace

    pooled = conditioning.pooled
    return replace(
        conditioning,
        tokens=conditioning.tokens.new_zeros(conditioning.tokens.shape),
        pooled=None if pooled is None else pooled.new_zeros(pooled.shape),
    )
