"""Tiny data of whole images and of scenes."""

from image_runs import mnist_root, tiny_recipe
from scene_runs import scenes_root

__all__ = ["mnist_root", "scenes_root", "tiny_recipe"]
