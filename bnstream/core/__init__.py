"""Arrays in memory, with NumPy alone: statistics, normalization, and the layers.

    array -> view -> kernels (plan, blocks, sums, states) -> result                 mean_var, Moments
          -> view -> kernels (plan, blocks, affine or backward) -> array            normalize, batch_norm, BatchNorm
"""
