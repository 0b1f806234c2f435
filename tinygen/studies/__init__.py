"""Studies: what is done with what has learned. Functions of modules and tensors; a file a subject.

    from tinygen.studies import latents
    latents.line(z1, z2, 8)                     # eight codes from one to the other

They know no model by name, draw no figures and write no files: a chapter of recipes/ wraps them as a `@study`.
"""
