"""RCDM, a diffusion model conditioned on a representation (Bordes et al. 2021, arXiv 2112.09164).

It shows what a frozen encoder's representation knows of an image: what is common to
the samples of one representation is in it, what varies is not (appendix H of arXiv
2204.07141). UNet, noise schedules and samplers are those of ``diffusers``, which is
imported when a model is built and not before.
"""
