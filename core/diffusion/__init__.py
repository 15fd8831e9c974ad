"""The mathematics of diffusion: pure functions of tensors, which know nothing of files, graphs or networks."""
