"""A small data set of scenes, and run folders of models that were not trained."""

from scene_runs import data_config, make_run, run_folder, scenes_root

__all__ = ["data_config", "make_run", "run_folder", "scenes_root"]
