"""DomainBatchNorm as named arrays and a dict for JSON, and back. What comes back is checked, not trusted.

Each layer is described as a BatchNorm is, and the names of its arrays have a prefix: "0_", "1_", ... for the domains,
"new_" for the layer that a new domain begins with.
"""

from __future__ import annotations

from typing import Any

from bnstream.core.dtypes import NamedArrays
from bnstream.core.groups.domainbatchnorm import DomainBatchNorm, types_of
from bnstream.core.labels import listed
from bnstream.core.layer import settings_of
from bnstream.statefiles.description import Fields, describe_batchnorm, meanings, restore_batchnorm
from bnstream.statefiles.groups import is_key

MEANINGS = {
    "domains": "the domains, in the order of their layers; a list where a domain has several columns",
    "domain_names": "the names of the columns of domains",
    "layers": "the layers of the domains; the names of their arrays begin with 0_, 1_ and so on",
    "new": "the layer that each new domain begins with; the names of its arrays begin with new_",
}
FIXED = ("num_features", "dtype", "scale", "bias")      # settings that no layer can change


def meanings_of_domains(arrays: NamedArrays) -> dict[str, str]:
    """What a file says about its arrays and settings."""
    return meanings("batchnorm", arrays) | MEANINGS


def describe_domains(bn: DomainBatchNorm) -> tuple[dict[str, Any], NamedArrays]:
    """Describe a DomainBatchNorm in a dict, and return the arrays of its layers."""
    bn = bn.copy()          # consistent even if another thread trains it
    new, arrays = describe_batchnorm(bn._template, "new_")
    layers = []
    for i, layer in enumerate(bn.values()):
        description, more = describe_batchnorm(layer, f"{i}_")
        layers.append(description)
        arrays |= more
    domains = [list(domain) if isinstance(domain, tuple) else domain for domain in bn]
    names = {} if bn.domain_names is None else {"domain_names": bn.domain_names}
    return {"domains": domains, **names, "layers": layers, "new": new}, arrays


def restore_domains(fields: Fields, arrays: NamedArrays) -> DomainBatchNorm:
    """Restore what `describe_domains` returned. Its arrays are removed from `arrays`."""
    domains, descriptions = checked_domains(fields.get("domains", list)), fields.get("layers", list)
    if len(domains) != len(descriptions):
        raise ValueError(f"expected a layer for each of {len(domains)} domains, got {len(descriptions)}")
    new = restore_batchnorm(Fields(fields.get("new", dict)), arrays, "new_")
    settings: dict[str, Any] = settings_of(new)
    bn = DomainBatchNorm(**settings, names=new.names, track_pooled=new.track_pooled).train(new.training)
    if new != bn._template:
        raise ValueError("the layer of new domains must be as it was made, got one with other parameters or estimates")
    for i, (domain, description) in enumerate(zip(domains, descriptions, strict=True)):
        if type(description) is not dict:
            raise ValueError(f"a layer must be of type dict, got {description!r:.60}")
        layer = restore_batchnorm(Fields(description), arrays, f"{i}_")
        for name in FIXED:
            expected, found = getattr(new, name), getattr(layer, name)
            if found != expected:
                raise ValueError(f"{name} of domain {domain!r:.60} must be {expected}, as of new domains, got {found}")
        bn._layers[domain] = layer
    bn.domain_names = names_of_domains(fields, domains)
    return bn


def names_of_domains(fields: Fields, domains: list[Any]) -> tuple[str, ...] | None:
    """The names of the columns of domains, where the file has them."""
    if "domain_names" not in fields.values:
        return None
    names: tuple[str, ...] = fields.all_of("domain_names", str) or ()
    of_columns = bool(domains) and all(len(types_of(domain)) == len(names) for domain in domains)
    if not of_columns or len(set(names)) < len(names):
        raise ValueError(f"domain_names must name the columns of the domains, got {list(names)!r:.60}")
    return names


def checked_domains(domains: list[Any]) -> list[Any]:
    """The domains in a file; raise ValueError unless they differ and each is a key, or a list of several."""
    found = []
    for domain in domains:
        several = type(domain) is list
        parts = domain if several else [domain]
        if len(parts) < 1 + several or not all(is_key(part, int, bool, str) for part in parts):
            raise ValueError(f"a domain must be an int, a bool, a str or several of them, got {domain!r:.60}")
        found.append(tuple(parts) if several else domain)
    if any(types_of(domain) != types_of(found[0]) for domain in found):
        raise ValueError(f"domains must be of one kind, got {listed([*map(repr, found)])}")
    if len(set(found)) < len(found):
        raise ValueError("domains must differ")
    return found
