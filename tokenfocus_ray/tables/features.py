"""How the columns to stack are named: of each member, and of each backbone's bag.

``m_NAME`` is the expected score, ``e_NAME`` the scores of the elements, ``elements_NAME`` the mean
over a sample's elements. NAME is a member, or a backbone, which is the mean of its members
(bagging).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tokenfocus_ray.schema import backbone_label

TOTAL, ELEMENT, MEAN_ELEMENT = "m_", "e_", "elements_"


def of_several(backbone: str, member: str) -> str:
    """Name of a member where several backbones scored.

    >>> of_several("qwen", "m0")
    'qwen/m0'
    """
    return f"{backbone}/{member}"


def feature_names(members: Mapping[str, Sequence[str]]) -> set[str]:
    """Every column that a scoring job's output has to stack.

    Args:
        members: Backbone -> names of its members.

    >>> sorted(feature_names({"tiny-internvl": ["base"]}))[:3]
    ['e_base', 'e_tiny-internvl', 'elements_base']
    """
    names = [backbone_label(n) for n in members] if len(members) == 1 else list(members)
    for name, own in members.items():
        names += list(own) if len(members) == 1 else [of_several(name, member) for member in own]
    return {f"{prefix}{name}" for prefix in (TOTAL, ELEMENT, MEAN_ELEMENT) for name in names}
