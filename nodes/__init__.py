"""Every node there is, listed by hand: importing a module registers nothing.

`NODES` are our own, `ALL` those under ComfyUI's ids as well: what a front door of ours offers.
"""

from ..core.schema import Node
from . import comfy, decoder, encoder, image, latent, loader, number, sampler, scheduler, text, unet

NODES: dict[str, Node[..., object]] = {
    n.id: n
    for n in (
        loader.load_checkpoint,
        loader.load_unet,
        loader.load_text_encoder,
        loader.load_vae,
        encoder.encode_text,
        latent.empty_latent,
        latent.encode_image,
        latent.mask_latent,
        scheduler.schedule,
        scheduler.karras_schedule,
        scheduler.exponential_schedule,
        scheduler.beta_schedule,
        scheduler.flow_schedule,
        scheduler.split_sigmas,
        scheduler.flip_sigmas,
        unet.guide,
        sampler.sample,
        decoder.decode,
        image.load_image,
        image.save_image,
        image.preview_image,
        image.resize_image,
        image.join_images,
        image.image_grid,
        text.text,
        text.join_text,
        number.whole_number,
        number.number,
        number.true_or_false,
        number.seed_list,
        number.switch,
    )
}
ALL: dict[str, Node[..., object]] = {**NODES, **comfy.COMFY}
