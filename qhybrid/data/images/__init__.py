"""Data sets of whole images that fit in memory: one file a data set, all behind `ImageDataset`."""

from qhybrid.data.images.dataset import ImageArrays, ImageDataset, SamplingUnits

__all__ = ["ImageArrays", "ImageDataset", "SamplingUnits"]
