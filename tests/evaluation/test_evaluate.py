"""Evaluation of run folders: the numbers, the files, the engines, and what can go wrong."""

import csv
import errno
import json
import math
import os
import re
import shutil

import matplotlib.image
import numpy as np
import pytest
import rasterio
from sklearn.metrics import jaccard_score

import qhybrid
from qhybrid.config import EngineConfig, PredictionConfig
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.errors import CheckpointError, ConfigError, DataError, WorkspaceError
from qhybrid.evaluation import evaluate_baselines, evaluate_run, evaluation_folder
from qhybrid.evaluation.diagnosis.diagnose import diagnose_run
from qhybrid.inference import predict_scene
from qhybrid.noise import NoiseProfile
from qhybrid.noise.library import profile_files
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.run_folder import load_run

pytestmark = pytest.mark.pictures


def test_numbers_and_files(run_folder, scenes_root, data_config):
    metrics = evaluate_run(run_folder, data_root=scenes_root)
    run = load_run(run_folder)
    truth, found = [], []
    for scene in open_dataset(data_config, scenes_root).scenes("test"):
        reader = SceneReader(scene, run.classes)
        labels = reader.read_labels((0, 0, *reader.shape))
        counted = reader.read((0, 0, *reader.shape))[1] & (labels != 255)
        truth.extend(labels[counted])
        found.extend(predict_scene(run, scene)[counted])
    assert metrics["miou"] == pytest.approx(jaccard_score(truth, found, average="macro", labels=[0, 1, 2]))
    folder = run_folder / "evaluation" / "test-exact"
    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png",
        "map.png",
        "metrics.csv",
        "metrics.json",
        "samples.png",
    ]
    content = json.loads((folder / "metrics.json").read_text())
    assert content["miou"] == pytest.approx(metrics["miou"])
    assert content["qhybrid"] == qhybrid.__version__
    assert (content["run"], content["model"], content["which"], content["epoch"]) == (
        "tiny",
        "unet",
        "best",
        3,
    )
    assert (content["split"], content["scenes"], content["window_size"]) == ("test", ["a", "b"], 16)
    assert content["prediction"] == {"overlap": 0.5, "batch_size": 16, "orientations": 1}
    assert content["engine"] is None
    assert content["quantum_layers"] == {}
    assert content["baselines"] == {}
    again = SegmentationMetrics.from_dict(content)
    assert (again.matrix == metrics.counts.matrix).all()
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["class"] for row in rows] == ["field", "forest", "road"]
    assert float(rows[1]["iou"]) == pytest.approx(metrics["iou forest"])
    for name in ("confusion.png", "map.png", "samples.png"):
        assert matplotlib.image.imread(folder / name).ndim == 3


def test_again_replaces_and_output_elsewhere(run_folder, scenes_root, tmp_path):
    output = tmp_path / "elsewhere"
    evaluate_run(run_folder, "val", data_root=scenes_root, output=output)
    evaluate_run(
        run_folder, "val", data_root=scenes_root, output=output, settings=PredictionConfig(overlap=0)
    )
    assert json.loads((output / "metrics.json").read_text())["prediction"]["overlap"] == 0
    assert not (run_folder / "evaluation").exists()


def test_pictures_that_cannot_be_written_lose_no_metrics(run_folder, scenes_root, tmp_path, monkeypatch):
    expected = evaluate_run(run_folder, data_root=scenes_root, output=tmp_path / "out")
    (tmp_path / "out/metrics.json").write_text("{}")
    drawn = []

    def disk_is_full(_, target, **__):
        drawn.append(target)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", disk_is_full)
    with pytest.warns(UserWarning, match="out could not be drawn .*full.* metrics are complete"):
        evaluate_run(run_folder, data_root=scenes_root, output=tmp_path / "out")
    assert len(drawn) == 1
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert content["miou"] == pytest.approx(expected["miou"])
    # Pictures of the earlier evaluation would be taken for those of this one.
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.csv", "metrics.json"]


def test_data_root_of_the_environment(run_folder, scenes_root, monkeypatch):
    monkeypatch.setenv("QHYBRID_DATA", str(scenes_root))
    assert evaluate_run(run_folder, settings=PredictionConfig(overlap=0)).count > 0


def test_baselines_on_request(run_folder, scenes_root):
    fast = PredictionConfig(overlap=0)
    metrics = evaluate_run(run_folder, data_root=scenes_root, baselines=True, settings=fast)
    content = json.loads((run_folder / "evaluation/test-exact/metrics.json").read_text())["baselines"]
    alone = evaluate_baselines(run_folder, "test", scenes_root)
    assert list(content) == list(alone) == ["majority_class", "color_classifier"]
    for name, reference in alone.items():
        assert content[name]["miou"] == pytest.approx(reference.miou)
        assert reference.pixels == metrics.count


def test_another_engine_gives_the_same_metrics(make_run, scenes_root):
    folder = make_run(name="hq_unet", grid=2)
    fast = PredictionConfig(overlap=0)
    exact = evaluate_run(folder, data_root=scenes_root, settings=fast)
    aer = evaluate_run(folder, engine=EngineConfig(kind="aer"), data_root=scenes_root, settings=fast)
    assert (exact.counts.matrix == aer.counts.matrix).all()
    content = json.loads((folder / "evaluation/test-aer/metrics.json").read_text())
    assert content["engine"]["kind"] == "aer"
    assert [layer["kind"] for layer in content["quantum_layers"].values()] == ["aer"]


def test_folder_names():
    assert evaluation_folder("run", "val", EngineConfig()).as_posix() == "run/evaluation/val-exact"
    noisy = EngineConfig(kind="aer", shots=100)
    assert evaluation_folder("run", "test", noisy, "last").name == "test-aer-100-shots-last"
    # Two engines on one device leave their results side by side.
    inner = {"backend": "fake_torino", "engine": "aer"}
    routed = EngineConfig(kind="routed", noise="fake_torino", options=inner)
    assert evaluation_folder("run", "test", routed).name == "test-routed-fake_torino-aer"


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        ({"kind": "aer", "options": {"method": "statevector"}}, "test-aer-method=statevector"),
        (
            {"kind": "aer", "shots": 9, "options": {"method": "mps"}},
            "test-aer-9-shots-method=mps",
        ),
        ({"noise": "readout", "layers": ["a.b", "c"]}, "test-exact-readout-in=a.b+c"),
        (
            {"kind": "routed", "options": {"backend": "device", "trials": 2}},
            "test-routed-device-trials=2",
        ),
        (
            {
                "kind": "routed",
                "noise": "fake_fez",
                "options": {
                    "backend": "fake_fez",
                    "layout": "gates",
                    "trials": 4,
                    "options": {"method": "mps"},
                },
            },
            "test-routed-fake_fez-method=mps",
        ),
    ],
)
def test_results_of_other_options_stand_beside_each_other(engine, name):
    assert evaluation_folder("run", "test", EngineConfig.model_validate(engine)).name == name


def test_draws_of_another_seed_stand_beside_those_of_the_recipes():
    def name(**engine):
        return evaluation_folder("run", "test", EngineConfig(**engine), seed=3).name

    assert name(shots=9) == name(shots=9, seed=3) == "test-exact-9-shots"
    assert name(shots=9, seed=4) == "test-exact-9-shots-seed=4"
    assert name(seed=4) == "test-exact"


def test_names_of_options_that_are_no_names_of_files():
    found = [
        evaluation_folder("run", "test", EngineConfig(kind="aer", options={"x": text})).name
        for text in ("a/b", "a\\b", "c" * 300)
    ]
    assert len(set(found)) == 3
    assert all(len(name) == len("test-aer-") + 8 for name in found)


def test_two_noise_files_of_one_name_have_results_of_their_own(tmp_path):
    places = []
    for number, rate in enumerate((0.01, 0.02)):
        file = tmp_path / str(number) / "mine.yaml"
        file.parent.mkdir()
        file.write_text(NoiseProfile.depolarizing(p_1q=rate, p_2q=0.1).model_dump_json())
        places.append(evaluation_folder("run", "test", EngineConfig(noise=str(file))).name)
    assert len(set(places)) == 2
    assert all(re.fullmatch("test-exact-mine-[0-9a-f]{8}", name) for name in places)
    known = profile_files()["readout"]
    assert evaluation_folder("run", "test", EngineConfig(noise=str(known))).name == "test-exact-readout"


def test_results_of_earlier_versions_stay_where_they_are(tmp_path):
    engine = EngineConfig(kind="aer", options={"method": "statevector"})
    old = tmp_path / "evaluation" / "test-aer"
    old.mkdir(parents=True)
    (old / "metrics.json").write_text(json.dumps({"engine": engine.model_dump(mode="json")}))
    assert evaluation_folder(tmp_path, "test", engine) == old
    other = EngineConfig(kind="aer", options={"method": "density_matrix"})
    assert evaluation_folder(tmp_path, "test", other).name == "test-aer-method=density_matrix"


def test_engine_for_a_model_without_circuits(run_folder, scenes_root):
    with pytest.raises(ConfigError, match="no quantum layers"):
        evaluate_run(run_folder, engine=EngineConfig(kind="aer"), data_root=scenes_root)


def test_no_run(tmp_path, scenes_root):
    with pytest.raises(CheckpointError, match="not a run folder"):
        evaluate_run(tmp_path, data_root=scenes_root)


def test_bad_split_and_missing_data_leave_nothing(run_folder, scenes_root, tmp_path):
    with pytest.raises(DataError, match="holiday"):
        evaluate_run(run_folder, "holiday", data_root=scenes_root)
    with pytest.raises(DataError, match="missing"):
        evaluate_run(run_folder, data_root=tmp_path / "nowhere")
    assert not (run_folder / "evaluation").exists()


def test_output_that_is_a_file(run_folder, scenes_root, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="need a folder"):
        evaluate_run(run_folder, data_root=scenes_root, output=tmp_path / "file")


def test_a_split_without_a_label_where_it_has_data_is_told(make_run, scenes_root, tmp_path):
    """All metrics are unknown then: that is said, and a diagnosis refuses."""
    shutil.copytree(scenes_root, tmp_path / "data")
    for file in (tmp_path / "data" / "test" / "masks").iterdir():
        with rasterio.open(file, "r+") as mask:
            mask.write(np.full((1, *mask.shape), 99, np.uint8))
    folder = make_run(name="hq_unet", grid=2, widths=(4, 4, 4, 8, 16))
    with pytest.warns(UserWarning, match=r"no pixel of the scenes has both data and a label .*`test`"):
        found = evaluate_run(folder, data_root=tmp_path / "data")
    assert math.isnan(found["miou"])
    for samples in (None, 4):
        with pytest.raises(DataError, match="split `test` has nothing with a label to diagnose on"):
            diagnose_run(folder, samples=samples, data_root=tmp_path / "data")
