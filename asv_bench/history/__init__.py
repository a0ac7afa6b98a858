"""How speed and errors changed from commit to commit: what is chosen of asv's results, and pictures of it.

asv's own pages need scripts from the network. These pictures are part of the site, and have the ratios first, which
carry over from machine to machine.
"""
