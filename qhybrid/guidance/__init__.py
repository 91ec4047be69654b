"""Frozen pretrained ViTs beside a U-Net: token maps of tiles, their cache, and fusion with its features.

`build_guidance` makes what stands in a model as `model.guidance`; `SceneTokens` gives token maps of windows.
"""

from qhybrid.guidance.cache import TokenCache
from qhybrid.guidance.fusion import Concatenation, DeformableCrossAttention
from qhybrid.guidance.keys import GuidanceOptions, guidance_hash, guidance_of
from qhybrid.guidance.module import Guidance, build_guidance, find_vit_below, guidance_in
from qhybrid.guidance.scenes import SceneTokens
from qhybrid.guidance.vit import FrozenViT

__all__ = [
    "Concatenation",
    "DeformableCrossAttention",
    "FrozenViT",
    "Guidance",
    "GuidanceOptions",
    "SceneTokens",
    "TokenCache",
    "build_guidance",
    "find_vit_below",
    "guidance_hash",
    "guidance_in",
    "guidance_of",
]
