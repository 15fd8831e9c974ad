"""Nodes under ComfyUI's own ids, so that its workflow files run here; listed by hand."""

from ...core.schema import Node
from . import conditioning, custom_sampling, image, latent, loaders, primitive, sampling, text

COMFY: dict[str, Node[..., object]] = {
    n.id: n
    for n in (
        loaders.checkpoint_loader_simple,
        loaders.vae_loader,
        conditioning.clip_text_encode,
        conditioning.conditioning_zero_out,
        sampling.k_sampler,
        sampling.k_sampler_advanced,
        custom_sampling.sampler_custom_advanced,
        custom_sampling.sampler_custom,
        custom_sampling.random_noise,
        custom_sampling.disable_noise,
        custom_sampling.basic_guider,
        custom_sampling.cfg_guider,
        custom_sampling.k_sampler_select,
        custom_sampling.basic_scheduler,
        custom_sampling.karras_scheduler,
        custom_sampling.split_sigmas,
        custom_sampling.flip_sigmas,
        latent.empty_latent_image,
        latent.vae_decode,
        latent.vae_encode,
        latent.vae_encode_for_inpaint,
        latent.set_latent_noise_mask,
        image.load_image,
        image.save_image,
        image.preview_image,
        image.empty_image,
        image.rebatch_images,
        image.image_scale,
        image.image_invert,
        image.image_batch,
        primitive.primitive_string,
        primitive.primitive_string_multiline,
        primitive.primitive_int,
        primitive.primitive_float,
        primitive.primitive_boolean,
        text.string_concatenate,
        text.string_substring,
        text.string_length,
        text.case_converter,
        text.string_trim,
        text.string_replace,
        text.string_contains,
        text.string_compare,
        text.preview_any,
    )
}
