"""Maps of whole scenes: overlapping windows, blended at the seams, streamed from top to bottom."""

from qhybrid.inference.many import MapOutcome, map_one_scene, map_scenes
from qhybrid.inference.map_options import MapOptions, check_output, probabilities_path, uncertainty_path
from qhybrid.inference.map_writing import write_map
from qhybrid.inference.products import Products
from qhybrid.inference.scene import ProbabilityBlock, iterate_probabilities, predict_scene
from qhybrid.inference.scene_model import SceneModel, read_as
from qhybrid.inference.scene_places import find_scenes, map_places, means_several
from qhybrid.inference.spread import Spread

__all__ = [
    "MapOptions",
    "MapOutcome",
    "ProbabilityBlock",
    "Products",
    "SceneModel",
    "Spread",
    "check_output",
    "find_scenes",
    "iterate_probabilities",
    "map_one_scene",
    "map_places",
    "map_scenes",
    "means_several",
    "predict_scene",
    "probabilities_path",
    "uncertainty_path",
    "read_as",
    "write_map",
]
