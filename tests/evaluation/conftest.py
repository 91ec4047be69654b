"""Small data sets of scenes and images, and run folders of models that were not trained."""

from image_runs import make_image_run, mnist_root, sweep_of
from scene_runs import data_config, make_run, run_folder, scenes_root

__all__ = [
    "data_config",
    "make_image_run",
    "make_run",
    "mnist_root",
    "run_folder",
    "scenes_root",
    "sweep_of",
]
