"""Streams larger than memory: `fit` takes their statistics, `apply` normalizes them.

    source -> pieces -> (threads: load, sum) -> merge in order -> Moments           fit
                     -> (threads: load, normalize) -> write in order -> file        apply
"""
