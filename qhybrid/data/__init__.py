"""Scenes, images and labels: reading, splitting, sampling, augmenting, writing."""

from qhybrid.data.datasets import register_dataset
from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.data.images.image_datasets import is_image_dataset, open_image_dataset
from qhybrid.data.label_sources import LabelSource, register_label_source
from qhybrid.data.scene_datasets import list_datasets, open_dataset
from qhybrid.data.scenes import Scene, SceneDataset

__all__ = [
    "ImageArrays",
    "ImageDataset",
    "LabelSource",
    "Scene",
    "SceneDataset",
    "is_image_dataset",
    "list_datasets",
    "open_dataset",
    "open_image_dataset",
    "register_dataset",
    "register_label_source",
]
