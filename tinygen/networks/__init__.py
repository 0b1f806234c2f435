"""Networks: functions with weights. No loss, no optimizer; a file for each kind, imported by name.

    from tinygen.networks.dcgan import DCDiscriminator, DCGenerator
    generator = DCGenerator((1, 28, 28), channels=(16, 32), latent=100)     # first argument: the data's shape

Images are (N, C, H, W) in [0, 1] outside a network; one that wants [-1, 1] converts inside. The models' updates
(tinygen/models) receive networks and never choose them; recipes put the two together.
"""
